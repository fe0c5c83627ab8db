"""The rows of mined.jsonl: one mined negative a line.

{"query_id": "80", "doc_id": "4920376", "text": "…", "source": "dense", "rank": 4, "score": 0.41}
  → {"80": [MinedNegative("4920376", "…", "dense", 4, 0.41), …], …}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from syneg.core.records import MinedNegative
from syneg.core.storage import read_rows, write_rows


def write_mined(path: Path, mined: Mapping[str, Sequence[MinedNegative]]) -> int:
    """Write the negatives of each query, in their order. Return the number of rows."""
    rows = [{"query_id": query_id, **asdict(negative)} for query_id, own in mined.items() for negative in own]
    write_rows(path, rows)
    return len(rows)


def read_mined(path: Path) -> dict[str, list[MinedNegative]]:
    """Read query_id → negatives, in the order of the rows. Queries without negatives are missing."""
    mined: dict[str, list[MinedNegative]] = {}
    for row in read_rows(path):
        mined.setdefault(row.pop("query_id"), []).append(MinedNegative(**row))
    return mined
