"""Choose the best arm on dev, and check the choice on queries that took no part in it.

    choose({"base": {"q1": .30, "q2": .52}, "mined": {"q1": .41, "q2": .50}}, "base")
      → DevChoice(best="mined", top="mined", gain=.041)

On the queries that chose it, the best of several arms looks better than it is. So the choice is cross-fitted: the best
arm on four fifths of the dev queries is compared with the untuned encoder on the last fifth
(`syneg.retrieval.cross_fitting`). If that gains nothing on average, the untuned encoder is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from syneg.retrieval.cross_fitting import best_row, cross_fitted

from .records import DevChoice


def choose(values: Mapping[str, Mapping[str, float]], rule: str, owed: Mapping[str, float] | None = None) -> DevChoice:
    """The best arm by the mean of `values[arm][query_id]`, less `owed[arm]`: what the arm owes to choices on dev.

    It is `rule` (the base) on a tie, or if the cross-fitted choice gains nothing over it. With fewer than five queries
    the choice is not checked.
    """
    arms = [rule, *(arm for arm in values if arm != rule)]
    queries = sorted(values[rule])
    if not queries:
        return DevChoice(rule, rule, None)
    table = np.asarray([[values[arm][query] for query in queries] for arm in arms])  # (arms, queries)
    less = table - np.asarray([[(owed or {}).get(arm, 0.0)] for arm in arms])
    top, crossed = best_row(less), cross_fitted(less)
    if top == 0 and (first := best_row(table)):
        return DevChoice(rule, arms[first], float(np.mean(less[first] - less[0])))
    if top == 0 or crossed is None:
        return DevChoice(arms[top], arms[top], None)
    gain = float(np.mean(crossed - less[0]))
    return DevChoice(arms[top] if gain > 0 else rule, arms[top], gain)
