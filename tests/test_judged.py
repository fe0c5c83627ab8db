"""Which passages must not be negatives of a query."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syneg.core.near import near_key
from syneg.core.text import normalise
from syneg.data.collection import Collection
from syneg.negatives.judged import _SIMPLE, Judged, is_part, keys_of

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
    "straße",
    "STRASSE",
    "10µm",
    "Ωmega–3",
    "don’t",
    "Xᵀ",
    "naïve",
    "e\u0301tat",
    "état",
    "½",
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


def test_a_text_of_simple_characters_keeps_its_ascii_words_when_it_is_only_lowered() -> None:
    """Else the fast test would pass over a passage that holds a positive."""
    simple = [chr(code) for code in range(128, 0x10000) if _SIMPLE.fullmatch(chr(code))]
    assert len(simple) > 150
    for character in simple:
        plain = normalise(f"aB{character}Cd")
        assert plain[:2] == "ab" and plain[-2:] == "cd" and len(plain) > 4, ascii(character)
        assert not plain[2:-2].strip().encode("ascii", "ignore"), ascii(character)


def test_a_passage_that_holds_a_positive_is_known_by_letters_that_are_written_in_two_ways() -> None:
    positive = "a beam of 1000000\u00b5m is wide"  # the sign micro, which `normalise` makes the Greek letter
    passages = {"p": positive, "d": f"Note: {positive}, again", "e": "Note: a beam of 1000000 is wide, again"}
    collection = Collection("c", passages, {"q": "how wide"}, {"q": {"p": 1}}, {"train": ("q",)})
    judged = Judged(collection, "q", keys_of(collection))
    assert (judged.excludes("d"), judged.excludes("e")) == (True, False)


@pytest.mark.parametrize("grades, left_out", [({"p": 1}, True), ({"p": 1, "q": 0}, False)])
def test_a_passage_with_the_id_of_its_query_is_the_query_unless_it_is_judged(
    grades: dict[str, float], left_out: bool
) -> None:
    argument = "schools should ban phones because they distract pupils"
    passages = {"p": "phones help pupils learn", "q": f"Ban phones at school\n{argument}", "d": "ban cars in cities"}
    collection = Collection("c", passages, {"q": argument}, {"q": grades}, {"train": ("q",)})
    judged = Judged(collection, "q", keys_of(collection))
    assert (judged.excludes("q"), judged.is_known("q"), judged.excludes("d")) == (left_out, left_out, False)
