"""Mine hard negatives from the corpus: passages near the query under BM25 or the encoder, and not judged relevant.

    Pair("3", "close a socket", "d3", "Close the socket …")
      → [MinedNegative("d9", "Shut down one half …", source="dense", rank=2, score=.44), …]    hardest first

Left out are:
- passages judged relevant to the query, near-copies of one, passages that contain one, and parts of one;
- the query itself, if the corpus contains it as a passage, by text or by id (ArguAna: there with a title);
- ranks outside the window `mine.first_rank` to `mine.last_rank`;
- passages that score over `mine.margin` of the positive's score under the encoder, which are often unjudged positives
  (NV-Retriever, arXiv 2407.15831, TopK-PercPos).

The negatives that the data names itself (`Collection.given_negatives`) are a source of their own, `given`. Neither the
window nor the margin holds for them.

Each reason is counted. `Mined.notes` warns the user, in one line each, of a source that finds nothing for most queries
and of queries without any negative.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from syneg.core.config import MineConfig
from syneg.core.counts import part_of
from syneg.core.progress import Tick
from syneg.core.records import MARGIN_RULE, MinedNegative, Pair, margin_limit
from syneg.data.collection import Collection
from syneg.retrieval.encoder import Encoder
from syneg.retrieval.indexes import Hits, LexicalIndex

from .judged import Judged, keys_of

_GROUP = 1024  # queries whose passages are looked up together
_SILENT = 0.5  # share of queries without a hit from which a source is reported
_Ranked = tuple[str, str, int]  # doc_id, source, rank
GIVEN = "given"  # the source of negatives that the data names


@dataclass
class Mined:
    """Result of mining.

    `negatives[query_id]` takes from the sources in turn, hardest first. `skipped` counts the reasons for passages that
    were left out. `short` is the number of queries with fewer negatives than asked for. `notes` are lines for the user.
    """

    negatives: dict[str, list[MinedNegative]]
    skipped: Counter[str] = field(default_factory=Counter)
    short: int = 0
    notes: list[str] = field(default_factory=list)


def mine(
    collection: Collection,
    pairs: Sequence[Pair],
    encoder: Encoder,
    config: MineConfig,
    progress: Tick | None = None,
) -> Mined:
    """Mine up to `mine.per_query` negatives for each pair. Deterministic: no step is random."""
    return Rankings.near(collection, pairs, encoder, config, progress).take(config)


@dataclass(frozen=True)
class Rankings:
    """The passages near each pair's query, from which negatives are taken by the rules of `[mine]`.

    `lists[source][place of the pair]` are ranked hits. `cosines` gives for each pair doc_id → score under the encoder;
    it can be read only once. `kept` makes rankings that several rules can take from.
    """

    collection: Collection
    pairs: Sequence[Pair]
    lists: Mapping[str, Hits]
    cosines: Iterable[Mapping[str, float]]
    key_of: Callable[[str], str]

    @classmethod
    def near(
        cls,
        collection: Collection,
        pairs: Sequence[Pair],
        encoder: Encoder,
        config: MineConfig,
        progress: Tick | None = None,
    ) -> Rankings:
        """Search `config.sources` to `config.last_rank`."""
        queries = encoder.encode([pair.query for pair in pairs], "query")  # (pairs, dim)
        # the window counts ranks of the raw list, relevant passages included
        given = [collection.given_negatives.get(pair.query_id, ()) for pair in pairs]
        lists: dict[str, Hits] = {GIVEN: [[(doc_id, 0.0) for doc_id in ids] for ids in given]} if any(given) else {}
        if "dense" in config.sources:
            lists["dense"] = encoder.index(collection.passages, progress).search(queries, config.last_rank)
        if "bm25" in config.sources:
            lists["bm25"] = LexicalIndex(collection.passages).search([pair.query for pair in pairs], config.last_rank)
        near = [
            dict.fromkeys([pair.doc_id, *(doc_id for hits in lists.values() for doc_id, _ in hits[i])])
            for i, pair in enumerate(pairs)
        ]
        return cls(collection, pairs, lists, _scored(near, queries, collection, encoder), keys_of(collection))

    def kept(self) -> Rankings:
        """The same with all scores in memory."""
        return replace(self, cosines=list(self.cosines))

    def take(self, config: MineConfig) -> Mined:
        """The negatives of the data, and those by the window, margin and sources of `config`, which must have been
        searched."""
        lists: dict[str, Hits] = {s: hits for s, hits in self.lists.items() if s in (GIVEN, *config.sources)}
        mined, passages = Mined({}, notes=_silent_sources(lists)), self.collection.passages
        margin = MARGIN_RULE if config.margin == "auto" else config.margin
        for i, (pair, cosine) in enumerate(zip(self.pairs, self.cosines, strict=True)):
            ranked = [_window(source, hits[i], config) for source, hits in lists.items()]
            judged = Judged(self.collection, pair.query_id, self.key_of)
            limit = margin_limit(cosine[pair.doc_id], margin)
            chosen = [
                MinedNegative(doc_id, passages[doc_id], source, rank, cosine[doc_id])
                for doc_id, source, rank in _choose(ranked, cosine, judged, limit, config.per_query, mined.skipped)
            ]
            mined.short += len(chosen) < config.per_query
            mined.negatives[pair.query_id] = chosen
        sources = [negative.source for chosen in mined.negatives.values() for negative in chosen]
        if own := sources.count(GIVEN):
            mined.notes.append(part_of(own, len(sources), "negative", "is", "are") + " named by the data")
        if empty := sum(not chosen for chosen in mined.negatives.values()):
            reasons = ", ".join(f"{reason} {count}" for reason, count in mined.skipped.most_common())
            mined.notes.append(
                f"{empty} of {len(self.pairs)} queries got no mined negative (left out: {reasons or 'nothing'}); "
                f"{more_advice(len(passages), config)}"
            )
        return mined


def more_advice(passages: int, config: MineConfig) -> str:
    """How to mine more negatives from a corpus of so many passages."""
    if passages > config.last_rank:
        return "raise mine.last_rank or mine.margin"
    return "give more passages (--corpus), or raise mine.margin"


def _silent_sources(lists: Mapping[str, Hits]) -> list[str]:
    """A line for each source that finds nothing for most queries."""
    notes = []
    for source, hits in lists.items():
        if source == GIVEN:
            continue
        silent = sum(not ranked for ranked in hits)
        if silent > _SILENT * max(1, len(hits)):
            notes.append(
                f"{source} finds no passage for {silent} of {len(hits)} queries: do queries and passages share a "
                "language?"
            )
    return notes


def _scored(
    near: Sequence[Iterable[str]], queries: np.ndarray, collection: Collection, encoder: Encoder
) -> Iterator[dict[str, float]]:
    """For each of `queries` (n, dim), the score of every passage in `near`, by doc_id.

    Embeddings come from the index if it holds them. Else they are looked up for 1,024 queries at once, since neighbours
    are shared.
    """
    held = encoder.vectors_held(collection.passages)
    if held is not None:
        for ids, query in zip(near, queries, strict=True):
            yield dict(zip(ids, (held.vectors(ids) @ query).tolist(), strict=True))
        return
    for start in range(0, len(queries), _GROUP):
        group = near[start : start + _GROUP]
        rows = {doc_id: row for row, doc_id in enumerate(dict.fromkeys(d for ids in group for d in ids))}
        vectors = encoder.encode([collection.passages[doc_id] for doc_id in rows], "passage")
        for ids, query in zip(group, queries[start : start + _GROUP], strict=True):
            scores = vectors[[rows[doc_id] for doc_id in ids]] @ query
            yield dict(zip(ids, scores.tolist(), strict=True))


def _window(source: str, hits: Sequence[tuple[str, float]], config: MineConfig) -> Iterator[_Ranked]:
    """The hits of a source inside the window. Ranks start at 1. All hits of `given` are inside."""
    first, last = (1, len(hits)) if source == GIVEN else (max(config.first_rank, 1), config.last_rank)
    return ((doc_id, source, rank) for rank, (doc_id, _) in enumerate(hits[first - 1 : last], first))


def _choose(
    ranked: Sequence[Iterator[_Ranked]],
    scores: Mapping[str, float],
    judged: Judged,
    limit: float,
    wanted: int,
    skipped: Counter[str],
) -> list[_Ranked]:
    """Take from the sources in turn, each in rank order, up to `wanted` passages; count what is left out.

    Texts are compared last, because their keys are slow to make.
    """
    queues, chosen = list(ranked), dict[str, _Ranked]()
    while queues and len(chosen) < wanted:
        for queue in list(queues):
            for passage in queue:
                doc_id, source, _ = passage
                if doc_id in chosen:
                    continue
                if doc_id in judged.ids:
                    skipped["judged relevant"] += 1
                elif scores[doc_id] > limit and source != GIVEN:
                    skipped["over the margin of the positive"] += 1
                elif judged.excludes(doc_id):
                    skipped["the text of a relevant passage or of the query"] += 1
                else:
                    chosen[doc_id] = passage
                    break
            else:
                queues.remove(queue)
            if len(chosen) == wanted:
                break
    return list(chosen.values())


def scores_of(
    encoder: Encoder, pairs: Sequence[Pair], texts: Sequence[Sequence[str]]
) -> list[tuple[np.ndarray, float]]:
    """For each pair, the scores (texts,) of its query with its texts, and the score with its positive.

    Scores are cosines, or dot products if the encoder uses them.
    """
    queries = encoder.encode([pair.query for pair in pairs], "query")
    positives = encoder.encode([pair.positive for pair in pairs], "passage")
    flat = encoder.encode([text for group in texts for text in group], "passage")
    ends = np.cumsum([len(group) for group in texts])
    groups = np.split(flat, ends[:-1]) if len(texts) else []
    return [
        (group @ query if len(group) else np.zeros(0, np.float32), float(query @ positive))
        for query, positive, group in zip(queries, positives, groups, strict=True)
    ]
