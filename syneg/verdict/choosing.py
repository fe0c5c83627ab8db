"""Choose the best arm on dev, and check the choice on queries that took no part in it.

    choose({"base": {"q1": .30, "q2": .52}, "mined": {"q1": .41, "q2": .50}}, "base")
      → DevChoice(best="mined", top="mined", gain=.041)

On the queries that chose it, the best of several arms looks better than it is. So the choice is cross-fitted: the best
arm on four fifths of the dev queries is compared with the untuned encoder on the last fifth, for each fifth of 20
random divisions. If that gains nothing on average, the untuned encoder is chosen (Stone 1974, cross-validatory choice).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .records import DevChoice

_FOLDS, _DIVISIONS = 5, 20  # fifths of a division, random divisions


def choose(values: Mapping[str, Mapping[str, float]], rule: str) -> DevChoice:
    """The best arm by the mean of `values[arm][query_id]`.

    It is `rule` (the base) on a tie, or if the cross-fitted choice gains nothing over it. With fewer than five queries
    the choice is not checked.
    """
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
    """The row with the highest mean, the first of equal ones; rounding hides differences from the order of summing."""
    return int(np.argmax(np.round(table.mean(axis=1), 12)))
