"""Intervals and power over queries and seeds, by scipy.

    paired_interval([.1, .0, .3, …])    → (.02, .18)   95 % interval of the mean difference, by bootstrap over queries
    detectable([.1, .0, .3, …], .05)    → .06          the smallest difference that as many queries would show
    interval_of_sums([(1, 2), (0, 1), …], share)  → (.2, .9)   95 % interval of share(sums of both counts)
    share_interval([(1, 2), (0, 1), …]) → (.01, .91)   95 % interval of the first sum as a share of the second
    seed_interval([.36, .38, .35])      → (.33, .40)   95 % interval of a mean over seeds, by Student's t

Sources: percentile bootstrap (Efron 1979; scipy.stats.bootstrap); power of a paired t-test (Cohen 1988, chapter 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy  # loads scipy.stats when it is first used

from .records import Interval

ERRORS_95 = 1.96  # standard errors in half of a 95 % interval
POWER = 0.8  # chance to find a difference of the size of `detectable`
_DRAWS = 2000  # bootstrap samples


def paired_interval(differences: Sequence[float], *, seed: int = 0) -> Interval | None:
    """95 % interval of the mean of `differences` (queries,), by percentile bootstrap; None for under two queries."""
    values = np.asarray(differences, float)
    if len(values) < 2:
        return None
    if np.ptp(values) == 0:  # all values are equal, so every bootstrap sample has the same mean
        return float(values[0]), float(values[0])
    return _percentiles(values, np.mean, seed)


def interval_of_sums(
    counts: Sequence[Sequence[float]], figure: Callable[[np.ndarray], np.ndarray], *, seed: int = 0
) -> Interval | None:
    """95 % interval of a figure that depends on sums over queries, by percentile bootstrap over queries.

    `counts` is (queries, counts); `figure` takes sums (draws, counts) and gives (draws,). None for under two queries.
    """
    rows = np.asarray(counts, float)
    if len(rows) < 2:
        return None
    return _percentiles(np.arange(len(rows)), lambda places, axis: figure(rows[places].sum(axis=axis - 1)), seed)


def share_interval(counts: Sequence[tuple[int, int]]) -> Interval | None:
    """95 % interval of a share: of the second sum of `counts` (queries, 2), what the first sum is.

    It is as wide as the bootstrap over queries and the exact binomial interval (Clopper and Pearson, 1934) together.
    The bootstrap alone would be sure of a share of 0 after two queries. None for under two queries.
    """
    over_queries = interval_of_sums(counts, lambda sums: sums[:, 0] / np.maximum(1, sums[:, 1]))
    if over_queries is None:
        return None
    found, of = (sum(column) for column in zip(*counts, strict=True))
    exact = scipy.stats.binomtest(found, of).proportion_ci(method="exact")
    return min(over_queries[0], float(exact.low)), max(over_queries[1], float(exact.high))


def _percentiles(sample: np.ndarray, statistic: Callable[..., Any], seed: int) -> Interval:
    interval = scipy.stats.bootstrap(
        (sample,), statistic, n_resamples=_DRAWS, method="percentile", rng=np.random.default_rng(seed), batch=200,
        vectorized=True,
    ).confidence_interval  # fmt: skip
    return float(interval.low), float(interval.high)


def detectable(differences: Sequence[float], alpha: float) -> float | None:
    """The smallest mean difference that a two-sided paired t-test at `alpha` finds with power .8.

    It assumes as many queries as in `differences`, with the same spread. None for under two queries, or if all
    differences are equal.
    """
    if len(differences) < 2 or np.ptp(differences) < 1e-12:
        return None
    return shown_by(len(differences), float(np.std(differences, ddof=1)), alpha)


def shown_by(n: int, spread: float, alpha: float) -> float | None:
    """The same for `n` queries whose differences have the standard deviation `spread`; None for under two queries."""
    if n < 2:
        return None
    # (t for the two-sided test + t for the power) standard errors of the mean
    quantiles = scipy.stats.t.ppf(1 - alpha / 2, n - 1) + scipy.stats.t.ppf(POWER, n - 1)
    return float(quantiles) * spread / math.sqrt(n)


def seed_interval(values: Sequence[float]) -> Interval | None:
    """95 % interval of the mean of `values` (seeds,), by Student's t; None for under two values."""
    if len(values) < 2:
        return None
    centre = float(np.mean(values))
    if np.ptp(values) == 0:
        return centre, centre
    low, high = scipy.stats.t.interval(0.95, len(values) - 1, loc=centre, scale=scipy.stats.sem(values))
    return float(low), float(high)
