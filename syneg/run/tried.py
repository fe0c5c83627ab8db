"""A writer's program after full training on what it wrote, and its comparison with the program as it was.

compared(3, Tried({"q1": .63, …}, drafts=[…]), Tried({"q1": .61, …}, drafts=[…])) → Confirmed(delta=.007, …)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from syneg.core.records import Draft
from syneg.retrieval.metrics import mean_and_error
from syneg.verdict.confirmed import Confirmed, differences

Values = Mapping[str, float]  # query_id → nDCG@10
_HOW = "full training, queries that no proposal has seen"


@dataclass(frozen=True)
class Tried:
    """A program after full training: nDCG@10 of the queries that decide, `boundary` with near-misses in the corpus.

    `drafts` are what it wrote.
    """

    standard: Values
    boundary: Values = field(default_factory=dict)
    drafts: Sequence[Draft] = ()

    def cost(self, unit: str) -> float:
        """What an accepted negative took, in "tokens" or "dollars"; infinite if none was accepted."""
        negatives = [draft.negative for draft in self.drafts]
        taken = sum(n.usd or 0.0 if unit == "dollars" else n.input_tokens + n.output_tokens for n in negatives)
        return taken / accepted if (accepted := sum(draft.accepted for draft in self.drafts)) else float("inf")

    @property
    def priced(self) -> bool:
        """Whether the price of every negative is known and not 0."""
        return all(draft.negative.usd for draft in self.drafts if draft.negative.calls)


def compared(number: int, best: Tried, first: Tried) -> Confirmed:
    """Compare candidate `number` with the first program, with near-misses if there are some."""
    unit = "dollars" if best.priced and first.priced else "tokens"
    cost = best.cost(unit), first.cost(unit)
    if not best.boundary:
        return Confirmed.of(number, best.standard, first.standard, how=_HOW, cost=cost, unit=unit)
    return Confirmed.of(
        number, best.boundary, first.boundary, how=_HOW, measure="nDCG@10 with near-misses",
        standard=mean_and_error(differences(best.standard, first.standard)), cost=cost, unit=unit,
    )  # fmt: skip
