"""Negatives from a file, checked by the same gates: `--given negatives.jsonl`.

    {"query_id": "1156", "text": "Fidelity of educator delivery …", "program": "multi_attribute", "domain":
    "endocrinology"}
      → Draft(pair, HardNegative("Fidelity …", program="multi_attribute", attributes={"domain": …}), GateVerdict(""))

Each line is one JSON object. Without a `query_id`, a row is matched by the text of its `query`. The passage is in
`text` or `hard_negative`. `program`, `lm`, `reasoning` and `parent_doc_id` are optional; every other field that holds a
text is an attribute. Rows of queries that are not trained on are left out, and so are rows that a run rejected
(`"accepted": false`). So negatives.jsonl of another run, or of a shard, can be given unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from syneg.core.records import Draft, HardNegative, Pair
from syneg.core.text import normalise, plain_text

from .gating import Gating
from .given_rows import given_rows

_OWN = ("query_id", "query", "text", "hard_negative", "program", "lm", "reasoning", "parent_doc_id")


def given_negatives(
    path: Path, pairs: Sequence[Pair], gating: Gating, wanted: Callable[[str], bool], max_bad_rows: float
) -> tuple[list[Draft], list[str]]:
    """Read the negatives of the programs that are `wanted`, and apply the gates on text.

    Returns the drafts in the order of the pairs, and one line for each row that was skipped, with the reason. Raises
    DataError if the file cannot be read, or if more than `max_bad_rows` of its rows (a share, 0 to 1) are bad.
    """
    by_id = {pair.query_id: pair for pair in pairs}
    by_text = {normalise(pair.query): pair.query_id for pair in pairs}
    rows, problems = given_rows(path, ("negatives", "check --given"), lambda row: _negative(row, by_text), max_bad_rows)
    negatives: dict[str, list[HardNegative]] = {}
    for query_id, negative in rows:
        if query_id in by_id and negative and wanted(negative.program):
            negatives.setdefault(query_id, []).append(negative)
    drafts = [draft for pair in by_id.values() for draft in gating.on_text(pair, negatives.get(pair.query_id, ()))]
    return drafts, problems


def _negative(row: Mapping[str, Any], by_text: Mapping[str, str]) -> tuple[str, HardNegative | None]:
    """The query id and the negative of one row; None for a row that its run rejected.

    Raises ValueError for a row without text or query.
    """
    if row.get("accepted") is False:
        return "", None
    text = row.get("text") or row.get("hard_negative")
    if not isinstance(text, str) or not text.strip():
        raise ValueError("no text (as `text` or `hard_negative`)")
    query_id = row.get("query_id")
    if query_id is None and isinstance(row.get("query"), str):
        query_id = by_text.get(normalise(row["query"]), "")
    if not isinstance(query_id, (str, int)):
        raise ValueError("no query_id, and no query")
    own = row["attributes"] if isinstance(row.get("attributes"), dict) else row
    parent = row.get("parent_doc_id")
    return str(query_id), HardNegative(
        text=" ".join(plain_text(text).split()), program=str(row.get("program") or "given"),
        reasoning=str(row.get("reasoning") or ""),
        attributes={k: v for k, v in own.items() if k not in _OWN and isinstance(v, str)},
        parent_doc_id=str(parent) if parent else None, lm=str(row.get("lm") or "given"), finish_reason="stop", usd=0.0,
    )  # fmt: skip
