"""Hybrid sampling: synthetic and retrieved negatives mixed inside each training row (SyNeg, section 3.3).

    mix(Supply(pairs, mined, written), MixConfig(negatives=3, ratio=.5), arm="hybrid"), mined d1 d2 d3 d4, written s1
      → [Instance(negatives=(s1, d3, d1), sources=("synthetic", "dense", "bm25"), weights=(1, 1, 1))]
    and for epoch=1
      → [Instance(negatives=(s1, d2, d4), …)]

A ratio R of synthetic to retrieved and n negatives give n*R/(1+R) synthetic ones on average: the whole part always, one
more with the probability of the rest, drawn by seed, query and epoch. Retrieved ones fill the places that synthetic
ones leave empty, so that arms train on the same number; where there are too few of both, a row is padded with weight 0.
Each epoch deals out the next negatives and the next positive of a query, until all were used. All arms are dealt their
retrieved negatives in the same order. The other arms are ablations: `dataset-mix` makes whole rows synthetic or
retrieved (the paper's direct mix), `synthetic` uses nothing else, `in-batch` has no negatives of its own.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from syneg.core.config import MixConfig
from syneg.core.errors import ConfigError
from syneg.core.records import HardNegative, Instance, MinedNegative, Pair

SYNTHETIC, PADDING = "synthetic", "padding"
READ, RELATED = "read", "related"  # sources of passages that a reader graded 0 and 1
Weighed = tuple[HardNegative, float]
Positives = Literal["draw", "rows", "first"]
T = TypeVar("T")


@dataclass(frozen=True)
class Filling:
    """How an arm fills its places: with synthetic negatives or not, inside rows or by rows, and what else. `read` arms
    go by the grades of a reader; `order` is the one of `train.order` that an arm has unless it names another."""

    synthetic: bool = False
    by_row: bool = False
    retrieved: bool = True
    sources: tuple[str, ...] = ()
    own: bool = True
    read: bool = False
    order: str = ""


ARMS = {
    "in-batch": Filling(own=False),
    "bm25": Filling(sources=("bm25",)),
    "mined": Filling(),
    "verified": Filling(read=True),
    "graded": Filling(synthetic=True, read=True, order="graded"),
    "synthetic": Filling(synthetic=True, retrieved=False),
    "dataset-mix": Filling(synthetic=True, by_row=True),
    "hybrid": Filling(synthetic=True),
}


@dataclass(frozen=True)
class Supply:
    """What rows are made of: the pairs, and by query id what can stand beside them.

    `written` holds synthetic negatives with their weights. `extra[query_id][doc_id]` are texts of passages found
    relevant beside the judged ones. `use` says what becomes of a query's positives: `draw` deals it one of them an
    epoch, `rows` gives each a row of its own, `first` keeps the positive of the pair.
    """

    pairs: Sequence[Pair]
    mined: Mapping[str, Sequence[MinedNegative]]
    written: Mapping[str, Sequence[Weighed]] = field(default_factory=dict)
    extra: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    use: Positives = "draw"

    def turns(self, seed: int, epoch: int) -> Iterator[tuple[Pair, int]]:
        """Each row's pair with its positive, and how many rows of its query were filled before it."""
        for pair in self.pairs:
            # the id of a judged positive beside the best one is not kept
            known = {pair.positive: pair.doc_id} | {text: "" for text in pair.positives if text != pair.positive}
            known |= {text: doc_id for doc_id, text in self.extra.get(pair.query_id, {}).items() if text not in known}
            choices = [replace(pair, doc_id=doc_id, positive=text, positives=()) for text, doc_id in known.items()]
            if self.use == "first" or len(choices) == 1:
                yield choices[0], epoch
            elif self.use == "draw":
                order = random.Random(f"positive:{seed}:{pair.query_id}").sample(choices, len(choices))
                yield order[epoch % len(order)], epoch
            else:
                for place, choice in enumerate(choices):
                    yield choice, epoch * len(choices) + place


def epochs_of(supply: Supply, config: MixConfig, *, arm: str, seed: int, count: int) -> list[list[Instance]]:
    """The rows of `count` epochs, as many in each and of the same queries in the same order."""
    return [mix(supply, config, arm=arm, seed=seed, epoch=epoch) for epoch in range(count)]


def mix(supply: Supply, config: MixConfig, *, arm: str, seed: int, epoch: int = 0) -> list[Instance]:
    """The rows of one epoch, all with the same number of places: `config.negatives`, or none for `in-batch`.

    Retrieved negatives weigh 1. A passage known to be relevant to the query never stands among them. Raises ConfigError
    for an arm that is not in ARMS.
    """
    if arm not in ARMS:
        raise ConfigError(f"unknown arm {arm!r}", todo=f"known: {', '.join(ARMS)}")
    plan = ARMS[arm]
    places = config.negatives if plan.own else 0
    rows = []
    for pair, turn in supply.turns(seed, epoch):
        draw = random.Random(f"{seed}:{pair.query_id}")
        relevant = supply.extra.get(pair.query_id, {})
        usable = [
            n for n in supply.mined.get(pair.query_id, ())
            if n.doc_id not in relevant and (not plan.sources or n.source in plan.sources)
        ]  # fmt: skip
        retrieved = draw.sample(usable, len(usable))
        written = list(supply.written.get(pair.query_id, ())) if plan.synthetic else []
        written = draw.sample(written, len(written))
        share = draw.random() if turn == 0 else random.Random(f"{seed}:{pair.query_id}:{turn}").random()
        if plan.by_row:
            count = places if written and share < config.ratio / (1 + config.ratio) else 0
            retrieved = [] if count else retrieved
        elif not plan.retrieved:
            count, retrieved = places, []
        else:
            count = synthetic_places(places, config.ratio, share)
        own = _dealt(written, turn * count)[:count]
        rows.append(_row(pair, _dealt(retrieved, turn * places), own, places))
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


def _dealt(items: Sequence[T], taken: int) -> list[T]:
    """`items` turned so that they begin with the one after the `taken` that were dealt before.

    >>> _dealt("abcde", 0), _dealt("abcde", 2), _dealt("abcde", 6)
    (['a', 'b', 'c', 'd', 'e'], ['c', 'd', 'e', 'a', 'b'], ['b', 'c', 'd', 'e', 'a'])
    """
    start = taken % len(items) if items else 0
    return [*items[start:], *items[:start]]


def _row(pair: Pair, retrieved: Sequence[MinedNegative], written: Sequence[Weighed], places: int) -> Instance:
    filled: list[tuple[str, str, float, str | None]] = [(n.text, SYNTHETIC, weight, None) for n, weight in written]
    filled += [(n.text, n.source, 1.0, n.doc_id) for n in retrieved[: places - len(filled)]]
    filled += [("", PADDING, 0.0, None)] * (places - len(filled))
    if not filled:
        return Instance(pair, (), (), (), ())
    texts, sources, weights, doc_ids = zip(*filled, strict=True)
    return Instance(pair, texts, sources, weights, doc_ids)
