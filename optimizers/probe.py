"""The probe: a stand-in for full training that takes seconds. It trains only the last layers of the encoder.

    probe = Probe(encoder, held_out, relevant, TrainConfig(), ProbeConfig())
    probe.values(instances, seed=0) → {"ndcg@10": {"q7": .63, "q9": 1.0, …}, "likelihood": {"q7": -1.2, …}}

With near-misses, nDCG@10 is also computed with them in the corpus (`BOUNDARY`), for the queries that have some.

Loss, mix and batches are those of full training, and the weights of the last layers really change. The output of the
frozen layers is cached for every text, so only the first probe pays for it.

The probe is scored on queries that it was not trained on. If the training rows contain some of them, it is
cross-fitted: train on all folds but one, score on that one. So a few hundred queries give a small error. There are two
figures: nDCG@10 (by ranx), which jumps for a few queries, and the log-likelihood of the relevant passages in a softmax
over all passages, which moves a little for every query. The softmax has the temperature that fits the probe's scores
best (temperature scaling, arXiv 1706.04599), otherwise sharper scores alone would win.

For two sets of negatives and one seed, initial weights, batches and folds are equal (common random numbers).
benchmarks/objective_fidelity.py measures how well the probe ranks sets as full training does. A linear adapter on
frozen embeddings does not rank them so (docs/lab_notes.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from syneg.core.config import ProbeConfig, TrainConfig
from syneg.core.errors import ConfigError
from syneg.core.records import Instance
from syneg.retrieval.dev_set import DevSet
from syneg.retrieval.encoder import Encoder
from syneg.retrieval.metrics import MAIN_METRIC, evaluate
from syneg.retrieval.prompts import Role
from syneg.retrieval.vectors import unit
from syneg.training.batches import Plan, PlannedBatches
from syneg.training.frozen import FrozenLayers
from syneg.training.loss import HybridInfoNCE
from syneg.training.merging import Embed
from syneg.training.weights import learning_rate, set_dropout, swift_attention

from .racing import fold_of

_CHUNK = 32  # texts embedded at once
_DEPTH = 10  # of the ranking that nDCG@10 needs
_TEMPERATURES = (0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1)
LIKELIHOOD, BOUNDARY = "likelihood", "ndcg@10 with near-misses"
Near = Mapping[str, Sequence[str]]  # query_id → texts, such as its near-misses


class Probe:
    """Trains the last `config.layers` layers and scores them, each time from the same initial weights.

    `held_out` holds all queries to score on; some may also occur in training rows. `relevant[query_id]` are the texts
    known to be relevant, `near[query_id]` near-misses, which join the corpus of `BOUNDARY`. An encoder without layers
    to freeze is trained as a whole.
    """

    def __init__(
        self,
        encoder: Encoder,
        held_out: DevSet,
        relevant: Mapping[str, Sequence[str]],
        train: TrainConfig,
        config: ProbeConfig,
        near: Near | None = None,
    ) -> None:
        self._encoder, self._held_out, self._relevant = encoder, held_out, relevant
        self._train, self._config, self._near = train, config, near or {}
        self._near_texts = [text for texts in self._near.values() for text in texts]
        most = min(encoder.config.max_tokens or config.max_tokens, config.max_tokens)
        # a fresh copy: `encoder` stays untuned
        self._model: Any = Encoder.load(encoder.config.model_copy(update={"max_tokens": most})).model
        set_dropout(self._model, 0.0)
        swift_attention(self._model)
        self._embed = self._frozen_part()
        self._weights = {n: w for n, w in self._model.named_parameters() if w.requires_grad}
        self._start = self.weights()
        frozen = train.model_copy(update={"frozen_layers": config.layers})
        self._rate = learning_rate(frozen, self._model) if config.learning_rate == "auto" else config.learning_rate

    def _frozen_part(self) -> Embed:
        try:
            return FrozenLayers(self._model, -self._config.layers).embed
        except ConfigError:
            return lambda model, features: model(features)["sentence_embedding"]

    def values(self, instances: Sequence[Instance], *, seed: int) -> dict[str, dict[str, float]]:
        """Train on `instances` and score; return metric (those of `score`) → query_id → value.

        With folds, the value is the mean over the probes that were not trained on the query.
        """
        cross = any(row.pair.query_id in self._held_out.queries for row in instances)
        folds = self._config.folds if cross else 1
        trained_on = {row.pair.query_id: fold_of(row.pair.query_id, folds) for row in instances}
        by_fold: dict[str, dict[str, list[float]]] = {}
        for fold in range(folds):
            rows = [row for row in instances if not cross or trained_on[row.pair.query_id] != fold]
            if not rows:
                continue
            self.train(rows, seed=seed)
            # every fold's probe scores the queries of no row; a query of a row is scored by the one that left it out
            scored = [q for q in self._held_out.queries if trained_on.get(q, fold) == fold]
            for metric, values in self.score(scored).items():
                of_metric = by_fold.setdefault(metric, {})
                for query_id, value in values.items():
                    of_metric.setdefault(query_id, []).append(value)
        return {metric: {q: float(np.mean(v)) for q, v in values.items()} for metric, values in by_fold.items()}

    def weights(self) -> dict[str, Tensor]:
        """A copy of the trainable weights, by name."""
        return {name: weights.detach().clone() for name, weights in self._weights.items()}

    def move(self, weights: Mapping[str, Tensor]) -> None:
        """Set the trainable weights, as `weights` returned them."""
        with torch.no_grad():
            for name, own in self._weights.items():
                own.copy_(weights[name])

    def _loss(self, rows: Sequence[Instance], train: TrainConfig, masked: Near) -> HybridInfoNCE:
        plain = train.model_copy(update={"guide": 0.0, "distil": 0.0, "cached_chunk": 0})
        known = {q: (*texts, *masked.get(q, ())) for q, texts in self._relevant.items()}
        return HybridInfoNCE(self._model, rows, known, plain, embed=self._embed)

    def train(
        self, rows: Sequence[Instance], *, seed: int, loss_of: TrainConfig | None = None, masked: Near | None = None
    ) -> None:
        """Reset the weights, and train them on `rows`, with the loss of `loss_of` if it is given.

        The texts `masked[query_id]` are no in-batch negatives of the query, as if they were relevant.
        """
        # start, batches and number of steps are equal for every set of negatives: only the texts differ
        self.move(self._start)
        loss = self._loss(rows, loss_of or self._train, masked or {})
        sampler = PlannedBatches([rows], self._relevant, Plan(self._train.batch_size, seed))
        steps = max(self._config.steps, round(sampler.steps * self._config.epochs))
        optimizer = torch.optim.AdamW(self._weights.values(), lr=self._rate, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
        self._model.train()
        done = epoch = 0
        while done < steps:
            sampler.set_epoch(epoch)
            for batch in sampler:
                if done == steps:
                    break
                # columns of features (batch, tokens): queries, positives, then one for each place of a negative
                with self._encoder.autocast():
                    value = loss(self._columns([rows[i] for i in batch]), torch.tensor(batch))
                optimizer.zero_grad(set_to_none=True)
                value.backward()
                # AdamW's first steps are large, so limit the gradient
                torch.nn.utils.clip_grad_norm_(self._weights.values(), 1.0)
                optimizer.step()
                schedule.step()
                done += 1
            epoch += 1

    def score(self, query_ids: Sequence[str]) -> dict[str, dict[str, float]]:
        """nDCG@10 and log-likelihood of each query with the current weights: metric → query_id → value.

        With near-misses also nDCG@10 with all of them in the corpus, for the queries that have some.
        """
        held_out, doc_ids = self._held_out, list(self._held_out.passages)
        place = {doc_id: i for i, doc_id in enumerate(doc_ids)}
        # scores (queries, passages and near-misses)
        passages = self.embed([*held_out.passages.values(), *self._near_texts], "passage")
        scores = self.embed([held_out.queries[q] for q in query_ids], "query") @ passages.T
        for query_id, row in zip(query_ids, scores, strict=True):
            # a passage with the query's own id is the query itself: rank it last
            if query_id in place and query_id not in held_out.qrels[query_id]:
                row[place[query_id]] = row.min()
        relevant = [[place[doc_id] for doc_id in sorted(held_out.relevant(query_id))] for query_id in query_ids]
        standard = scores[:, : len(doc_ids)]
        values = {
            MAIN_METRIC: self._ndcg(query_ids, standard),
            LIKELIHOOD: dict(zip(query_ids, _likelihoods(standard, relevant), strict=True)),
        }
        if places := [i for i, query_id in enumerate(query_ids) if query_id in self._near]:
            values[BOUNDARY] = self._ndcg([query_ids[i] for i in places], scores[places])
        return values

    def _ndcg(self, query_ids: Sequence[str], scores: np.ndarray) -> dict[str, float]:
        """nDCG@10 from `scores` (queries, passages); columns after the passages of the corpus are near-misses."""
        doc_ids = [*self._held_out.passages, *(f"near-miss {i}" for i in range(len(self._near_texts)))]
        ranking = {}
        for query_id, row in zip(query_ids, scores, strict=True):
            # the first ten, which nDCG@10 needs; ties in the order of the corpus
            top = np.argsort(-row, kind="stable")[:_DEPTH]
            ranking[query_id] = {doc_ids[i]: float(row[i]) for i in top}
        return evaluate(self._held_out.qrels, ranking, [MAIN_METRIC])[MAIN_METRIC]

    def embed(self, texts: Sequence[str], role: Role) -> np.ndarray:
        """Embeddings (n, dim), float32, with the current weights; of length 1 if the encoder uses cosines."""
        self._model.eval()
        # texts of similar length share a chunk, to save padding
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        embedded: list[Any] = [None] * len(texts)
        with torch.no_grad(), self._encoder.autocast():
            for start in range(0, len(order), _CHUNK):
                places = order[start : start + _CHUNK]
                vectors = self._embed(self._model, self._features([texts[place] for place in places], role))
                for place, vector in zip(places, vectors.float().cpu().numpy(), strict=True):
                    embedded[place] = vector
        return unit(np.stack(embedded)) if self._encoder.similarity == "cosine" else np.stack(embedded)

    def _columns(self, rows: Sequence[Instance]) -> list[dict[str, Tensor]]:
        texts = [[row.pair.positive for row in rows]]
        texts += [list(column) for column in zip(*(row.negatives for row in rows), strict=True)]
        queries = self._features([row.pair.query for row in rows], "query")
        return [queries, *(self._features(column, "passage") for column in texts)]

    def _features(self, texts: Sequence[str], role: Role) -> dict[str, Tensor]:
        return self._encoder.features(texts, role, self._model)


def _likelihoods(scores: np.ndarray, relevant: Sequence[Sequence[int]]) -> list[float]:
    """For each row of `scores` (queries, passages), the mean log-probability of its `relevant` places.

    Of `_TEMPERATURES`, the softmax uses the one that gives the highest mean over all rows.
    """
    by_temperature = []
    size = max(1.0, float(scores.max()))  # brings dot products to the scale of cosines
    for temperature in _TEMPERATURES:
        sharp = scores / (temperature * size)  # (queries, passages)
        whole = np.logaddexp.reduce(sharp, axis=1)  # (queries,): log of the softmax's denominator
        by_temperature.append(
            [float(np.mean(row[places]) - total) for row, places, total in zip(sharp, relevant, whole, strict=True)]
        )
    return max(by_temperature, key=lambda values: float(np.mean(values)))


def _rate(step: int, steps: int) -> float:
    """Factor of the learning rate at `step`: linear up over the first tenth of the steps, then linear down to 0."""
    warmup = max(1, steps // 10)
    return min((step + 1) / warmup, max(0.0, (steps - step) / max(1, steps - warmup)))
