"""What a set of negatives is worth: nDCG@10 of the probe trained with them, less that of the probe on mined ones alone.

    objective = Objective(encoder, collection, pairs, mined, config)
    objective.score({"q1": [HardNegative("We follow 112 giant planets …")], …})
      → Score(gain=.012, error=.005, likelihood=.11, likelihood_error=.03, queries={"q7": .37, "q9": 0.0, …}, boundary=.08)

Held out are the dev queries, train queries that are not among the pairs, and, where these are few, the pairs' own by
folds; confirm and test are out of reach. Both sides of the difference share rows, folds, batches and seeds, and the
difference is taken query by query, so that its standard error says what the queries leave open. Scores are kept by the
content of the set. One at a time: the probe has one copy of the weights, and ranx takes one call at a time.
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
from syneg.negatives.mining import mine
from syneg.retrieval.dev_set import dev_set
from syneg.retrieval.encoder import Encoder
from syneg.retrieval.metrics import MAIN_METRIC
from syneg.training.sampling import Supply, mix

from .probe import BOUNDARY, LIKELIHOOD, Probe

DEEPEST, NEAREST = 1000, 20
_MUCH_GAIN, _MUCH_LIKELIHOOD = 0.01, 0.1  # of nDCG@10 and of log-likelihood
Sets = Mapping[str, Sequence[HardNegative]]


@dataclass(frozen=True)
class Score:
    """`gain` in nDCG@10 over mined negatives alone, mean over the held-out `queries`, and its standard error;
    `likelihood` and its error are the same for the log-likelihood; `boundary` is the gain in boundary accuracy, None
    without near-misses."""

    gain: float
    error: float
    likelihood: float = 0.0
    likelihood_error: float = 0.0
    queries: Mapping[str, float] = field(default_factory=dict)
    boundary: float | None = None

    @property
    def value(self) -> float:
        """What sets are ranked by, -1 to 1: the mean of both gains, each bounded. Of three collections the likelihood
        alone orders sets like full training on two and nDCG@10 alone on the third; together they lose little on any
        (docs/lab_notes.md, "A third collection")."""
        return (math.tanh(self.gain / _MUCH_GAIN) + math.tanh(self.likelihood / _MUCH_LIKELIHOOD)) / 2


class Objective:
    """Scores sets of negatives for `pairs` (train pairs). `near[query_id]` are near-misses for dev queries.

    Raises DataError without dev queries, or for near-misses of queries that must not be seen here.
    """

    def __init__(
        self,
        encoder: Encoder,
        collection: Collection,
        pairs: Sequence[Pair],
        mined: Mapping[str, Sequence[MinedNegative]],
        config: Config,
        near: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        own = [pair.query_id for pair in pairs]
        dev = collection.splits["dev"]
        unseen = {*collection.splits["confirm"], *collection.splits["test"]}
        if not dev:
            raise DataError("no dev queries to optimize against", todo="give the collection a dev split")
        if foreign := unseen & {*own, *(near or {})}:
            raise DataError(f"query {min(foreign)!r} is of confirm or test, which an objective must not see")
        self.pairs, self._mined, self._config, self._near = list(pairs), mined, config, near or {}
        self._encoder, self._collection = encoder, collection
        chosen = held_out_queries(collection, own, config.probe.queries, config.seed)
        held_out = dev_set(encoder, collection, config.probe.passages, config.seed, chosen)
        self._standing = dict[str, tuple[int, list[str]]]()
        relevant = {q: collection.relevant_texts(q) for q in {*dev, *own}}
        self.probe = Probe(encoder, held_out, relevant, config.train, config.probe)
        self.lock = threading.RLock()  # of the probe's weights
        self._kept: dict[str, Score] = {}

    def score(self, negatives: Sets) -> Score:
        """The score of `negatives[query_id]`, the texts that passed the gates; queries without some keep mined ones."""
        key = fingerprint({q: [n.text for n in found] for q, found in sorted(negatives.items()) if found})
        with self.lock:  # single flight: who asks for the same set waits for the first
            if key not in self._kept:
                self._kept[key] = self.compared([self.instances(negatives, s) for s in self._seeds])
            return self._kept[key]

    def instances(self, negatives: Sets, seed: int) -> list[Instance]:
        """The rows that the probe trains on."""
        settings = self._config.mix
        weighed = {q: [(n, settings.weight) for n in found] for q, found in negatives.items()}
        return mix(Supply(self.pairs, self._mined, weighed, use="first"), settings, arm="hybrid", seed=seed)

    def compared(self, rows: Sequence[Sequence[Instance]]) -> Score:
        """The score of instances, one list for each seed of the probe."""
        ours = self._values(rows)
        gains = {metric: {q: ours[metric][q] - base for q, base in self._base[metric].items()} for metric in self._base}
        boundary = float(np.mean(list(gains[BOUNDARY].values()))) if gains[BOUNDARY] else None
        return Score(
            *mean_and_error(gains[MAIN_METRIC]),
            *mean_and_error(gains[LIKELIHOOD]),
            queries=gains[MAIN_METRIC],
            boundary=boundary,
        )

    @property
    def temperature(self) -> float:
        return self._config.train.temperature

    def mined(self, pair: Pair) -> Sequence[MinedNegative]:
        """The mined negatives of a pair."""
        return self._mined.get(pair.query_id, ())

    def dev_rows(self) -> list[Instance]:
        """The dev queries as rows with mined negatives, for the gradient of their loss."""
        pairs = self._collection.pairs("dev")
        found = mine(self._collection, pairs, self._encoder, self._config.mine).negatives
        return mix(Supply(pairs, found, use="first"), self._config.mix, arm="mined", seed=self._config.seed)

    def standing(self, pair: Pair) -> tuple[int, list[str]]:
        """The rank of the pair's best positive among all passages under the untuned encoder (`DEEPEST` + 1 for any
        below that), and the first `NEAREST` wrong ones."""
        if not self._standing:
            index = self._encoder.index(self._collection.passages)
            found = index.search(self._encoder.encode([p.query for p in self.pairs], "query"), DEEPEST)
            for one, hits in zip(self.pairs, found, strict=True):
                relevant = self._collection.relevant(one.query_id)
                rank = next((i for i, (doc_id, _) in enumerate(hits, 1) if doc_id in relevant), DEEPEST + 1)
                wrong = [doc_id for doc_id, _ in hits if doc_id not in {*relevant, one.query_id}][:NEAREST]
                self._standing[one.query_id] = rank, [self._collection.passages[doc_id] for doc_id in wrong]
        return self._standing[pair.query_id]

    @cached_property
    def _base(self) -> dict[str, dict[str, float]]:
        return self._values([self.instances({}, seed) for seed in self._seeds])

    @property
    def _seeds(self) -> range:
        return range(self._config.seed, self._config.seed + self._config.probe.seeds)

    def _values(self, rows: Sequence[Sequence[Instance]]) -> dict[str, dict[str, float]]:
        """Per metric and query the mean over seeds."""
        found = [self.probe.values(part, seed=s, near=self._near) for s, part in zip(self._seeds, rows, strict=True)]
        return {m: {q: float(np.mean([one[m][q] for one in found])) for q in values} for m, values in found[0].items()}


def mean_and_error(gains: Mapping[str, float]) -> tuple[float, float]:
    """Of one value a query: the mean and its standard error."""
    found = np.array(list(gains.values()))
    return float(found.mean()), float(found.std(ddof=1) / np.sqrt(len(found)))


def held_out_queries(collection: Collection, own: Sequence[str], wanted: int, seed: int) -> list[str]:
    """All dev queries, then train queries that no pair has, up to `wanted`; the pairs' `own`, too, where these are too
    few."""
    found = list(collection.splits["dev"])
    rest = sorted({*collection.splits["train"]} - {*own})
    random.Random(seed).shuffle(rest)
    found += rest[: max(0, wanted - len(found))]
    return found if len(found) >= wanted else [*found, *dict.fromkeys(own)]
