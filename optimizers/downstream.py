"""What written queries do to retrieval: nDCG@10 of real queries under a probe trained on rows of them.

    downstream = Downstream(encoder, collection, config, dev_ids, doc_ids)
    downstream.gains({"d17": "how do I close a socket", …})    → {"q7": .05, "q9": 0.0, …}

A row is a written query, its own passage as the positive, and negatives mined for it with the 95 % rule. The gain of a
query is over the untuned encoder. Gains are cached by the written queries. One set is scored at a time, since the probe
has one copy of the weights.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from syneg.core.config import Config
from syneg.core.records import MARGIN_RULE, Instance, Pair, fingerprint
from syneg.data.collection import Collection
from syneg.negatives.mining import mine
from syneg.retrieval.dev_set import dev_set
from syneg.retrieval.encoder import Encoder
from syneg.retrieval.metrics import MAIN_METRIC
from syneg.training.sampling import Supply, mix

from .probe import Probe

_FEWEST = 2  # queries that have a standard error
Gains = Mapping[str, float]


class Downstream:
    """Scores queries written for the passages `doc_ids`, on the queries `held_out` of the collection."""

    def __init__(
        self,
        encoder: Encoder,
        collection: Collection,
        config: Config,
        held_out: Sequence[str],
        doc_ids: Sequence[str],
    ) -> None:
        """With under two held-out queries all gains are {}."""
        self.encoder, self.passages = encoder, collection.passages
        self._collection, self._config = collection, config
        self._held_out, self._doc_ids = list(held_out) if len(held_out) >= _FEWEST else [], doc_ids
        self._lock, self._kept = threading.RLock(), dict[str, Gains]()

    @cached_property
    def _probe(self) -> Probe:
        config, collection = self._config, self._collection
        held_out = dev_set(self.encoder, collection, config.probe.passages, config.seed, self._held_out)
        relevant = {_id(doc_id): (self.passages[doc_id],) for doc_id in self._doc_ids}
        return Probe(self.encoder, held_out, relevant, config.train, config.probe)

    @cached_property
    def _untuned(self) -> Gains:
        return self._probe.score(self._held_out)[MAIN_METRIC]

    def gains(self, queries: Mapping[str, str]) -> Gains:
        """query_id of each held-out query → gain in nDCG@10 after training on `queries`, doc_id → written query; {} for
        no queries."""
        if not self._held_out or not queries:
            return {}
        key = fingerprint(dict(sorted(queries.items())))
        with self._lock:
            if key not in self._kept:
                base = self._untuned  # before the weights move
                by_seed = [self._probe.values(rows, seed=seed)[MAIN_METRIC] for seed, rows in self._rows(queries)]
                self._kept[key] = {q: float(np.mean([values[q] for values in by_seed])) - base[q] for q in base}
            return self._kept[key]

    def _rows(self, queries: Mapping[str, str]) -> list[tuple[int, list[Instance]]]:
        """For each seed of the probe, one row for each written query."""
        config = self._config
        pairs = [Pair(_id(d), text, d, self.passages[d], (self.passages[d],)) for d, text in sorted(queries.items())]
        asked = replace(
            self._collection, queries={pair.query_id: pair.query for pair in pairs},
            qrels={pair.query_id: {pair.doc_id: 1.0} for pair in pairs}, splits={"train": tuple(map(_id, queries))},
        )  # fmt: skip
        rule = config.mine.model_copy(update={"margin": MARGIN_RULE, "sources": ("dense",)})
        supply = Supply(pairs, mine(asked, pairs, self.encoder, rule).negatives, use="first")
        seeds = range(config.seed, config.seed + config.probe.seeds)
        return [(seed, mix(supply, config.mix, arm="mined", seed=seed)) for seed in seeds]


def _id(doc_id: str) -> str:
    return f"written for {doc_id}"
