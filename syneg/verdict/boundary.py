"""The boundary test: near-misses of held-out queries join the corpus; does the encoder rank the positives above them?

    near = {"q7": ["We follow 112 giant planets …"]}        by another program than the one that wrote training texts
    boundary_scores(encoder, collection, near) → Scores(positive={"q7": .61}, near={"q7": {"near-0": .58, …}}, …)
    boundary_values(scores, ranking, qrels)    → {"accuracy": {"q7": 1.0}, "ndcg@10": {"q7": .63}}

Most collections contain few near-misses, so standard figures hardly show whether an encoder knows them; users of a RAG
system do meet them. This test stands beside the standard figures and replaces none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from syneg.data.collection import Collection
from syneg.retrieval.encoder import Encoder
from syneg.retrieval.metrics import MAIN_METRIC, PerQuery, Ranking, evaluate


@dataclass(frozen=True)
class Scores:
    """Scores of each query under one encoder: cosines, or dot products if the encoder uses them.

    `positive[query_id]` is the score of its best relevant passage, `near[query_id][near_id]` that of every near-miss of
    every query. `owner[near_id]` is the query that the near-miss was written for.
    """

    positive: dict[str, float]
    near: dict[str, dict[str, float]]
    owner: dict[str, str]


def boundary_scores(encoder: Encoder, collection: Collection, near: Mapping[str, Sequence[str]]) -> Scores:
    """Score the queries of `near` (query_id → texts of its near-misses) with their positives and all near-misses."""
    texts = [text for texts_of_query in near.values() for text in texts_of_query]
    owner = {f"near-{i}": q for i, q in enumerate(q for q, texts_of_query in near.items() for _ in texts_of_query)}
    queries = encoder.encode([collection.queries[query_id] for query_id in near], "query")
    misses = queries @ encoder.encode(texts, "passage").T  # (queries, near-misses)
    positive = {}
    for query_id, vector in zip(near, queries, strict=True):
        relevant = collection.relevant_texts(query_id)
        positive[query_id] = float(np.max(encoder.encode(relevant, "passage") @ vector))
    scored = {q: dict(zip(owner, map(float, row), strict=True)) for q, row in zip(near, misses, strict=True)}
    return Scores(positive, scored, owner)


def boundary_values(scores: Scores, ranking: Ranking, qrels: Mapping[str, Mapping[str, float]]) -> PerQuery:
    """Values of each query: `accuracy`, and nDCG@10 with the near-misses of all queries in the corpus.

    `accuracy` is the share of its own near-misses that score below its positive. `ranking` is the query's ranking of
    the corpus without near-misses.
    """
    accuracy = {}
    for query_id, positive in scores.positive.items():
        own = [score for near_id, score in scores.near[query_id].items() if scores.owner[near_id] == query_id]
        accuracy[query_id] = float(np.mean([score < positive for score in own]))
    together = {query_id: {**ranking[query_id], **scores.near[query_id]} for query_id in scores.positive}
    return {"accuracy": accuracy, **evaluate(qrels, together, [MAIN_METRIC])}
