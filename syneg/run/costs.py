"""Count what LM calls cost: the calls of one stage, a part of them, or several stages together.

sum_of([cost_of(answers.calls), Cost(12, 9_000, 800, .01)])   → Cost(calls=52, input_tokens=49_000, …, usd=.06)
"""

from __future__ import annotations

from collections.abc import Sequence

from syneg.core.records import Call
from syneg.verdict.verdict import Cost


def cost_of(calls: Sequence[Call]) -> Cost:
    """Return calls, tokens and US dollars. Calls with equal keys count once. `usd` is None if a price is unknown."""
    usd = None if any(call.usd is None for call in calls) else sum(call.usd or 0.0 for call in calls)
    reads, writes = sum(call.input_tokens for call in calls), sum(call.output_tokens for call in calls)
    return Cost(len({call.key for call in calls}), reads, writes, usd)


def part_of(cost: Cost, calls: int) -> Cost:
    """Return the cost of `calls` of the calls in `cost`; tokens and dollars are taken in proportion."""
    share = calls / max(1, cost.calls)
    usd = None if cost.usd is None else cost.usd * share
    return Cost(calls, round(cost.input_tokens * share), round(cost.output_tokens * share), usd)


def sum_of(costs: Sequence[Cost]) -> Cost:
    """Add costs; `usd` is None if it is None in one of them."""
    usd = None if any(cost.usd is None for cost in costs) else sum(cost.usd or 0.0 for cost in costs)
    calls, reads, writes = (
        sum(getattr(cost, name) for cost in costs) for name in ("calls", "input_tokens", "output_tokens")
    )
    return Cost(calls, reads, writes, usd)
