"""Readers: where a collection comes from. All give the same three streams and note what they had to skip.

    {"_id": "12", "title": "Aspirin", "text": "Aspirin is …"}     corpus.jsonl of a BEIR folder
      →  passages():  ("12", "Aspirin Aspirin is …")
    query-id  corpus-id  score                                    qrels/test.tsv
      →  qrels():     Judgement("test", "3", "12", 1, "qrels/test.tsv:2")

A reader never raises for one bad row: it appends "file:line what is wrong" to `problems` and goes on; the collection
decides whether there were too many. `split` is "" for a set that has no splits of its own.
"""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from syneg.core.errors import DataError
from syneg.core.records import SPLITS
from syneg.core.text import normalise

from .python_docs import SMALL, read_python_docs

Text = tuple[str, str]


class Judgement(NamedTuple):
    """One line of qrels: relevance 0 and below is a judged non-relevant passage."""

    split: str
    query_id: str
    doc_id: str
    relevance: int
    where: str


class Reader(Protocol):
    """What a collection needs of its source."""

    name: str
    published: bool
    problems: list[str]

    def passages(self) -> Iterator[Text]:
        """Yield (doc_id, text) in a fixed order."""

    def queries(self) -> Iterator[Text]:
        """Yield (query_id, text) in a fixed order."""

    def qrels(self) -> Iterator[Judgement]:
        """Yield all judgements of all splits."""


class PythonDocs:
    """The embedded collection, see `pydocs`."""

    names = ("python-docs", "python-docs-small")
    published = True

    def __init__(self, name: str) -> None:
        self.name, self.problems = name, list[str]()
        packages = SMALL if name.endswith("-small") else ()
        self._passages, self._queries, self._qrels = read_python_docs(packages=packages)

    def passages(self) -> Iterator[Text]:
        return iter(self._passages.items())

    def queries(self) -> Iterator[Text]:
        return iter(self._queries.items())

    def qrels(self) -> Iterator[Judgement]:
        for query_id, docs in self._qrels.items():
            for doc_id, relevance in docs.items():
                yield Judgement("", query_id, doc_id, relevance, query_id)


class IrDatasets:
    """Any id of ir_datasets that has docs, queries and qrels; `id/train`, `id/dev`, `id/test` become splits."""

    published = True

    def __init__(self, name: str) -> None:
        import ir_datasets

        logging.getLogger("ir_datasets").disabled = True  # it writes progress to stderr; failures come as exceptions
        self.name = name
        self.problems: list[str] = []
        known = {key for key, _ in ir_datasets.registry._registered.items()}
        try:
            self._docs = ir_datasets.load(name)
        except KeyError:
            from syneg.core.errors import nearest

            raise DataError(f"unknown dataset {name!r}", todo=nearest(name, ["python-docs", *sorted(known)])) from None
        if not self._docs.has_docs():
            raise DataError(f"dataset {name!r} has no passages", todo="name one that has docs, queries and qrels")
        self._parts: list[tuple[str, Any]] = []
        for suffix, split in (("train", "train"), ("dev", "dev"), ("validation", "dev"), ("test", "test")):
            if f"{name}/{suffix}" in known:
                part = ir_datasets.load(f"{name}/{suffix}")
                if part.has_queries() and part.has_qrels() and split not in dict(self._parts):
                    self._parts.append((split, part))
        if not self._parts:
            if not (self._docs.has_queries() and self._docs.has_qrels()):
                raise DataError(f"dataset {name!r} has no queries with qrels", todo="name a subset that has both")
            last = name.rsplit("/", 1)[-1]
            self._parts = [("test" if last == "test" else "", self._docs)]

    def _stream(self, part: Any, what: str) -> Iterator[Any]:
        try:
            yield from getattr(part, f"{what}_iter")()
        except (OSError, RuntimeError) as error:  # requests' errors are OSErrors
            raise DataError(
                f"cannot load {what} of {self.name!r}: {error}",
                todo="check the network, or set IR_DATASETS_HOME to a folder that already holds the set",
            ) from error

    def passages(self) -> Iterator[Text]:
        for doc in self._stream(self._docs, "docs"):
            yield doc.doc_id, doc.default_text()

    def queries(self) -> Iterator[Text]:
        seen: set[str] = set()
        for _, part in self._parts:
            for query in self._stream(part, "queries"):
                if query.query_id not in seen:
                    seen.add(query.query_id)
                    yield query.query_id, query.default_text()

    def qrels(self) -> Iterator[Judgement]:
        for split, part in self._parts:
            for row in self._stream(part, "qrels"):
                yield Judgement(split, row.query_id, row.doc_id, row.relevance, f"{self.name} qrels")


class _Files:
    """Line-wise reading with the file and line number of whatever is wrong."""

    published = False

    def __init__(self) -> None:
        self.problems: list[str] = []

    def rows(self, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (file:line, row) of a .jsonl, .csv or .tsv file; bad lines go to `problems`."""
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                if path.suffix == ".jsonl":
                    yield from self._jsonl(path, file)
                elif path.suffix in (".csv", ".tsv"):
                    yield from self._csv(path, file)
                else:
                    raise DataError(
                        f"cannot read {path.name!r}", where=str(path), todo="give a .jsonl, .csv or .tsv file"
                    )
        except OSError as error:
            raise DataError(
                f"cannot read the file: {error.strerror}", where=str(path), todo="check the path"
            ) from error
        except UnicodeDecodeError as error:
            raise DataError(
                f"not UTF-8 text at byte {error.start}", where=str(path), todo="convert it to UTF-8"
            ) from error

    def _jsonl(self, path: Path, file: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{path.name}:{number}"
            try:
                row = json.loads(line)
            except (json.JSONDecodeError, RecursionError) as error:
                self.problems.append(f"{where} not valid JSON: {error}")
                continue
            if isinstance(row, dict):
                yield where, row
            else:
                self.problems.append(f"{where} is not a JSON object")

    def _csv(self, path: Path, file: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        reader = csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
        try:
            for row in reader:
                where = f"{path.name}:{reader.line_num}"
                if None in row or None in row.values():
                    self.problems.append(f"{where} has not as many fields as the header")
                else:
                    yield where, row
        except csv.Error as error:
            self.problems.append(f"{path.name}:{reader.line_num} not valid CSV: {error}")

    def texts(self, path: Path, id_keys: tuple[str, ...]) -> Iterator[Text]:
        """Yield (id, title + text) of rows; a row without either goes to `problems`."""
        for where, row in self.rows(path):
            key = next((str(row[k]) for k in id_keys if row.get(k) not in (None, "")), None)
            text = " ".join(str(row.get(k) or "") for k in ("title", "text")).strip()
            if key is None or not text:
                missing = f"no id ({' or '.join(id_keys)})" if key is None else f"no text (id {key!r})"
                self.problems.append(f"{where} {missing}")
            else:
                yield key, text


class BeirFolder(_Files):
    """`corpus.jsonl`, `queries.jsonl` and `qrels/{train,dev,test}.tsv`."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.name = folder, folder.name
        self._qrels = sorted((folder / "qrels").glob("*.tsv"))
        missing = [name for name in ("corpus.jsonl", "queries.jsonl") if not (folder / name).is_file()]
        if not self._qrels:
            missing.append("qrels/*.tsv")
        if missing:
            raise DataError(f"not a BEIR folder: {', '.join(missing)} missing", where=str(folder))

    def passages(self) -> Iterator[Text]:
        return self.texts(self.folder / "corpus.jsonl", ("_id", "doc_id"))

    def queries(self) -> Iterator[Text]:
        return self.texts(self.folder / "queries.jsonl", ("_id", "query_id"))

    def qrels(self) -> Iterator[Judgement]:
        for path in self._qrels:
            split = {"validation": "dev", "valid": "dev"}.get(path.stem, path.stem)
            for where, row in self.rows(path):
                try:
                    relevance = int(float(row["score"]))
                    ids = row["query-id"], row["corpus-id"]
                except KeyError as error:
                    raise DataError(
                        f"no column {error}", where=where, todo="columns: query-id, corpus-id, score"
                    ) from None
                except (ValueError, OverflowError):
                    self.problems.append(f"{where} score {row['score']!r} is not a number")
                    continue
                yield Judgement(split if split in SPLITS else "", *ids, relevance, f"qrels/{where}")


class PairsFile(_Files):
    """Your own pairs: `query` and `positive` columns, optional `query_id` and `doc_id`, and a corpus file or none.

    Rows with the same query (id, or text where no id is given) are one query with several positives. A positive is
    found in the corpus by its id or its text; one that is not there is added to it.
    """

    def __init__(self, path: Path, corpus: Path | None = None) -> None:
        super().__init__()
        self.name = path.stem
        self._passages: dict[str, str] = {}
        self._queries: dict[str, str] = {}
        self._qrels: list[Judgement] = []
        if corpus is not None:
            for doc_id, text in self.texts(corpus, ("doc_id", "_id", "id")):
                self._passages.setdefault(doc_id, text)
        doc_of_text = {normalise(text): doc_id for doc_id, text in self._passages.items()}
        query_of_text: dict[str, str] = {}
        for where, row in self.rows(path):
            absent = [name for name in ("query", "positive") if name not in row]
            if absent:
                raise DataError(
                    f"no column {' and '.join(map(repr, absent))}",
                    where=where,
                    todo="name the columns query and positive",
                )
            query, positive = str(row["query"] or "").strip(), str(row["positive"] or "").strip()
            if not query or not positive:
                self.problems.append(f"{where} empty {'query' if not query else 'positive'}")
                continue
            line = where.rsplit(":", 1)[-1]
            query_id = str(row.get("query_id") or query_of_text.setdefault(normalise(query), f"q{line}"))
            doc_id = str(row.get("doc_id") or doc_of_text.setdefault(normalise(positive), f"p{line}"))
            self._queries.setdefault(query_id, query)
            self._passages.setdefault(doc_id, positive)
            split = str(row.get("split") or "")
            self._qrels.append(Judgement(split if split in SPLITS else "", query_id, doc_id, 1, where))

    def passages(self) -> Iterator[Text]:
        return iter(self._passages.items())

    def queries(self) -> Iterator[Text]:
        return iter(self._queries.items())

    def qrels(self) -> Iterator[Judgement]:
        return iter(self._qrels)


def open_reader(dataset: str, corpus: str | None = None) -> Reader:
    """Choose a reader by what `dataset` is: `python-docs`, a folder, a file, else an ir_datasets id."""
    path = Path(dataset).expanduser()
    if corpus is not None and not path.is_file():
        raise DataError(f"collection.corpus goes with a file of pairs, not with {dataset!r}", todo="leave it out")
    if dataset in PythonDocs.names:
        return PythonDocs(dataset)
    if path.is_dir():
        return BeirFolder(path)
    if path.is_file():
        return PairsFile(path, Path(corpus).expanduser() if corpus else None)
    if path.suffix in (".csv", ".tsv", ".jsonl") or dataset.startswith((".", "/", "~")):
        raise DataError(f"no such file or folder: {dataset!r}", todo="check the path")
    return IrDatasets(dataset)
