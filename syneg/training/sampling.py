"""Hybrid sampling: synthetic and retrieved negatives mixed inside each training instance (SyNeg, section 3.3).

    mix(…, arm="hybrid", negatives=3, ratio=.5): mined d1 d2 d3 d4, synthetic s1
      → Instance(negatives=(s1, d3, d1), sources=("synthetic", "dense", "bm25"), weights=(1, 1, 1))

A ratio R of synthetic to retrieved and n negatives give n*R/(1+R) synthetic ones on average: the whole part always, one
more with the probability of the rest, drawn by seed and query. Retrieved ones fill the places that synthetic ones leave
empty, so that arms train on the same number; where there are too few of both, a row is padded with weight 0. All arms
draw their retrieved negatives in the same order. The other arms are ablations: `dataset-mix` makes whole rows synthetic
or retrieved (the paper's direct mix), `synthetic` uses nothing else, `in-batch` has no negatives of its own.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from syneg.core.errors import ConfigError
from syneg.core.records import HardNegative, Instance, MinedNegative, Pair

SYNTHETIC, PADDING = "synthetic", "padding"
Weighed = tuple[HardNegative, float]


@dataclass(frozen=True)
class Filling:
    """How an arm fills its places: with synthetic negatives or not, inside rows or by rows, and what else."""

    synthetic: bool = False
    by_row: bool = False
    retrieved: bool = True
    sources: tuple[str, ...] = ()
    own: bool = True


ARMS = {
    "in-batch": Filling(own=False),
    "bm25": Filling(sources=("bm25",)),
    "mined": Filling(),
    "synthetic": Filling(synthetic=True, retrieved=False),
    "dataset-mix": Filling(synthetic=True, by_row=True),
    "hybrid": Filling(synthetic=True),
}


def mix(
    pairs: Sequence[Pair],
    mined: Mapping[str, Sequence[MinedNegative]],
    synthetic: Mapping[str, Sequence[Weighed]],
    *,
    arm: str,
    negatives: int,
    ratio: float,
    seed: int,
) -> list[Instance]:
    """One instance per pair, all with the same number of places: `negatives`, or none for `in-batch`. Synthetic negatives
    come with their weights, retrieved ones weigh 1.

    Raises ConfigError for an arm that is not in ARMS.
    """
    if arm not in ARMS:
        raise ConfigError(f"unknown arm {arm!r}", todo=f"known: {', '.join(ARMS)}")
    plan = ARMS[arm]
    places = negatives if plan.own else 0
    rows = []
    for pair in pairs:
        draw = random.Random(f"{seed}:{pair.query_id}")
        found = [n for n in mined.get(pair.query_id, ()) if not plan.sources or n.source in plan.sources]
        retrieved = draw.sample(found, len(found)) if plan.retrieved else []
        written = list(synthetic.get(pair.query_id, ())) if plan.synthetic else []
        written = draw.sample(written, len(written))
        share = draw.random()
        if plan.by_row:
            count = places if written and share < ratio / (1 + ratio) else 0
            retrieved = [] if count else retrieved
        else:
            count = places if not plan.retrieved else synthetic_places(places, ratio, share)
        rows.append(_instance(pair, retrieved, written[:count], places))
    return rows


def synthetic_places(negatives: int, ratio: float, draw: float) -> int:
    """How many of `negatives` places are synthetic for a uniform `draw` in [0, 1).

    >>> [synthetic_places(3, 0.5, draw) for draw in (0.0, 0.99)], [synthetic_places(7, 0.7, draw) for draw in (0.1, 0.9)]
    ([1, 1], [3, 2])
    """
    share = negatives * ratio / (1 + ratio)
    whole = math.floor(share + 1e-9)
    return min(negatives, whole + (draw < share - whole - 1e-9))


def confidence(share: float) -> float:
    """How far a synthetic text is trusted not to be relevant, by the share of the positive's score that it comes to.

    >>> [round(confidence(share), 2) for share in (0.6, 0.9, 1.0, 1.2)]
    [0.98, 0.73, 0.5, 0.12]
    """
    return 1 / (1 + math.exp((share - 1) / 0.1))


def _instance(pair: Pair, retrieved: Sequence[MinedNegative], written: Sequence[Weighed], places: int) -> Instance:
    rows: list[tuple[str, str, float, str | None]] = [(n.text, SYNTHETIC, weight, None) for n, weight in written]
    rows += [(n.text, n.source, 1.0, n.doc_id) for n in retrieved[: places - len(rows)]]
    rows += [("", PADDING, 0.0, None)] * (places - len(rows))
    if not rows:
        return Instance(pair, (), (), (), ())
    texts, sources, weights, doc_ids = zip(*rows, strict=True)
    return Instance(pair, texts, sources, weights, doc_ids)
