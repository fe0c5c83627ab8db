"""Read a folder with files of passages, queries and qrels, in the layout of BEIR, TREC or MS MARCO.

    corpus.jsonl, queries.jsonl, qrels/test.tsv           BEIR
    docs.trec, topics.txt, qrels.txt                      TREC
    collection.tsv, queries.dev.tsv, qrels.dev.small.tsv  MS MARCO: lines "id<TAB>text", and a split in the name

The first part of its name, in any case, says what a file holds. Each file may also be CSV, JSON or Parquet with named
columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from syneg.core.errors import DataError

from .cells import BadCell, grade_cell, id_cell, text_cell
from .columns import QRELS, ColumnNames, no_column
from .encodings import open_text
from .read_log import ReadLog
from .readers import NamesNoNegatives, Qrel, Text
from .splits import SPLIT_NAMES, check_names, split_name
from .tables import Row, is_dead_link, kind_of, read_table
from .trec import read_items, read_judgements

_PASSAGES = ("corpus", "docs", "documents", "collection", "passages")
_QUERIES = ("queries", "topics", "questions")


def _part(path: Path) -> str:
    return re.split(r"[._\-]", path.name.lower())[0]


def _split_part(path: Path) -> str:
    """The part of a name of qrels that names a split: "dev.small" of qrels.dev.small.tsv."""
    name = re.sub(r"\.(gz|csv|tsv|txt|jsonl?|parquet|trec)", "", path.name, flags=re.IGNORECASE)
    return re.sub(r"^qrels[._\-]*", "", name, flags=re.IGNORECASE)


def _shown(folder: Path) -> list[Path]:
    """What a folder holds, without hidden files such as .DS_Store."""
    return [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]


def is_passages(path: Path) -> bool:
    """Whether the name of a file says that it holds passages."""
    return path.is_file() and _part(path) in _PASSAGES


def check_files(folder: Path, *inside: Path) -> None:
    """Raise DataError for the name of a data file, there or `inside`, that is a folder or a link to nothing.

    Its rows would be left out in silence, and a split without a file be cut out of another one.
    """
    for path in (path for each in (folder, *inside) for path in _shown(each)):
        wrong = "is a link to a file that is not there" if is_dead_link(path) else ""
        if wrong or (kind_of(path) and path.is_dir()):
            raise DataError(
                f"{str(path.relative_to(folder))!r} {wrong or 'is a folder'}", where=str(folder),
                todo="put the file there, or remove it",
            )  # fmt: skip


def note_unused(folder: Path, used: Iterable[Path], log: ReadLog) -> None:
    """Note the files of a folder that are not read, save README and LICENSE."""
    files = [path for path in _shown(folder) if path.is_file() and _part(path) not in ("readme", "license")]
    if unused := [path.name for path in files if path not in {*used}]:
        log.notes.append(f"files of {folder.name} not used: {', '.join(unused)}")


def no_rows(path: str) -> DataError:
    """The error for a file of one split that has no rows. Without it, that split would be cut out of another one."""
    return DataError("the file has no rows", where=path, todo="fill it, or remove it")


def has_qrels(folder: Path) -> bool:
    """Whether a folder has a file or a folder named qrels."""
    return any(_part(path) == "qrels" for path in folder.iterdir())


def text_rows(rows: Iterable[Row], columns: ColumnNames, roles: tuple[str, ...], log: ReadLog) -> Iterator[Text]:
    """Yield (id, text) of each good row. `roles` are the role of the id, then the roles whose cells make the text.

    Bad rows go to `log`.
    """
    for where, row in columns.noted(rows, roles, log, ((roles[0],), roles[1:])):
        names = columns.of(row, roles)
        try:
            key = id_cell(row[names[roles[0]][0]]) if roles[0] in names else ""
            texts = [text_cell(row[names[role][0]], role) for role in roles[1:] if role in names]
        except BadCell as error:
            log.problem(where, str(error))
            continue
        text = " ".join(filter(None, texts))
        if key and text:
            yield key, text
        else:
            log.problem(where, f"no text (id {key!r})" if key else f"no id (_id or {roles[0]})")


def qrels_cells(rows: Iterable[Row], columns: ColumnNames) -> Iterator[tuple[str, list[Any]]]:
    """Yield (where, [query_id, doc_id, score]) for each row of a table of qrels. Raises DataError without a column."""
    for where, row in rows:
        names = columns.of(row, QRELS)
        if missing := [role for role in QRELS if role not in names]:
            raise no_column(missing, row, where)
        yield where, [row[names[role][0]] for role in QRELS]


def judged_rows(rows: Iterable[tuple[str, list[Any]]], split: str, log: ReadLog) -> Iterator[Qrel]:
    """Yield a Qrel for each good row (file:line, [query id, document id, grade]). Bad rows go to `log`."""
    for where, cells in rows:
        try:
            query_id, doc_id, grade = id_cell(cells[0]), id_cell(cells[1]), grade_cell(cells[2], "score")
        except BadCell as error:
            log.problem(where, str(error))
            continue
        yield Qrel(split, query_id, doc_id, grade, where)


class FolderReader(NamesNoNegatives):
    """Reads one folder. Raises DataError if passages, queries or qrels are missing."""

    published = False

    def __init__(self, folder: Path, columns: ColumnNames, encoding: str) -> None:
        self.folder, self.name, self.log = folder, folder.name, ReadLog()
        self._columns, self._encoding = columns, encoding
        paths = _shown(folder)
        self._corpus = [path for path in paths if path.is_file() and _part(path) in _PASSAGES]
        self._topics = [path for path in paths if path.is_file() and _part(path) in _QUERIES]
        inside = [path for path in paths if path.is_dir() and _part(path) == "qrels"]
        self._qrels = [path for path in paths if path.is_file() and _part(path) == "qrels"]
        self._qrels += [path for folder in inside for path in _shown(folder) if path.is_file()]
        check_files(folder, *inside)
        kinds = {"corpus.jsonl": self._corpus, "queries.jsonl": self._topics, "qrels/*.tsv": self._qrels}
        if missing := [name for name, files in kinds.items() if not files]:
            raise DataError(
                f"not a BEIR folder: {', '.join(missing)} missing",
                where=str(folder),
                todo="use these names, or give pairs as train.jsonl, validation.jsonl and test.jsonl",
            )
        for what, files in (("passages", self._corpus), ("queries", self._topics)):
            if len(files) > 1:
                self.log.notes.append(f"{what} are read from {len(files)} files: {', '.join(p.name for p in files)}")
        note_unused(folder, [*self._corpus, *self._topics, *self._qrels], self.log)
        check_names(map(_split_part, self._qrels), self.name)
        self._splits = {path: self._split_of(path, bool(inside)) for path in self._qrels}

    def _split_of(self, path: Path, in_folder: bool) -> str:
        """The split in a file name: "dev" for qrels/dev.tsv and qrels.dev.small.tsv, "" for a lone qrels.robust04.txt.

        Raises DataError for a name that is no split, if there are several files of qrels.
        """
        name = _split_part(path)
        if len(self._qrels) == 1 and not in_folder and name.split(".")[0].casefold() not in SPLIT_NAMES:
            return ""
        return split_name(name, self._label(path))

    def _label(self, path: Path) -> str:
        return str(path.relative_to(self.folder))

    def passages(self) -> Iterator[Text]:
        return self._texts(self._corpus, ("doc_id", "title", "text"), topics=False)

    def queries(self) -> Iterator[Text]:
        return self._texts(self._topics, ("query_id", "text"), topics=True)

    def _texts(self, paths: list[Path], roles: tuple[str, ...], *, topics: bool) -> Iterator[Text]:
        for path in paths:
            if not self._has_header(path):
                for where, key, text in read_items(path, self.log, self._encoding, topics=topics):
                    if text:
                        yield key, text
                    else:
                        self.log.problem(where, f"no text (id {key!r})")
                continue
            yield from text_rows(read_table(path, self.log, self._encoding), self._columns, roles, self.log)

    def _has_header(self, path: Path) -> bool:
        kind = kind_of(path)
        if kind not in (".csv", ".tsv"):
            return bool(kind)
        with open_text(path, self._encoding) as file:
            first = next((line for line in file if line.strip()), "")
        names = [name.strip(' "\r\n') for name in re.split(r"[\t,;|]", first)]
        return (
            len(self._columns.of(names, ("doc_id", "text"))) == 2
            or len(self._columns.of(names, ("query_id", "text"))) == 2
        )

    def qrels(self) -> Iterator[Qrel]:
        for path in self._qrels:
            rows = read_judgements(path, self.log, self._encoding, self._label(path))
            yield from judged_rows(self._named(path) if rows is None else rows, self._splits[path], self.log)
            if not self.log.has_rows(self._label(path)):
                raise no_rows(self._label(path))
        self._columns.check()

    def _named(self, path: Path) -> Iterator[tuple[str, list[Any]]]:
        if not kind_of(path):
            with open_text(path, self._encoding) as file:
                first = next((line for line in file if line.strip()), "").strip()
            raise DataError(
                f"the qrels do not have 4 columns, but {len(first.split())}: {first[:60]!r}", where=self._label(path),
                todo="write query id, 0, document id, grade",
            )  # fmt: skip
        yield from qrels_cells(read_table(path, self.log, self._encoding, self._label(path)), self._columns)
