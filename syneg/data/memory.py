"""Make a collection from data in memory: a list of dicts, a pandas DataFrame, or a `datasets.Dataset`.

    collection_of([{"query": "close a socket", "positive": "Call close() …"}, …])      → Collection("rows-5f0c9a12", …)
    collection_of(frame, corpus=[{"_id": "d1", "text": "…"}, …])

Columns are recognised by name as in files (`ColumnNames`). A message on a bad row gives its number, counted from 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from syneg.core.config import CollectionConfig
from syneg.core.errors import DataError
from syneg.core.records import fingerprint
from syneg.core.storage import JsonObject

from .collection import Collection, read_collection
from .columns import ColumnNames
from .pairs import PairsReader
from .read_log import ReadLog
from .tables import Row, read_table, rows_of


class Frame(Protocol):
    """The part of a pandas DataFrame that is used here."""

    columns: Any

    def to_dict(self, orient: str) -> Any: ...


Rows = Iterable[Mapping[str, Any]] | Frame
"""Rows of pairs or passages in memory."""


def collection_of(
    rows: Rows, corpus: Rows | str | Path | None = None, config: CollectionConfig | None = None, seed: int = 0
) -> Collection:
    """Read, check and split rows of pairs. `corpus` is rows of passages, the path of such a file, or None.

    Raises DataError with every problem, like `load_collection`.
    """
    config, log = config or CollectionConfig(), ReadLog()
    pairs = dicts(rows)
    passages: Iterable[Row] | None = None
    if isinstance(corpus, str | Path):
        passages = read_table(Path(corpus).expanduser(), log, config.encoding)
    elif corpus is not None:
        passages = rows_of(dicts(corpus), "corpus", log)
    reader = PairsReader(name_of(pairs), rows_of(pairs, "rows", log), passages, ColumnNames(config.columns), log)
    return read_collection(reader, config, seed)


def name_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """The name of a collection of these rows: rows-HASH."""
    return f"rows-{fingerprint([str(row) for row in rows])[:8]}"


def dicts(rows: Rows) -> list[JsonObject]:
    """Convert rows to a list of dicts. Raises DataError for a value that holds no rows."""
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):
        return [{str(key): value for key, value in row.items()} for row in rows.to_dict(orient="records")]
    if isinstance(rows, Mapping) or not isinstance(rows, Iterable):
        raise DataError(
            f"no rows in a {type(rows).__name__}", todo="give a list of dicts, a DataFrame, or one split of a Dataset"
        )
    return [dict(row) if isinstance(row, Mapping) else row for row in rows]
