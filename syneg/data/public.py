"""Open a published collection: `python-docs`, an id of ir_datasets, or a data set of the Hugging Face hub.

    open_public("beir/scifact", ColumnNames()) → IrDatasets: train from beir/scifact/train, test from beir/scifact/test

An id of ir_datasets needs docs, queries and qrels. `split_tables` reads data sets of the hub.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from syneg.core.errors import DataError, nearest, one_line

from .columns import ColumnNames
from .python_docs import SMALL, read_python_docs
from .read_log import ReadLog
from .readers import NamesNoNegatives, Qrel, Reader, Text
from .split_tables import may_be_on_hub, open_hub
from .splits import SPLIT_NAMES


def open_public(dataset: str, columns: ColumnNames) -> Reader:
    """Choose the reader for a name that is no path. Raises DataError for an unknown name."""
    if dataset in PythonDocs.names:
        columns.check()
        return PythonDocs(dataset)
    import ir_datasets

    known = [key for key, _ in ir_datasets.registry._registered.items()]
    if may_be_on_hub(dataset) and dataset.split("/")[0] not in {key.split("/")[0] for key in known}:
        return open_hub(dataset, columns)
    columns.check()
    return IrDatasets(dataset)


def _hint(name: str, known: list[str]) -> str:
    hint = nearest(name, known)
    near = "/" in name or name in hint
    return hint if near and not hint.startswith("known") else "check the path, or see https://ir-datasets.com for names"


class PythonDocs(NamesNoNegatives):
    """Reads `python-docs` or `python-docs-small` (see the module `python_docs`)."""

    names = ("python-docs", "python-docs-small")
    published = True

    def __init__(self, name: str) -> None:
        self.name, self.log = name, ReadLog()
        packages = SMALL if name.endswith("-small") else ()
        self._passages, self._queries, self._qrels = read_python_docs(packages=packages)

    def passages(self) -> Iterator[Text]:
        return iter(self._passages.items())

    def queries(self) -> Iterator[Text]:
        return iter(self._queries.items())

    def qrels(self) -> Iterator[Qrel]:
        for query_id, docs in self._qrels.items():
            for doc_id, relevance in docs.items():
                yield Qrel("", query_id, doc_id, relevance, f"{self.name}:{query_id}")


class IrDatasets(NamesNoNegatives):
    """Reads an id of ir_datasets. Its subsets `id/train`, `id/dev`, `id/test` and similar become splits.

    Raises DataError for an unknown id, or one without docs, queries or qrels.
    """

    published = True

    def __init__(self, name: str) -> None:
        import ir_datasets

        logging.getLogger("ir_datasets").disabled = True  # it only logs progress; failures are exceptions
        self.name, self.log = name, ReadLog()
        known = {key for key, _ in ir_datasets.registry._registered.items()}
        try:
            self._docs = ir_datasets.load(name)
        except KeyError:
            raise DataError(
                f"unknown dataset {name!r}: no file, folder or published collection has this name",
                todo=_hint(name, [*PythonDocs.names, *sorted(known)]),
            ) from None
        if not self._docs.has_docs():
            raise DataError(f"dataset {name!r} has no passages", todo="name one that has docs, queries and qrels")
        self._parts: list[tuple[str, Any]] = []
        for suffix in SPLIT_NAMES:
            if f"{name}/{suffix}" in known:
                part = ir_datasets.load(f"{name}/{suffix}")
                if part.has_queries() and part.has_qrels():
                    self._parts.append((suffix, part))
        if not self._parts:
            if not (self._docs.has_queries() and self._docs.has_qrels()):
                raise DataError(f"dataset {name!r} has no queries with qrels", todo="name a subset that has both")
            last = name.rsplit("/", 1)[-1]
            # BEIR's sets without subsets (ArguAna, SCIDOCS, …) have only test queries
            split = last if last in SPLIT_NAMES else "test" if name.startswith("beir/") else ""
            self._parts = [(split, self._docs)]

    def _stream(self, part: Any, what: str) -> Iterator[Any]:
        try:
            for row in getattr(part, f"{what}_iter")():
                self.log.row(f"{self.name} {what}")
                yield row
        except (OSError, RuntimeError) as error:  # requests' errors are OSErrors
            raise DataError(
                f"cannot load {what} of {self.name!r}: {one_line(error)}",
                todo="check the network, or set IR_DATASETS_HOME to a folder with a copy of the set",
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

    def qrels(self) -> Iterator[Qrel]:
        for split, part in self._parts:
            for number, row in enumerate(self._stream(part, "qrels"), 1):
                yield Qrel(split, row.query_id, row.doc_id, row.relevance, f"{self.name} qrels:{number}")
