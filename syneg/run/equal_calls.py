"""Give arms equal numbers of LM calls: `verified@calls=equal` beside `hybrid@calls=equal`, or a limit, `@calls=100`.

    calls_of(arm, drafts, readings)             → Counter({"80": 2, "91": 1, …})    LM calls for each train query
    within(arm.calls, calls, every_arm, pairs)  → frozenset({"80", "91", …})        queries within the limit

Reading and writing call an LM for the train queries in the same order. An arm with a limit gets the grades and texts of
the first queries, until their calls add up to the limit. Calls that measure an LM on dev are not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from syneg.core.records import Draft, Pair

from .arms import EQUAL, Arm
from .readings import Readings


def calls_of(arm: Arm, drafts: Sequence[Draft], readings: Readings) -> Counter[str]:
    """Count LM calls by query_id. A query whose texts or grades come from a file counts one call."""
    calls = Counter[str]()
    if readings.serve(arm):
        calls.update(readings.calls)
    if arm.grounds:
        calls.update(readings.near.of(arm.config.generate.program, drafts).calls)
    keys: dict[str, set[str]] = {}
    for draft in drafts:
        keys.setdefault(draft.pair.query_id, set()).update(draft.negative.calls)
    calls.update({query_id: max(1, len(own)) for query_id, own in keys.items()})
    return calls


def within(limit: int, calls: Counter[str], equals: Iterable[Counter[str]], pairs: Sequence[Pair]) -> frozenset[str]:
    """Return the ids of the first queries of `pairs` whose calls add up to at most `limit`.

    A `limit` of EQUAL stands for the smallest total among `equals`.
    """
    if limit == EQUAL:
        limit = min(other.total() for other in equals)
    chosen, spent = set(), 0
    for pair in pairs:
        spent += calls[pair.query_id]
        if spent > limit:
            break
        chosen.add(pair.query_id)
    return frozenset(chosen)
