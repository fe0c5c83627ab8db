"""Grounded negatives: real passages near a written text, used in place of the text.

    near = nearest(collection, encoder, pairs, {"3": ["Shut down one half …"]})    → {"3": ["d9", "d4", …]}
    ground(collection, encoder, pairs, near, {"3": {"d9": 1, "d4": 3}}, mining)
      → {"3": [MinedNegative("d9", "Shut down the sending half …", source="grounded", rank=1, score=.44), …]}

A written near-miss shows what hard passages for a query look like, and the corpus often contains some. These have the
style of the corpus, so an encoder cannot recognise them by their source. All written texts are searched with, also
those that the gates rejected. A passage that a trusted reader graded 0 or 1 is used, one graded 2 or 3 is not. An
ungraded passage is used if it is under the margin of mining (`mine.margin`). A passage judged relevant is never used.
`syneg.run.near_readings` asks the reader.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest

from syneg.core.config import MineConfig
from syneg.core.records import MARGIN_RULE, MinedNegative, Pair, margin_limit
from syneg.data.collection import Collection
from syneg.retrieval.encoder import Encoder

from .judged import Judged, keys_of
from .mining import scores_of
from .reading import NEAR

SOURCE = "grounded"
_DEPTH = 20  # nearest passages to look at for each text
Grades = Mapping[str, Mapping[str, int]]


def nearest(
    collection: Collection, encoder: Encoder, pairs: Sequence[Pair], texts: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """Find for each pair with `texts[query_id]` the doc_ids nearest to them, the nearest first.

    What was judged relevant, or is a copy of it, is left out. Pairs without texts are not in the result.
    """
    written = [pair for pair in pairs if texts.get(pair.query_id)]
    if not written:
        return {}
    flat = [text for pair in written for text in texts[pair.query_id]]
    hits = iter(encoder.index(collection.passages).search(encoder.encode(flat, "passage"), _DEPTH))
    key_of, near = keys_of(collection), {}
    for pair in written:
        judged = Judged(collection, pair.query_id, key_of)
        lists = [[doc_id for doc_id, _ in next(hits)] for _ in texts[pair.query_id]]
        by_rank = (doc_id for row in zip_longest(*lists) for doc_id in row if doc_id is not None)
        near[pair.query_id] = [doc_id for doc_id in dict.fromkeys(by_rank) if not judged.excludes(doc_id)]
    return near


def ground(
    collection: Collection,
    encoder: Encoder,
    pairs: Sequence[Pair],
    near: Mapping[str, Sequence[str]],
    grades: Grades,
    config: MineConfig,
) -> dict[str, list[MinedNegative]]:
    """Take up to `mine.per_query` passages for each pair with `near[query_id]`, doc_ids, the first ones first.

    `grades[query_id][doc_id]` are a trusted reader's. Pairs that `near` leaves out are not in the result.
    """
    found = [pair for pair in pairs if pair.query_id in near]
    if not found:
        return {}
    texts = [[collection.passages[doc_id] for doc_id in near[pair.query_id]] for pair in found]
    margin = MARGIN_RULE if config.margin == "auto" else config.margin
    grounded = {}
    for pair, (scores, positive) in zip(found, scores_of(encoder, found, texts), strict=True):
        own, known = near[pair.query_id], grades.get(pair.query_id, {})
        limit = margin_limit(positive, margin)
        taken = [
            MinedNegative(doc_id, collection.passages[doc_id], SOURCE, rank, score)
            for rank, (doc_id, score) in enumerate(zip(own, scores.tolist(), strict=True), 1)
            if (known[doc_id] <= NEAR if doc_id in known else score <= limit)
        ]
        grounded[pair.query_id] = taken[: config.per_query]
    return grounded
