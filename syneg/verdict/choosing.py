"""Which arm is best on dev, by queries that did not choose it.

    choose({"base": {"q1": .30, "q2": .52}, "mined": {"q1": .41, "q2": .50}}, "base")
      → DevChoice(best="mined", top="mined", gain=.041)

The best of several arms looks better on the queries that chose it than it is. So the choice is cross-fitted: what is
best on four fifths of the dev queries is held against the untuned encoder on the last fifth, for each fifth of several
random divisions. Where that gains nothing, the untuned encoder stays (Stone 1974, cross-validatory choice).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .records import DevChoice

_FOLDS, _DIVISIONS = 5, 20


def choose(values: Mapping[str, Mapping[str, float]], rule: str) -> DevChoice:
    """The best arm by `values[arm][query_id]`; `rule` where it ties, or where choosing gains nothing over it."""
    arms = [rule, *(arm for arm in values if arm != rule)]
    queries = sorted(values[rule])
    if not queries:
        return DevChoice(rule, rule, None)
    table = np.asarray([[values[arm][query] for query in queries] for arm in arms])  # (arms, queries)
    top = arms[_best(table)]
    if top == rule or len(queries) < _FOLDS:
        return DevChoice(top, top, None)
    gains = []
    for division in range(_DIVISIONS):
        order = np.random.default_rng(division).permutation(len(queries))
        for held_out in np.array_split(order, _FOLDS):
            chosen = _best(np.delete(table, held_out, axis=1))
            gains += (table[chosen, held_out] - table[0, held_out]).tolist()
    gain = float(np.mean(gains))
    return DevChoice(top if gain > 0 else rule, top, gain)


def _best(table: np.ndarray) -> int:
    """The row of the highest mean; the first of equal ones, within what summing in another order does."""
    return int(np.argmax(np.round(table.mean(axis=1), 12)))
