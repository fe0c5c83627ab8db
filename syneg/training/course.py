"""Summaries of a training for training.json: the loss over the steps, and the part that each source had in it.

loss_curve([4.0, 2.0, 1.0, 0.0], last=9, points=2)   → [(7, 3.0), (9, 0.5)]
shares_by_third([{"dense": .4}, {"dense": .2}, …])   → [{"dense": .38}, {"dense": .31}, {"dense": .22}]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from syneg.core.records import Instance

from .sampling import PADDING, SYNTHETIC


def synthetic_share(rows: Sequence[Instance]) -> float:
    """Share (0 to 1) of the negatives of `rows` that are synthetic; padding does not count."""
    sources = Counter(source for row in rows for source in row.sources)
    return sources[SYNTHETIC] / max(1, sources.total() - sources[PADDING])


def shares_by_third(shares: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """Mean gradient share of each source over the first, second and last third of the steps.

    `shares` has one mapping source → share for each step. With under three steps, fewer parts are returned.
    """
    parts = [part for part in np.array_split(np.arange(len(shares)), 3) if len(part)]
    sources = sorted({source for share in shares for source in share})
    return [{s: round(float(np.mean([shares[i].get(s, 0.0) for i in part])), 4) for s in sources} for part in parts]


def loss_curve(losses: Sequence[float], last: int, points: int = 40) -> list[tuple[int, float]]:
    """Divide the steps up to step `last` into at most `points` equal parts; return (last step, mean loss) of each.

    >>> loss_curve([4.0, 2.0, 1.0, 0.0], last=9, points=2)
    [(7, 3.0), (9, 0.5)]
    """
    parts = np.array_split(np.arange(len(losses)), min(points, len(losses))) if losses else []
    first = last - len(losses) + 1  # a resumed training does not know the losses of its first steps
    return [(first + int(part[-1]), round(float(np.mean([losses[i] for i in part])), 5)) for part in parts]
