"""A model over the whole corpus: exact search, then ranx, on dev, confirm and test.

    evaluate_model(encoder, collection, depth=100)
      → {"test": SplitResult(ranking={"q1": {"d3": .81, …}}, values={"ndcg@10": {"q1": 1.0}, …}), "dev": …}

As in BEIR, a passage with the id of the query does not count as found, unless it is judged for that query (in
`python-docs` a function's name is the id of both).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from syneg.core.progress import Tick
from syneg.data.collection import Collection

from .encoder import Encoder
from .indexes import DenseIndex
from .metrics import PerQuery, evaluate, without_own

EVALUATED = ("dev", "confirm", "test")


@dataclass(frozen=True)
class SplitResult:
    """`ranking[query_id][doc_id]` and `values[metric][query_id]` of one split."""

    ranking: dict[str, dict[str, float]]
    values: PerQuery


def evaluate_model(
    encoder: Encoder,
    collection: Collection,
    depth: int,
    progress: Tick | None = None,
    splits: Sequence[str] = EVALUATED,
) -> dict[str, SplitResult]:
    """Search all `splits` with `encoder`; a split without queries is left out."""
    index = DenseIndex.of(collection.passages, encoder, progress=progress)
    results = {}
    for split in splits:
        query_ids = collection.splits[split]
        if not query_ids:
            continue
        hits = index.search(encoder.encode([collection.queries[q] for q in query_ids], "query"), depth + 1)
        ranking = without_own(dict(zip(query_ids, hits, strict=True)), collection.qrels, depth)
        results[split] = SplitResult(ranking, evaluate(collection.qrels, ranking))
    return results
