"""Readers: where a collection comes from. All give the same three streams and log what they had to leave out.

    PairsReader of pairs.csv and docs.jsonl
      passages()  ("12", "Aspirin Aspirin is …"), …
      queries()   ("3", "what is aspirin"), …
      qrels()     Qrel("test", "3", "12", 1.0, "pairs.csv:2"), …

A reader never raises for one bad row: it notes "file:line what is wrong" and goes on; the collection decides whether
there were too many. `split` is the name in the source, "" where it has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from .read_log import ReadLog

Text = tuple[str, str]


class Qrel(NamedTuple):
    """One line of qrels: a relevance of 0 and below is a passage judged not relevant. `where` is file:line."""

    split: str
    query_id: str
    doc_id: str
    relevance: float
    where: str


class Reader(Protocol):
    """What a collection needs of its source. `published` sets cannot be mended, and their test queries are not trained
    on."""

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
        """For each query the ids of the passages that the source names as its negatives."""

    def never_mined(self) -> Mapping[str, frozenset[str]]:
        """For each query the ids of passages that are neither relevant nor negatives: pieces of its positives."""
