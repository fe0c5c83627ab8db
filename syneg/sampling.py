"""Hybrid sampling: synthetic and retrieved negatives mixed inside each training instance (SyNeg, section 3.3).

    Sampler(negatives=3, ratio=.5): mined d1 d2 d3 d4, synthetic s1 → Instance(negatives=(s1, d3, d1), sources=(synthetic, …))

A ratio R of synthetic to retrieved and n negatives give n*R/(1+R) synthetic ones on average: the whole part always, one
more with the probability of the rest, drawn by seed and query. Retrieved ones fill the places that synthetic ones leave
empty, so that every arm trains on the same number; where there are too few of both, a row is padded with weight 0. All
arms draw their retrieved negatives in the same order.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

from .records import HardNegative, Instance, MinedNegative, Pair

SYNTHETIC, PADDING = "synthetic", "padding"


def mix(
    pairs: Sequence[Pair],
    mined: Mapping[str, Sequence[MinedNegative]],
    synthetic: Mapping[str, Sequence[HardNegative]],
    *,
    negatives: int,
    ratio: float,
    seed: int,
) -> list[Instance]:
    """One instance per pair with `negatives` places; `ratio` 0 takes retrieved ones only."""
    return [
        _instance(p, mined.get(p.query_id, ()), synthetic.get(p.query_id, ()), negatives, ratio, seed) for p in pairs
    ]


def synthetic_places(negatives: int, ratio: float, draw: float) -> int:
    """How many of `negatives` places are synthetic for a uniform `draw` in [0, 1).

    >>> [synthetic_places(3, 0.5, draw) for draw in (0.0, 0.99)], [synthetic_places(7, 0.7, draw) for draw in (0.1, 0.9)]
    ([1, 1], [3, 2])
    """
    share = negatives * ratio / (1 + ratio)
    whole = math.floor(share + 1e-9)
    return min(negatives, whole + (draw < share - whole - 1e-9))


def _instance(
    pair: Pair,
    mined: Sequence[MinedNegative],
    synthetic: Sequence[HardNegative],
    negatives: int,
    ratio: float,
    seed: int,
) -> Instance:
    draw = random.Random(f"{seed}:{pair.query_id}")
    retrieved = draw.sample(list(mined), len(mined))
    written = draw.sample(list(synthetic), len(synthetic))
    count = min(synthetic_places(negatives, ratio, draw.random()), len(written))
    rows: list[tuple[str, str, float, str | None]] = [(n.text, SYNTHETIC, 1.0, None) for n in written[:count]]
    rows += [(n.text, n.source, 1.0, n.doc_id) for n in retrieved[: negatives - count]]
    rows += [("", PADDING, 0.0, None)] * (negatives - len(rows))
    texts, sources, weights, doc_ids = zip(*rows, strict=True)
    return Instance(pair, texts, sources, weights, doc_ids)
