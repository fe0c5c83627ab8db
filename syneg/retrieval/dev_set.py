"""The dev score of training: nDCG@10 of the dev queries over a small corpus, which is quick to embed.

    dev_set(encoder, collection, size=1000, seed=0) → DevSet(queries={…129}, passages={…1000}, qrels={…})
    DevScore(dev, encoder)(model) → {"dev_ndcg@10": .683}

The corpus is what is relevant to the dev queries, what the untuned encoder finds for them, and other passages by seed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.evaluation import SentenceEvaluator

from syneg.data.collection import Collection, relevant_of

from .encoder import Encoder
from .indexes import DenseIndex
from .metrics import MAIN_METRIC, evaluate, mean, without_own

_NEIGHBOURS = 20
_DEPTH = 10  # what nDCG@10 looks at
DEV_METRIC = f"dev_{MAIN_METRIC}"


@dataclass(frozen=True)
class DevSet:
    """Texts by id, `qrels[query_id][doc_id]` as judged, and the grade from which a passage is relevant."""

    queries: dict[str, str]
    passages: dict[str, str]
    qrels: dict[str, dict[str, float]]
    min_relevance: float = 1.0

    def relevant(self, query_id: str) -> list[str]:
        """Ids of the relevant passages that are in the set, in the order of the qrels."""
        relevant = relevant_of(self.qrels[query_id], self.min_relevance)
        return [doc_id for doc_id in self.qrels[query_id] if doc_id in relevant and doc_id in self.passages]


def dev_set(
    encoder: Encoder, collection: Collection, size: int, seed: int, query_ids: Sequence[str] | None = None
) -> DevSet:
    """The dev queries (or `query_ids`) with `size` passages, or with all that are relevant where those are more.

    Of more than `size` / 2 dev queries as many are drawn by seed: each brings a relevant passage, and a split such as
    that of MS MARCO (55,578 queries) would be embedded whole at every evaluation.
    """
    if query_ids is None:
        query_ids = collection.splits["dev"]
        most = max(1, size // 2)
        query_ids = sorted(random.Random(seed).sample(query_ids, most)) if len(query_ids) > most else query_ids
    queries = {query_id: collection.queries[query_id] for query_id in query_ids}
    doc_ids = list(collection.passages)
    nearest = encoder.index(collection.passages).search(encoder.encode(list(queries.values()), "query"), _NEIGHBOURS)
    # every passage with a gain: nDCG's best ranking holds them all
    gains = {query_id: [d for d, grade in collection.qrels[query_id].items() if grade > 0] for query_id in queries}
    chosen = {doc_id: None for doc_ids in gains.values() for doc_id in sorted(doc_ids)}
    by_rank = [hits[rank][0] for rank in range(_NEIGHBOURS) for hits in nearest if rank < len(hits)]
    others = random.Random(seed).sample(doc_ids, len(doc_ids))
    for doc_id in (*by_rank, *others):
        if len(chosen) >= size:
            break
        chosen[doc_id] = None
    passages, qrels = {d: collection.passages[d] for d in chosen}, {q: collection.qrels[q] for q in queries}
    return DevSet(queries, passages, qrels, collection.min_relevance)


class DevScore(SentenceEvaluator):
    """A DevSet as sentence-transformers' trainer wants it; the higher the better."""

    def __init__(self, dev: DevSet, encoder: Encoder) -> None:
        super().__init__()
        self.primary_metric = MAIN_METRIC
        self._dev, self._encoder = dev, encoder

    def __call__(self, model: SentenceTransformer, *args: Any, **kwargs: Any) -> dict[str, float]:
        queries = self._encoder.forward(list(self._dev.queries.values()), "query", model)
        passages = self._encoder.forward(list(self._dev.passages.values()), "passage", model)
        hits = DenseIndex(list(self._dev.passages), passages).search(queries, _DEPTH + 1)
        ranking = without_own(dict(zip(self._dev.queries, hits, strict=True)), self._dev.qrels, _DEPTH)
        return {DEV_METRIC: mean(evaluate(self._dev.qrels, ranking, [MAIN_METRIC])[MAIN_METRIC])}
