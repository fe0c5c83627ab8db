"""Compute mean tokens, seconds and retries of LM calls, by use and model, from the ledger of a run folder.

    rates = Rates.of(read_rows(folder.ledger))
    rates.find("write multi_attribute", "openai/gpt-4o-mini")
      → Rate(calls=52, calls_each=1.3, reads=610.0, writes=140.0, …)

Every call in the ledger counts with its tokens, failed calls included. Memory is bounded: for a use with more than
4,096 queries, calls per query are counted over a sample that a hash of the query ids draws.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_ENOUGH = 4  # fewest calls whose mean is used
_SAMPLE = 4096  # most queries of a use whose calls are counted


@dataclass(frozen=True)
class Rate:
    """Means over the `calls` of one use: tokens that a call reads and writes, and its seconds.

    `calls_each` is the mean number of calls for one query, including retries, later steps and repeated attempts.
    """

    calls: int
    calls_each: float
    reads: float
    writes: float
    seconds: float


@dataclass
class _Sums:
    calls: int = 0
    reads: int = 0
    writes: int = 0
    seconds: float = 0.0
    asked: dict[str, int] = field(default_factory=dict)  # query_id → calls, for the queries in the sample
    rarity: int = 1  # one in `rarity` queries is in the sample; a power of two

    def add(self, row: Mapping[str, Any]) -> None:
        self.calls += 1
        self.reads += int(row["input_tokens"])
        self.writes += int(row["output_tokens"])
        self.seconds += float(row["seconds"])
        query_id = str(row["query_id"])
        if not zlib.crc32(query_id.encode()) % self.rarity:
            self.asked[query_id] = self.asked.get(query_id, 0) + 1
            if len(self.asked) > _SAMPLE:
                self.rarity *= 2
                self.asked = {name: n for name, n in self.asked.items() if not zlib.crc32(name.encode()) % self.rarity}

    @property
    def calls_each(self) -> float:
        return sum(self.asked.values()) / len(self.asked) if self.asked else 1.0


class Rates:
    """Mean tokens, seconds and calls per query, by use and model."""

    def __init__(self, sums: Mapping[tuple[str, str], _Sums]) -> None:
        self._sums = sums

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> Rates:
        """Sum the rows of a ledger in one pass. Calls answered through batch files have 0 seconds."""
        sums: dict[tuple[str, str], _Sums] = {}
        for row in rows:
            if row.get("stopped"):
                continue  # the budget stopped it before the call
            model = str(row["model"]).partition("@")[0]
            sums.setdefault((str(row.get("use", "")), model), _Sums()).add(row)
        return cls(sums)

    def calls(self, use: str, model: str) -> int:
        """Number of calls of `model` so far for a use; 0 if there are none."""
        sums = self._sums.get((use, model))
        return sums.calls if sums else 0

    def find(self, use: str, model: str) -> Rate | None:
        """The rate of a use; None if it has fewer than 4 calls."""
        sums = self._sums.get((use, model))
        if sums is None or sums.calls < _ENOUGH:
            return None
        n = sums.calls
        return Rate(n, sums.calls_each, sums.reads / n, sums.writes / n, sums.seconds / n)

    def seconds_per_token(self, model: str) -> float | None:
        """Seconds per token that an LM writes, over all its uses; None if no call was timed."""
        own = [sums for (_, name), sums in self._sums.items() if name == model and sums.seconds]
        written = sum(sums.writes for sums in own)
        return sum(sums.seconds for sums in own) / written if written else None
