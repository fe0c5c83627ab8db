"""Arms at equal LM calls: `verified@calls=equal` beside `hybrid@calls=equal`, or `calls=100`.

    calls_of(arm, drafts, readings)             → Counter({"80": 2, "91": 1, …})    LM calls by train query
    within(arm.calls, calls, every_arm, pairs)  → frozenset({"80", "91", …})        queries that the arm profits from

Reading and writing ask an LM about one train query after the other, in the same order. An arm with a limit
gets what was graded or written for the first queries, as far as its calls reach. Measuring an LM on dev is not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from syneg.core.records import Draft, Pair

from .arms import EQUAL, Arm
from .readings import Readings


def calls_of(arm: Arm, drafts: Iterable[Draft], readings: Readings) -> Counter[str]:
    """query_id → the LM calls that were made for it; given texts and grades count as one."""
    calls = Counter[str]()
    if arm.reads:
        calls.update(readings.calls)
    keys: dict[str, set[str]] = {}
    for draft in drafts:
        keys.setdefault(draft.pair.query_id, set()).update(draft.negative.calls)
    calls.update({query_id: max(1, len(own)) for query_id, own in keys.items()})
    return calls


def within(limit: int, calls: Counter[str], equals: Iterable[Counter[str]], pairs: Sequence[Pair]) -> frozenset[str]:
    """The first queries of `pairs` whose calls fit into `limit`; EQUAL is the least that one of `equals` has."""
    if limit == EQUAL:
        limit = min(other.total() for other in equals)
    chosen, spent = set(), 0
    for pair in pairs:
        spent += calls[pair.query_id]
        if spent > limit:
            break
        chosen.add(pair.query_id)
    return frozenset(chosen)
