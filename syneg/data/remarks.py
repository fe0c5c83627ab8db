"""Warn about a collection before money and time go into it, in whole sentences.

    remarks(collection) → ["test has 9 queries: it cannot show a difference under about 0.19 nDCG@10.",
                           "31 of 960 passages repeat another one, such as 'd7'; …"]

`ReadLog` reports rows that were left out, and the split guard reports queries in two splits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from syneg.core.counts import counted, part_of
from syneg.core.near import near_key
from syneg.core.text import contains, word_count

from .collection import Collection
from .language import language_of
from .splits import TELLING

"""Fewest queries for a meaningful test, and for choosing the best arm on dev by more than chance."""

_SPREAD = 0.2  # standard deviation over queries of nDCG@10 differences: .13 to .25 in the runs of docs/results.md
_POWER = 1.96 + 0.84  # two-sided level .05, power 80 %
_CUTOFF = 10  # of nDCG@10
_NOTABLE_SHARE = 0.1  # share of queries from which a remark is made
_SENTENCE = 4  # words; shorter queries are in passages by chance
_WHOLE_CORPUS = 200_000  # passages; larger corpora are not searched for copies


def least_effect(queries: int) -> float:
    """About the smallest difference in nDCG@10 that a paired test on this number of queries detects in 4 of 5 cases.

    >>> [round(least_effect(count), 2) for count in (9, 50, 300)]
    [0.19, 0.08, 0.03]
    """
    return _POWER * _SPREAD / math.sqrt(max(1, queries))


def losses(collection: Collection) -> Iterator[str]:
    """Count what was left out of a collection, with one example each: bad rows, and leaks between train and test."""
    for lost, kind, done in (
        (collection.problems, "bad row", "skipped"),
        (collection.leaks, "train/test leak", "dropped"),
    ):
        if lost:
            yield f"{counted(len(lost), kind)} {done}, such as: {lost[0]}"


def remarks(collection: Collection) -> list[str]:
    """Every remark on a collection, the most serious first."""
    return [
        *_sizes(collection),
        *_shared_positives(collection),
        *_copies(collection),
        *_easy(collection),
        *_languages(collection),
    ]


def _sizes(collection: Collection) -> Iterator[str]:
    if (passages := len(collection.passages)) <= _CUTOFF:
        size = counted(passages, "passage")
        yield f"The corpus has {size}, and a ranking of {_CUTOFF} holds them all: give a larger --corpus."
    sizes = {split: len(ids) for split, ids in collection.splits.items()}
    if 0 < sizes["test"] < TELLING["test"]:
        least = least_effect(sizes["test"])
        tested = counted(sizes["test"], "query")
        yield f"test has {tested}: it cannot show a difference under about {least:.2f} nDCG@10."
    if 0 < sizes["dev"] < TELLING["dev"]:
        yield f"dev has {counted(sizes['dev'], 'query')}: the best arm on dev is largely a matter of chance."


def _shared_positives(collection: Collection) -> Iterator[str]:
    trained = {doc_id for query_id in collection.splits["train"] for doc_id in collection.relevant(query_id)}
    tested = collection.splits["test"]
    shared = [query_id for query_id in tested if collection.relevant(query_id) & trained]
    if trained and len(shared) > _NOTABLE_SHARE * len(tested):
        yield (
            f"{part_of(len(shared), len(tested), 'test query', 'shares', 'share')} a positive with train queries: "
            "their scores may come from knowing these passages."
        )


def _copies(collection: Collection) -> Iterator[str]:
    if len(collection.passages) <= _WHOLE_CORPUS:
        first: dict[str, str] = {}
        copies = [
            doc_id for doc_id, text in collection.passages.items() if first.setdefault(near_key(text), doc_id) != doc_id
        ]
        if copies:
            said = part_of(len(copies), len(collection.passages), "passage", "repeats", "repeat")
            yield (
                f"{said} another one, such as {copies[0]!r}: "
                "metrics count an unjudged copy of a relevant passage as wrong."
            )
        yield from _asked_in_the_corpus(collection, first)
    texts = {near_key(text) for text in collection.queries.values()}
    if repeated := len(collection.queries) - len(texts):
        said = part_of(repeated, len(collection.queries), "query", "repeats", "repeat")
        yield f"{said} another one; equal queries stay in one split."


def _asked_in_the_corpus(collection: Collection, first: Mapping[str, str]) -> Iterator[str]:
    """Queries whose text is a passage that does not answer them. `first` maps a `near_key` to the id of a passage.

    A passage with the id of its query is the query itself, as in BEIR, and no ranking holds it.
    """
    found = {query_id: first.get(near_key(text), query_id) for query_id, text in collection.queries.items()}
    unjudged = [d for q, d in found.items() if d != q and d not in collection.relevant(q)]
    if len(unjudged) > _NOTABLE_SHARE * len(found):
        said = part_of(len(unjudged), len(found), "query", "is", "are")
        yield (
            f"{said} also a passage, such as {unjudged[0]!r}, that is not relevant to it: metrics count it as wrong. "
            "Give such a passage the id of its query, and it is left out of rankings."
        )


def _easy(collection: Collection) -> Iterator[str]:
    """A query that its own positive contains is answered without any training. A name or keyword is in other texts."""
    inside = sum(
        word_count(query) >= _SENTENCE and any(contains(text, query) for text in collection.relevant_texts(query_id))
        for query_id, query in collection.queries.items()
    )
    if inside > _NOTABLE_SHARE * len(collection.queries):
        said = part_of(inside, len(collection.queries), "query", "occurs", "occur")
        yield f"{said} word for word in {'its' if inside == 1 else 'their'} positive: any encoder finds these."


def _languages(collection: Collection) -> Iterator[str]:
    passages, queries = language_of(collection.passages.values()), language_of(collection.queries.values())
    if passages and queries and passages != queries:
        yield f"The queries are {queries} and the passages {passages}: the encoder needs both languages."


def encoder_remark(collection: Collection, model: str) -> str:
    """Warn if the encoder's name says English and the passages are in another language; "" if not."""
    language, name = language_of(collection.passages.values()), model.casefold()
    english = any(part in f"{name}-" for part in ("local/minilm", "-en-", "all-minilm", "all-mpnet", "msmarco"))
    if language in ("", "English") or not english or "multilingual" in name:
        return ""
    return (
        f"The passages are {language}, and {model} was made for English: try --encoder intfloat/multilingual-e5-small."
    )
