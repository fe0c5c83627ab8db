"""Write queries for a corpus that has none: choose passages from all over it, run a program, apply gates.

    one_per_cluster(passages, encoder, 200, seed=0)  → ["d17", "d804", …]
    written(asked, program, writer, …)               → [WrittenQuery("w-51f2…", "how do I …", "d17", …), …]
    gated(queries, passages, encoder, config)        → the same queries; a rejected one has a reason

Each passage is the nearest to a centre of k-means (faiss) over the embeddings, so that the queries cover the topics of
the corpus. A query is kept if it finds its own passage among the first hits of the encoder or of BM25 (round trip, as
in Promptagator, arXiv 2209.11755), and does not repeat an earlier query. One of the two searches is enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dspy
import numpy as np

from syneg.core.lm_settings import QueriesConfig
from syneg.core.progress import Tick
from syneg.core.text import cut, normalise, word_count
from syneg.core.threads import in_order
from syneg.data.cells import made_id
from syneg.llm.calls import attempted, purpose
from syneg.llm.lms import LanguageModel
from syneg.retrieval.encoder import Encoder
from syneg.retrieval.indexes import LexicalIndex

KINDS = ("a question", "a few keywords", "a sentence that says what is looked for")
AS_EXAMPLES = "as the examples"
_FEWEST_WORDS, SHORTEST, LONGEST = 8, 2, 40  # words: of a passage, of a query
_SHOWN = 5  # examples in one call


@dataclass(frozen=True)
class Asked:
    """The inputs of the program for one passage: the kind of query to write, and examples of real queries."""

    doc_id: str
    passage: str
    kind: str
    examples: tuple[str, ...]


@dataclass(frozen=True)
class WrittenQuery:
    """A query that was written for a passage.

    `reason` tells why a gate rejected it, and is empty if it is kept. `rank` is the better rank of its passage in the
    two searches, from 1; None if neither finds it.
    """

    query_id: str
    text: str
    doc_id: str
    kind: str
    reason: str = ""
    rank: int | None = None
    calls: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        return not self.reason


def one_per_cluster(passages: Mapping[str, str], encoder: Encoder, count: int, seed: int) -> list[str]:
    """Ids of at most `count` passages, one from each cluster of their embeddings, in the order of the corpus.

    Only passages of eight words or more count; in a corpus of shorter texts, such as titles, those of the median length
    or more. If there are at most `count` of them, all are returned.
    """
    lengths = {doc_id: word_count(text) for doc_id, text in passages.items()}
    fewest = min(_FEWEST_WORDS, float(np.median([*lengths.values()] or [0])))
    doc_ids = [doc_id for doc_id, length in lengths.items() if length >= fewest]
    if len(doc_ids) <= count:
        return doc_ids
    import faiss

    vectors = np.ascontiguousarray(encoder.encode([passages[doc_id] for doc_id in doc_ids], "passage"), np.float32)
    clusters = faiss.Kmeans(
        vectors.shape[1], count, niter=20, nredo=3, seed=seed, spherical=True, min_points_per_centroid=1
    )
    clusters.train(vectors)
    nearness, cluster = (columns[:, 0] for columns in clusters.index.search(vectors, 1))
    best: dict[int, int] = {}
    for place in np.argsort(-nearness, kind="stable"):
        best.setdefault(int(cluster[place]), int(place))
    return [doc_ids[place] for place in sorted(best.values())]


def ask_for_queries(
    passages: Mapping[str, str], doc_ids: Sequence[str], examples: Sequence[str], words: int
) -> list[Asked]:
    """The program's inputs for each passage, cut to `words` words.

    Each passage gets the next five examples. Without examples it gets the next of `KINDS`.
    """
    asked = []
    for place, doc_id in enumerate(doc_ids):
        shown = (
            tuple(examples[(place * _SHOWN + i) % len(examples)] for i in range(min(_SHOWN, len(examples))))
            if examples
            else ()
        )
        kind = AS_EXAMPLES if examples else KINDS[place % len(KINDS)]
        asked.append(Asked(doc_id, cut(passages[doc_id], words), kind, shown))
    return asked


def written(
    asked: Sequence[Asked], program: dspy.Module, writer: LanguageModel, task: str, progress: Tick | None = None
) -> list[WrittenQuery]:
    """Write one query for each passage, in order. An answer that cannot be read gives a query without text.

    Raises BackendError when the LM keeps failing; the answers so far are in the ledger.
    """

    def work(passage: Asked) -> WrittenQuery:
        with (
            purpose(f"query for {passage.doc_id}") as current,
            dspy.context(lm=writer.lm_for(0, 1), adapter=writer.adapter),
        ):
            ask = {"passage": passage.passage, "task": task, "kind": passage.kind, "examples": passage.examples}
            text = first_query(attempted(program, ask)[0])
        calls = tuple(call.key for call in current.calls)
        return WrittenQuery(made_id("w", text or passage.doc_id), text, passage.doc_id, passage.kind, calls=calls)

    return in_order(work, asked, writer.engine.config.concurrency, progress)


def first_query(prediction: Any) -> str:
    """The first of the `queries` of a prediction, on one line and without quotation marks; "" if there is none."""
    queries = getattr(prediction, "queries", None)
    return " ".join(str(queries[0]).split()).strip("\"'“”") if queries else ""


def gated(
    queries: Sequence[WrittenQuery],
    passages: dict[str, str],
    encoder: Encoder,
    config: QueriesConfig,
    known: Sequence[str] = (),
) -> list[WrittenQuery]:
    """Apply the gates; return all queries in order, each rejected one with its reason.

    Gates: readable, 2 to 40 words, no repetition, round trip, no near-duplicate by cosine. `known` are the user's own
    queries, which must not be repeated either.
    """
    taken = {normalise(text) for text in known}
    checked = []
    for query in queries:
        reason = "" if query.text else "unparseable answer"
        if not reason and not SHORTEST <= word_count(query.text) <= LONGEST:
            reason = "too short or too long"
        if not reason and normalise(query.text) in taken:
            reason = "repeats another query"
        if not reason:
            taken.add(normalise(query.text))
        checked.append(replace(query, reason=reason))
    sound = [query for query in checked if query.accepted]
    if not sound:
        return checked
    vectors = encoder.encode([query.text for query in sound], "query")
    ranks = _ranks(sound, vectors, passages, encoder, max(1, config.round_trip))
    kept = list(encoder.encode(list(known), "query")) if known else []
    judged: dict[int, WrittenQuery] = {}
    for query, vector, rank in zip(sound, vectors, ranks, strict=True):
        reason = ""
        if config.round_trip and rank is None:
            reason = "does not find its passage"
        elif config.near_duplicate and kept and float(np.max(np.stack(kept) @ vector)) >= config.near_duplicate:
            reason = "near-duplicate of another query"
        else:
            kept.append(vector)
        judged[id(query)] = replace(query, reason=reason, rank=rank)
    return [judged.get(id(query), query) for query in checked]


def _ranks(
    queries: Sequence[WrittenQuery], vectors: np.ndarray, passages: dict[str, str], encoder: Encoder, depth: int
) -> list[int | None]:
    """The better rank of each query's passage among the first `depth` hits of the encoder and of BM25.

    Ranks start at 1. None if neither search finds the passage.
    """
    lists = (
        encoder.index(passages).search(vectors, depth),
        LexicalIndex(passages).search([q.text for q in queries], depth),
    )
    ranks = []
    for place, query in enumerate(queries):
        rankings = [[doc_id for doc_id, _ in hits[place]] for hits in lists]
        ranks.append(min((row.index(query.doc_id) + 1 for row in rankings if query.doc_id in row), default=None))
    return ranks
