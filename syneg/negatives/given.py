"""Negatives from a file, checked by the same gates: `--given negatives.jsonl`.

    {"query_id": "1156", "text": "Fidelity of educator delivery …", "program": "multi_attribute", "domain":
    "endocrinology"}
      → Draft(pair, HardNegative("Fidelity …", program="multi_attribute", attributes={"domain": …}), GateVerdict(""))

Each line is one JSON object. Without a `query_id`, a row is matched by the text of its `query`. The passage is in
`text` or `hard_negative`. `program`, `lm`, `reasoning` and `parent_doc_id` are optional; every other field that holds a
text is an attribute. Rows of queries that are not trained on are left out, and so are rows that a run rejected
(`"accepted": false`). So negatives.jsonl of another run, or of a shard, can be given unchanged. Rows of queries that
the collection does not have are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from syneg.core.counts import counted
from syneg.core.records import Draft, HardNegative, Pair
from syneg.core.text import normalise, plain_text
from syneg.data.cells import known_id

from .gating import Gating
from .given_rows import given_rows, id_of, not_used

_OWN = ("query_id", "query", "text", "hard_negative", "program", "lm", "reasoning", "parent_doc_id")


class Queries:
    """The queries of a collection, to find that of a row. Of equal texts, one of `pairs` is found."""

    def __init__(self, queries: Mapping[str, str], pairs: Sequence[Pair]) -> None:
        self.texts, self._pairs = queries, pairs

    def id_of(self, row: Mapping[str, Any]) -> str:
        """The id of the query that a row names by id or by text, or what it names, if the collection does not have it.

        Raises ValueError for a row that names none.
        """
        query = row.get("query")
        if row.get("query_id") is not None:
            return known_id(id_of(row, "query_id"), self.texts)
        if not isinstance(query, str) or not query.strip():
            raise ValueError("no query_id, and no query")
        return self._by_text.get(normalise(query), query)

    @cached_property
    def _by_text(self) -> dict[str, str]:
        own = {normalise(pair.query): pair.query_id for pair in self._pairs}
        return {normalise(text): query_id for query_id, text in self.texts.items()} | own


def given_negatives(
    path: Path, pairs: Sequence[Pair], gating: Gating, wanted: Callable[[str], bool], max_bad: float,
    queries: Mapping[str, str],
) -> tuple[list[Draft], list[str]]:  # fmt: skip
    """Read the negatives of the programs that are `wanted`, and apply the gates on text.

    `queries` are those of the collection. Returns the drafts in the order of the pairs, and notes on rows that were
    left out. Raises DataError if the file cannot be read, or if more than `max_bad` of its rows (a share, 0 to 1) are
    bad.
    """
    by_id, known = {pair.query_id: pair for pair in pairs}, Queries(queries, pairs)
    rows, problems = given_rows(path, ("negatives", "check --given"), lambda row: _negative(row, known), max_bad)
    negatives: dict[str, list[HardNegative]] = {}
    foreign: list[tuple[str, str]] = []
    for query_id, negative in filter(None, rows):
        if query_id not in queries:
            foreign.append(("query", query_id))
        elif query_id in by_id and wanted(negative.program):
            negatives.setdefault(query_id, []).append(negative)
    drafts = [draft for pair in by_id.values() for draft in gating.on_text(pair, negatives.get(pair.query_id, ()))]
    notes = not_used(foreign, {"query": queries}, "row")
    if problems:
        notes.append(f"{counted(len(problems), 'row')} skipped, such as: {problems[0]}")
    return drafts, notes


def _negative(row: Mapping[str, Any], queries: Queries) -> tuple[str, HardNegative] | None:
    """The query id and the negative of one row; None for a row that its run rejected.

    Raises ValueError for a row without text or query.
    """
    accepted = row.get("accepted")
    if not isinstance(accepted, bool | None):
        raise ValueError(f"accepted is {accepted!r}, not true or false")
    if accepted is False:
        return None
    text = row.get("text") or row.get("hard_negative")
    if not isinstance(text, str) or not text.strip():
        raise ValueError("no text (as `text` or `hard_negative`)")
    own = row["attributes"] if isinstance(row.get("attributes"), dict) else row
    parent = row.get("parent_doc_id")
    return queries.id_of(row), HardNegative(
        text=" ".join(plain_text(text).split()), program=str(row.get("program") or "given"),
        reasoning=str(row.get("reasoning") or ""),
        attributes={k: v for k, v in own.items() if k not in _OWN and isinstance(v, str)},
        parent_doc_id=str(parent) if parent else None, lm=str(row.get("lm") or "given"), finish_reason="stop", usd=0.0,
    )  # fmt: skip
