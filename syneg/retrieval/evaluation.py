"""Evaluate a model on the whole corpus: search exactly, then score dev, confirm and test with ranx.

    evaluate_model(encoder, collection, depth=100)
      → {"test": SplitResult(ranking={"q1": {"d3": .81, …}}, values={"ndcg@10": {"q1": 1.0}, …}), "dev": …}

As in BEIR, a passage with the id of the query is removed from its ranking, unless it is judged for that query. (In
`python-docs` the name of a function is the id of both.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from syneg.core.progress import Tick
from syneg.data.collection import Collection

from .encoder import Encoder
from .indexes import search_corpus
from .metrics import PerQuery, evaluate, without_own

EVALUATED = ("dev", "confirm", "test")


@dataclass(frozen=True)
class SplitResult:
    """Result of one split: scores `ranking[query_id][doc_id]` and metrics `values[metric][query_id]`."""

    ranking: dict[str, dict[str, float]]
    values: PerQuery


def evaluate_model(
    encoder: Encoder,
    collection: Collection,
    depth: int,
    progress: Tick | None = None,
    splits: Sequence[str] = EVALUATED,
) -> dict[str, SplitResult]:
    """Search with `encoder`, keep `depth` passages per query, and score `splits`. Empty splits are left out."""
    query_ids = [query_id for split in splits for query_id in collection.splits[split]]
    queries = encoder.encode([collection.queries[query_id] for query_id in query_ids], "query")
    hits = search_corpus(queries, collection.passages, encoder, depth + 1, progress)
    ranking = without_own(dict(zip(query_ids, hits, strict=True)), collection.qrels, depth)
    results = {}
    for split in splits:
        if own := {query_id: ranking[query_id] for query_id in collection.splits[split]}:
            results[split] = SplitResult(own, evaluate(collection.qrels, own, min_relevance=collection.min_relevance))
    return results
