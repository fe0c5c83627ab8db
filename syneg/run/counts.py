"""Count a set of synthetic negatives, for the manifest and the verdict.

summary(assignment, drafts, ledger, "openai/gpt-4o-mini@default")
  → Generation(program="multi_attribute", written=120, accepted=71, reasons={"copies a positive": 31, …},
               coverage={"domain": {"oncology": (14, 9), …}, …}, …)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from syneg.core.records import Draft
from syneg.llm.ledger import Ledger
from syneg.negatives.assignment import Assignment
from syneg.verdict.records import Generation


def summary(assignment: Assignment, drafts: Sequence[Draft], ledger: Ledger, lm: str) -> Generation:
    """Count the negatives of `drafts`, with reasons of rejection, tokens, US dollars and seconds of their LM calls.

    `usd` is None if a price is unknown. `coverage` is {} for given negatives, because no attributes were asked for.
    """
    accepted = [draft for draft in drafts if draft.accepted]
    prices = [draft.negative.usd for draft in drafts]
    keys = {key for draft in drafts for key in draft.negative.calls}
    seconds = sum(row["seconds"] for key in keys if (row := ledger.find(key)) is not None)
    return Generation(
        program=assignment.name, lm=lm, pairs=len(assignment.pairs), written=len(drafts), accepted=len(accepted),
        covered=len({draft.pair.query_id for draft in accepted}),
        reasons=dict(Counter(draft.verdict.reason for draft in drafts if not draft.accepted).most_common()),
        input_tokens=sum(draft.negative.input_tokens for draft in drafts),
        output_tokens=sum(draft.negative.output_tokens for draft in drafts),
        usd=None if None in prices else sum(price or 0.0 for price in prices),
        calls=len(keys), call_seconds=round(seconds, 1),
        coverage=_coverage(assignment, drafts) if assignment.program else {},
    )  # fmt: skip


def _coverage(assignment: Assignment, drafts: Sequence[Draft]) -> dict[str, dict[str, tuple[int, int]]]:
    """Return attribute → value → (wanted, accepted), for the attributes that the program uses."""
    used = {key for draft in drafts if draft.negative.text for key in draft.negative.attributes}
    wanted, accepted = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for place in range(len(assignment.pairs)):
        wanted.update(item for attributes in assignment.attributes(place) for item in attributes.items())
    for draft in drafts:
        accepted.update(draft.negative.attributes.items() if draft.accepted else ())
    counts: dict[str, dict[str, tuple[int, int]]] = {}
    for (key, value), number in wanted.items():
        if key in used:
            counts.setdefault(key, {})[value] = (number, accepted[key, value])
    return counts
