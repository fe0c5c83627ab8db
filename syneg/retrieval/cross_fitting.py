"""Measure a choice on queries that took no part in it.

    cross_fitted(table)    → [.41, .50, …]    the value of each query under the row chosen without it

On the queries that chose it, the best of several candidates looks better than it is. So the queries are divided into
fifths, and the best row on four of them is measured on the last, for each fifth of 20 random divisions (Stone 1974,
cross-validatory choice).
"""

from __future__ import annotations

import numpy as np

FOLDS, DIVISIONS = 5, 20  # fifths of a division, random divisions


def best_row(table: np.ndarray) -> int:
    """The row of `table` (candidates, queries) with the highest mean, the first of equal ones.

    Means are rounded, to hide differences from the order of summing.
    """
    return int(np.argmax(np.round(table.mean(axis=1), 12)))


def cross_fitted(table: np.ndarray) -> np.ndarray | None:
    """For each query of `table` (candidates, queries), its value in the row that is best on the other fifths.

    Each value is the mean over the divisions. None for under five queries.
    """
    queries = table.shape[1]
    if queries < FOLDS:
        return None
    values = np.zeros(queries)
    for division in range(DIVISIONS):
        order = np.random.default_rng(division).permutation(queries)
        for held_out in np.array_split(order, FOLDS):
            values[held_out] += table[best_row(np.delete(table, held_out, axis=1)), held_out]
    return values / DIVISIONS
