"""Score a set of negatives: nDCG@10 of a probe trained with them, minus that of a probe trained on mined ones alone.

    objective = Objective(encoder, collection, pairs, mined, config, near)
    objective.score({"q1": [HardNegative("We follow 112 giant planets …")], …})
      → Score(gain=.012, error=.005, likelihood=.11, likelihood_error=.03, queries={"q7": .37, "q9": 0.0, …})

Most collections hold few near-misses, so standard nDCG@10 hardly sees what written negatives teach. With `near`, the
gain is in nDCG@10 of held-out queries with near-misses of another origin in the corpus. Standard nDCG@10 is then a
condition: it must not fall by more than its error under that of the first program (`Score.refusal`).

The probe is scored on the dev queries and on train queries that are not among the pairs. If these are too few, the
pairs' own queries are cross-fitted in folds. Queries of confirm and test are never used. Both probes share rows, folds,
batches and seeds, and the difference is taken query by query, so its standard error covers the choice of queries only.
Scores are cached by the content of the set. One set is scored at a time: the probe has one copy of the weights, and
ranx is not thread-safe.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from syneg.core.config import Config
from syneg.core.errors import DataError
from syneg.core.records import HardNegative, Instance, MinedNegative, Pair, fingerprint
from syneg.data.collection import Collection
from syneg.retrieval.dev_set import dev_set
from syneg.retrieval.encoder import Encoder
from syneg.retrieval.metrics import MAIN_METRIC, mean_and_error
from syneg.training.sampling import Supply, mix

from .probe import BOUNDARY, LIKELIHOOD, Near, Probe

# scales from which tanh flattens: of nDCG@10, of log-likelihood, of nDCG@10 with near-misses
_MUCH_GAIN, _MUCH_LIKELIHOOD, _MUCH_BOUNDARY = 0.01, 0.1, 0.05
STANDARD = "standard nDCG@10 over mined alone"
Sets = Mapping[str, Sequence[HardNegative]]


@dataclass(frozen=True)
class Score:
    """The score of one set.

    `gain` is the gain in nDCG@10 over mined negatives alone, the mean over the held-out `queries` (query_id → gain);
    `error` is its standard error. `likelihood` and `likelihood_error` are the same for the log-likelihood. With
    near-misses, `queries` are held-out queries with near-misses in the corpus, and `standard` holds the gain of each
    held-out query in nDCG@10 without them. `more` are further figures.
    """

    gain: float
    error: float
    likelihood: float = 0.0
    likelihood_error: float = 0.0
    queries: Mapping[str, float] = field(default_factory=dict)
    more: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    standard: Mapping[str, float] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The number that ranks sets, from -1 to 1: the gain with near-misses, bounded by tanh.

        Without near-misses it is the mean of both gains, each bounded by tanh. Of three collections, the likelihood
        alone orders sets as full training does on two, and nDCG@10 alone on the third. Together they lose little on any
        (docs/lab_notes.md, "A third collection").
        """
        if self.standard:
            return math.tanh(self.gain / _MUCH_BOUNDARY)
        gains = {MAIN_METRIC: np.array([self.gain]), LIKELIHOOD: np.array([self.likelihood])}
        return float(worth(gains)[0])

    @property
    def figures(self) -> Mapping[str, tuple[float, float]]:
        """Standard nDCG@10, if it is not the gain, and the log-likelihood, with their errors; then `more`."""
        standard = {STANDARD: mean_and_error(list(self.standard.values()))} if self.standard else {}
        likelihood = {"log-likelihood over mined alone": (self.likelihood, self.likelihood_error)}
        return {**standard, **likelihood, **self.more}

    def refusal(self, first: Score) -> str:
        """Why the set must not replace the one with the score `first`: standard nDCG@10 falls by more than its error.

        "" if it does not fall so far, or if it is the gain itself.
        """
        mean, error = mean_and_error([value - first.standard[q] for q, value in self.standard.items()])
        return f"standard nDCG@10 falls by {-mean:.4f} ± {error:.4f}" if mean < -error else ""


def worth(gains: Mapping[str, np.ndarray]) -> np.ndarray:
    """What mean gains (draws,) in nDCG@10 and log-likelihood are worth together, -1 to 1 (`Score.value`)."""
    return np.asarray((np.tanh(gains[MAIN_METRIC] / _MUCH_GAIN) + np.tanh(gains[LIKELIHOOD] / _MUCH_LIKELIHOOD)) / 2)


class Objective:
    """Scores sets of negatives for `pairs`, which are train pairs.

    Raises DataError if there are no dev queries, if a pair's query belongs to confirm or test, or if a query with
    near-misses is not held out.
    """

    def __init__(
        self,
        encoder: Encoder,
        collection: Collection,
        pairs: Sequence[Pair],
        mined: Mapping[str, Sequence[MinedNegative]],
        config: Config,
        near: Near | None = None,
    ) -> None:
        """`near[query_id]` are texts of near-misses of held-out queries, by another program or LM than the sets to
        score."""
        own = [pair.query_id for pair in pairs]
        dev = collection.splits["dev"]
        unseen = {*collection.splits["confirm"], *collection.splits["test"]}
        if not dev:
            raise DataError("no dev queries to optimize against", todo="give the collection a dev split")
        if foreign := unseen & {*own}:
            raise DataError(f"query {min(foreign)!r} is of confirm or test, which an objective must not see")
        if strange := {*(near or {})} - ({*dev, *collection.splits["train"]} - {*own}):
            raise DataError(f"query {min(strange)!r} has near-misses and is a pair's, or neither of dev nor of train")
        self.pairs, self._mined, self._config, self.near = list(pairs), mined, config, near or {}
        chosen = held_out_queries(collection, own, config.probe.queries, config.seed)
        held_out = dev_set(encoder, collection, config.probe.passages, config.seed, chosen)
        relevant = {q: collection.answers(q) for q in {*dev, *own}}
        self.probe = Probe(encoder, held_out, relevant, config.train, config.probe, self.near)
        self.lock = threading.RLock()  # of the probe's weights
        self._kept: dict[str, Score] = {}

    def score(self, negatives: Sets) -> Score:
        """The score of `negatives[query_id]`, the accepted negatives. Other queries train on mined negatives only."""
        key = fingerprint({q: [n.text for n in written] for q, written in sorted(negatives.items()) if written})
        with self.lock:  # a second thread with the same set waits, and then finds its score in the cache
            if key not in self._kept:
                self._kept[key] = self.compared([self.instances(negatives, s) for s in self._seeds])
            return self._kept[key]

    def instances(self, negatives: Sets, seed: int) -> list[Instance]:
        """The rows that the probe trains on: those of the arm `hybrid`."""
        settings = self._config.mix
        weighed = {q: [(n, settings.weight) for n in written] for q, written in negatives.items()}
        return mix(Supply(self.pairs, self._mined, weighed, use="first"), settings, arm="hybrid", seed=seed)

    def compared(self, rows: Sequence[Sequence[Instance]]) -> Score:
        """The score of training rows: one list for each seed of the probe."""
        ours = self._values(rows)
        gains = {metric: {q: ours[metric][q] - base for q, base in self._base[metric].items()} for metric in self._base}
        main, likelihood = gains.get(BOUNDARY, gains[MAIN_METRIC]), list(gains[LIKELIHOOD].values())
        return Score(
            *mean_and_error(list(main.values())), *mean_and_error(likelihood), queries=main,
            standard=gains[MAIN_METRIC] if BOUNDARY in gains else {},
        )  # fmt: skip

    @cached_property
    def _base(self) -> dict[str, dict[str, float]]:
        return self._values([self.instances({}, seed) for seed in self._seeds])

    @property
    def _seeds(self) -> range:
        return range(self._config.seed, self._config.seed + self._config.probe.seeds)

    def _values(self, rows: Sequence[Sequence[Instance]]) -> dict[str, dict[str, float]]:
        """metric → query_id → value, the mean over seeds."""
        by_seed = [self.probe.values(part, seed=seed) for seed, part in zip(self._seeds, rows, strict=True)]
        return {
            metric: {query_id: float(np.mean([seed[metric][query_id] for seed in by_seed])) for query_id in values}
            for metric, values in by_seed[0].items()
        }


def held_out_queries(collection: Collection, own: Sequence[str], wanted: int, seed: int) -> list[str]:
    """The ids of the queries to score on: all dev queries, then train queries of no pair, until there are `wanted`.

    If there are fewer, the pairs' `own` queries join them.
    """
    held_out = list(collection.splits["dev"])
    rest = sorted({*collection.splits["train"]} - {*own})
    random.Random(seed).shuffle(rest)
    held_out += rest[: max(0, wanted - len(held_out))]
    return held_out if len(held_out) >= wanted else [*held_out, *dict.fromkeys(own)]
