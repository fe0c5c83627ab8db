"""Which passages must not be negatives of a query: what is relevant to it, by id and by text, and the query itself.

    Judged(collection, "3", keys_of(collection)).excludes("d9") → True: it holds the text of a relevant passage

Texts are compared by `near_key`, which is slow to make. A fast test comes first, and tells most passages apart by
their first words and by the longest words of the relevant text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from syneg.core.near import MARKS, near_key, near_words
from syneg.core.text import normalise, word_count
from syneg.data.collection import Collection

_KEYS = 20_000  # passages whose keys are kept: 20 MB for passages of 1,000 characters
_MARKS = 6  # words of a text by which a longer one that contains it is recognised
_PART_WORDS = 4  # a shorter passage is contained in many others by chance
# Characters that `normalise` neither removes nor makes ASCII of: lower() keeps every ASCII word of such a text
_SIMPLE = re.compile(
    "[\x00-\x7f\xa0\xa1\xa3\xa5-\xa7\xab\xac\xae\xb0\xb1\xb5-\xb7\xbb\xbf-\xde\xe0-\xff"
    "\u0391-\u03c9\u2010-\u2016\u2018-\u2022\u2212\u2264\u2265]*"
)


def keys_of(collection: Collection) -> Callable[[str], str]:
    """A function doc_id → `near_key` of its passage. It caches keys, which are slow to make: queries share passages."""
    return lru_cache(_KEYS)(lambda doc_id: near_key(collection.passages[doc_id]))


class Judged:
    """Passages that must not be negatives of one query: relevant ones, by id and by text, and the query itself."""

    def __init__(self, collection: Collection, query_id: str, key_of: Callable[[str], str]) -> None:
        """`key_of` maps a doc_id to the `near_key` of its passage (`keys_of`)."""
        self.key_of = key_of
        self.ids = collection.no_negative(query_id)
        self.own = {query_id} - {*collection.qrels[query_id]}  # as in BEIR: the query itself, in the corpus
        self.texts = {near_key(text) for text in collection.answers(query_id)}
        self.query = near_key(collection.queries[query_id])
        self._passages = collection.passages
        self._marks = [(text, _longest_words(text)) for text in self.texts]

    def is_known(self, doc_id: str) -> bool:
        """Whether a passage is relevant, is a piece of a positive, or is the query itself."""
        return doc_id in self.ids or doc_id in self.own or self.key_of(doc_id) == self.query

    def excludes(self, doc_id: str) -> bool:
        """Whether a passage must not be a negative: also if its text equals, contains or is part of a relevant one."""
        if doc_id in self.ids or doc_id in self.own:
            return True
        if not self._may_match(self._passages[doc_id]):
            return False
        text = self.key_of(doc_id)
        return text == self.query or any(text == own or is_part(text, own) or is_part(own, text) for own in self.texts)

    def _may_match(self, passage: str) -> bool:
        """A fast test before keys are made: False only if `passage` is no near-copy, no part and no whole.

        A near-copy or a part begins with words of the other text. A passage that holds the other text has its longest
        words.
        """
        begin = _begin(passage)
        if begin in self.query or any(begin in own for own, _ in self._marks):
            return True
        is_simple = bool(_SIMPLE.fullmatch(passage))
        plain = passage.lower() if is_simple else normalise(passage)
        return any(all(mark in plain for mark in marks if mark.isascii() or not is_simple) for _, marks in self._marks)


def _begin(passage: str) -> str:
    """The key of the first words of a passage; "", which every text holds, if they are not ASCII: keys join those
    with what follows."""
    first = passage.split(maxsplit=_PART_WORDS)[:_PART_WORDS]
    begin = " ".join(first)
    if begin.isascii() and "".join(first).isalnum():
        return begin.lower()
    return " ".join(near_words(begin)) if begin.isascii() else ""


def _longest_words(key: str) -> list[str]:
    return sorted({*key.split()} - {*MARKS.values()}, key=len, reverse=True)[:_MARKS]


def is_part(inner: str, outer: str) -> bool:
    """Whether `outer` contains all of `inner`, both as `near_key` gives them; never if `inner` has under four words."""
    return f" {inner} " in f" {outer} " and word_count(inner) >= _PART_WORDS
