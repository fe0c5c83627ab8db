"""Hybrid sampling: mix synthetic and retrieved negatives inside each training row (SyNeg, section 3.3).

    mix(Supply(pairs, mined, written), MixConfig(negatives=3, ratio=.5), arm="hybrid")     mined d1 … d4, written s1
      → [Instance(negatives=(s1, d3, d1), sources=("synthetic", "dense", "bm25"), weights=(1, 1, 1))]
    and for epoch=1
      → [Instance(negatives=(s1, d2, d4), …)]

With n negatives in a row and a ratio R of synthetic to retrieved ones, n*R/(1+R) are synthetic on average: the whole
part of this number always, and one more with the probability of its fraction, drawn by seed, query and epoch. Retrieved
negatives fill the remaining places, so that all arms train on the same number; if both run out, padding of weight 0
does. Each epoch uses the next negatives and the next positive of a query, until all were used. All arms get their
retrieved negatives in the same order.

Some arms are ablations: `dataset-mix` makes whole rows synthetic or retrieved (the paper's direct mix), `synthetic` has
only synthetic negatives, `in-batch` has no negatives but the other rows' texts.
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
Weighed = tuple[HardNegative, float]
Positives = Literal["draw", "rows", "first"]
T = TypeVar("T")


@dataclass(frozen=True)
class Filling:
    """How an arm fills the places of its rows.

    `synthetic`: with synthetic negatives, if `by_row` a whole row at a time. `retrieved`: with retrieved ones, only
    from `sources` if any are named. `own`: False leaves rows without negatives. `read`: a reader's grades decide which
    passages are negatives. `order`: the arm's default for `train.order`. `grounded`: with the retrieved passages
    nearest to the synthetic negatives, before other retrieved ones.
    """

    synthetic: bool = False
    by_row: bool = False
    retrieved: bool = True
    sources: tuple[str, ...] = ()
    own: bool = True
    read: bool = False
    order: str = ""
    grounded: bool = False

    @property
    def is_mined(self) -> bool:
        """Whether the mined negatives, as they are, fill places."""
        return self.own and self.retrieved and not (self.sources or self.read or self.grounded)


ARMS = {
    "in-batch": Filling(own=False),
    "bm25": Filling(sources=("bm25",)),
    "mined": Filling(),
    "verified": Filling(read=True),
    "graded": Filling(synthetic=True, read=True, order="graded"),
    "grounded": Filling(grounded=True),
    "synthetic": Filling(synthetic=True, retrieved=False),
    "dataset-mix": Filling(synthetic=True, by_row=True),
    "hybrid": Filling(synthetic=True),
}


def filling_of(arm: str, config: MixConfig) -> Filling:
    """How an arm fills its places. `hybrid` has synthetic negatives beside those of the arm `mix.base`."""
    if arm != "hybrid":
        return ARMS[arm]
    base = ARMS[config.base]
    return replace(ARMS[arm], read=base.read, grounded=base.grounded)


@dataclass(frozen=True)
class Supply:
    """The pairs and negatives that rows are made from.

    `mined[query_id]` are retrieved negatives, `written[query_id]` synthetic ones with their weights, and
    `grounded[query_id]` the retrieved passages that are nearest to the synthetic ones.
    `extra[query_id][doc_id]` are texts that a reader found relevant beside the judged ones. If a teacher's scores
    `taught[query_id][doc_id]` are given, the negatives of a row cover their range, from high to low. `use` decides
    about queries with several positives: `draw` uses another one each epoch, `rows` makes a row for each, `first` keeps
    the best.
    """

    pairs: Sequence[Pair]
    mined: Mapping[str, Sequence[MinedNegative]]
    written: Mapping[str, Sequence[Weighed]] = field(default_factory=dict)
    extra: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    taught: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    grounded: Mapping[str, Sequence[MinedNegative]] = field(default_factory=dict)
    use: Positives = "draw"

    def turns(self, seed: int, epoch: int) -> Iterator[tuple[Pair, int]]:
        """For each row of an epoch: its pair with the positive to use, and the number of the query's earlier rows."""
        for pair in self.pairs:
            # a pair keeps only the doc_id of its best positive, so the others get none
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


def epochs_of(
    supply: Supply, config: MixConfig, *, arm: str, seed: int, count: int, first: int = 0
) -> list[list[Instance]]:
    """The rows of `count` epochs from `first` on; each epoch has the same queries in the same order."""
    return [mix(supply, config, arm=arm, seed=seed, epoch=epoch) for epoch in range(first, first + count)]


def mix(supply: Supply, config: MixConfig, *, arm: str, seed: int, epoch: int = 0) -> list[Instance]:
    """The rows of one epoch. All have `mix.negatives` places for negatives, or none for `in-batch`.

    Retrieved negatives have weight 1. A passage known to be relevant to the query is never among them. Raises
    ConfigError for an arm that is not in ARMS.
    """
    if arm not in ARMS:
        raise ConfigError(f"unknown arm {arm!r}", todo=f"known: {', '.join(ARMS)}")
    plan = filling_of(arm, config)
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
        grounded = list(supply.grounded.get(pair.query_id, ())) if plan.grounded else []
        grounded = draw.sample(grounded, len(grounded))
        if pair.query_id in supply.taught:
            retrieved = _across(retrieved, supply.taught[pair.query_id], places)
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
        near = _dealt(grounded, turn * count)[:count]
        taken = {negative.doc_id for negative in near}
        rest = [negative for negative in _dealt(retrieved, turn * places) if negative.doc_id not in taken]
        rows.append(_row(pair, [*near, *rest], own, places))
    return rows


def synthetic_places(negatives: int, ratio: float, draw: float) -> int:
    """How many of `negatives` places are synthetic, for a uniform `draw` in [0, 1)."""
    share = negatives * ratio / (1 + ratio)
    whole = math.floor(share + 1e-9)
    return min(negatives, whole + (draw < share - whole - 1e-9))


def confidence(share: float) -> float:
    """The weight of a synthetic text whose score is `share` of the positive's: the nearer, the more likely relevant.

    >>> [round(confidence(share), 2) for share in (0.6, 0.9, 1.0, 1.2)]
    [0.98, 0.73, 0.5, 0.12]
    """
    return 1 / (1 + math.exp((share - 1) / 0.1))


def _dealt(items: Sequence[T], taken: int) -> list[T]:
    """`items` rotated, so that they start after the first `taken` items, which earlier rows used.

    >>> _dealt("abcde", 0), _dealt("abcde", 2), _dealt("abcde", 6)
    (['a', 'b', 'c', 'd', 'e'], ['c', 'd', 'e', 'a', 'b'], ['b', 'c', 'd', 'e', 'a'])
    """
    start = taken % len(items) if items else 0
    return [*items[start:], *items[:start]]


def _across(retrieved: Sequence[MinedNegative], scores: Mapping[str, float], places: int) -> list[MinedNegative]:
    """The negatives so that each run of `places` has one from each part of the list by score, the highest part first.
    What has no score counts as lowest; within a part the order stays."""
    if places < 2 or not retrieved:
        return list(retrieved)
    ranked = sorted(retrieved, key=lambda negative: -scores.get(negative.doc_id, -math.inf))
    size = math.ceil(len(ranked) / places)
    order = {id(negative): place for place, negative in enumerate(retrieved)}
    parts = [
        sorted(ranked[start : start + size], key=lambda negative: order[id(negative)])
        for start in range(0, len(ranked), size)
    ]
    return [part[turn] for turn in range(size) for part in parts if turn < len(part)]


def _row(pair: Pair, retrieved: Sequence[MinedNegative], written: Sequence[Weighed], places: int) -> Instance:
    """A row: all of `written` first, then retrieved negatives, then padding, up to `places`."""
    filled: list[tuple[str, str, float, str | None]] = [(n.text, SYNTHETIC, weight, None) for n, weight in written]
    filled += [(n.text, n.source, 1.0, n.doc_id) for n in retrieved[: places - len(filled)]]
    filled += [("", PADDING, 0.0, None)] * (places - len(filled))
    if not filled:
        return Instance(pair, (), (), (), ())
    texts, sources, weights, doc_ids = zip(*filled, strict=True)
    return Instance(pair, texts, sources, weights, doc_ids)
