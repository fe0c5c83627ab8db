"""Which passages must not be negatives of a query."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syneg.core.near import near_key
from syneg.data.collection import Collection
from syneg.negatives.mining import Judged, is_part, keys_of

_PIECES = [
    "close",
    "Close",
    "ﬁle",
    "file.",
    "ex\xadample",
    "example",
    "关闭文件",
    "x<0",
    "10,000",
    "10²",
    "C++",
    "c#",
    "…",
    "!=",
    "(a)",
    "-5",
    "\u22125",
    "5%",
    "1/2",
    ".net",
]
_TEXTS = st.lists(st.sampled_from(_PIECES), min_size=1, max_size=6).map(" ".join)
_POSITIVES = st.lists(st.sampled_from(_PIECES), min_size=8, max_size=12).map(" ".join)


@settings(max_examples=300)
@given(_TEXTS, _POSITIVES | _TEXTS, st.data())
def test_the_fast_test_of_texts_decides_as_a_comparison_of_all_words_does(
    query: str, positive: str, data: st.DataObject
) -> None:
    inside = st.builds("{} {} {}".format, _TEXTS, st.just(positive.upper()), _TEXTS)
    pieces = positive.split()
    part = st.integers(0, len(pieces) - 1).map(lambda first: " ".join(pieces[first : first + 5]))
    passage = data.draw(st.one_of(_TEXTS, inside, part, st.just(query + " !")))
    collection = Collection("c", {"p": positive, "d": passage}, {"q": query}, {"q": {"p": 1}}, {"train": ("q",)})
    key, own = near_key(passage), near_key(positive)
    slow = key in (own, near_key(query)) or is_part(key, own) or is_part(own, key)
    assert Judged(collection, "q", keys_of(collection)).excludes("d") is slow


@pytest.mark.parametrize("grades, left_out", [({"p": 1}, True), ({"p": 1, "q": 0}, False)])
def test_a_passage_with_the_id_of_its_query_is_the_query_unless_it_is_judged(
    grades: dict[str, float], left_out: bool
) -> None:
    argument = "schools should ban phones because they distract pupils"
    passages = {"p": "phones help pupils learn", "q": f"Ban phones at school\n{argument}", "d": "ban cars in cities"}
    collection = Collection("c", passages, {"q": argument}, {"q": grades}, {"train": ("q",)})
    judged = Judged(collection, "q", keys_of(collection))
    assert (judged.excludes("q"), judged.is_known("q"), judged.excludes("d")) == (left_out, left_out, False)
