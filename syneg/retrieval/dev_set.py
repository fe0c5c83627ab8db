"""Cut a small corpus for the dev queries, so that training can be scored often.

    dev_set(encoder, collection, size=1000, seed=0) → DevSet(queries={…129}, passages={…1000}, qrels={…})

The corpus holds the relevant passages of the dev queries, their nearest passages by the untuned encoder, and passages
drawn by seed. `dev_score` scores a model on it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from syneg.data.collection import Collection
from syneg.data.grades import relevant_of

from .encoder import Encoder

_NEIGHBOURS = 20  # nearest passages of each dev query


@dataclass(frozen=True)
class DevSet:
    """Texts by id, the grades `qrels[query_id][doc_id]`, and the lowest grade that counts as relevant."""

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
    """Choose `size` passages for the dev queries (or for `query_ids`). Every relevant passage is taken, even beyond
    `size`.

    At most `size` / 2 dev queries are used, drawn by seed. MS MARCO has 55,578 of them, and each would be embedded at
    every evaluation.
    """
    if query_ids is None:
        query_ids = collection.splits["dev"]
        most = max(1, size // 2)
        query_ids = sorted(random.Random(seed).sample(query_ids, most)) if len(query_ids) > most else query_ids
    queries = {query_id: collection.queries[query_id] for query_id in query_ids}
    doc_ids = list(collection.passages)
    nearest = encoder.index(collection.passages).search(encoder.encode(list(queries.values()), "query"), _NEIGHBOURS)
    # take every passage with a grade over 0, because the ideal ranking of nDCG contains them all
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
