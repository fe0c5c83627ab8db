"""The interface of a reader: three streams from one source, and a log of the rows that it left out.

    PairsReader.from_files(pairs.csv, docs.jsonl, …)
      passages()  ("12", "Aspirin Aspirin is …"), …
      queries()   ("3", "what is aspirin"), …
      qrels()     Qrel("test", "3", "12", 1.0, "pairs.csv:2"), …

A reader does not raise for a bad row. It logs "file:line what is wrong" and goes on; the collection raises if there are
too many. `split` is the name in the source, or "".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from .read_log import ReadLog

Text = tuple[str, str]


class Qrel(NamedTuple):
    """One judgement. A relevance of 0 or less means "judged not relevant". `where` is file:line."""

    split: str
    query_id: str
    doc_id: str
    relevance: float
    where: str


class Reader(Protocol):
    """A source of a collection.

    `published` marks a data set of others: users cannot correct it, and its test queries are never trained on.
    """

    name: str
    published: bool
    log: ReadLog

    def passages(self) -> Iterator[Text]:
        """Yield (doc_id, text) in a fixed order."""

    def queries(self) -> Iterator[Text]:
        """Yield (query_id, text) in a fixed order."""

    def qrels(self) -> Iterator[Qrel]:
        """Yield the qrels of all splits."""

    def negatives(self) -> Mapping[str, tuple[str, ...]]:
        """For each query the ids of the passages that the source names as its negatives; queries may be missing."""

    def never_mined(self) -> Mapping[str, frozenset[str]]:
        """For each query the ids of passages that are neither positives nor negatives, such as pieces of a positive."""


class NamesNoNegatives:
    """A reader whose source names no negatives."""

    def negatives(self) -> Mapping[str, tuple[str, ...]]:
        """None for any query."""
        return {}

    def never_mined(self) -> Mapping[str, frozenset[str]]:
        """None for any query."""
        return {}
