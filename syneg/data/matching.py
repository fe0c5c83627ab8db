"""Find the passages of a corpus that equal a text, contain it, or are contained in it.

    index = PassageIndex({"d1": "Sockets Close the socket first"}, {"d1": 8}, ["close the socket first", …])
    index.same("close the socket first")            → "d1"      (equal without its title)
    index.around(["the socket first", "Now: sockets close the socket first, then exit"])
      → {"the socket first": ["d1"]}, {"Now: sockets …": ["d1"]}          the passages that contain it, and its parts

The corpus is read once for each of the two and not kept, so that it may be larger than memory.
Two texts are equal if `normalise` makes them equal. Containment is decided on the words alone (`near_key`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from syneg.core.near import near_key
from syneg.core.text import normalise

# Up to this number of (text, passage) comparisons all are made; above it, only those that share a long word.
_MAX_COMPARISONS = 20_000_000
_SHORTEST = 20  # characters; passages contain shorter texts by chance


class PassageIndex:
    """Finds `texts` among `passages` by id. `bodies` says where the text begins in a passage that has a title."""

    def __init__(self, passages: Mapping[str, str], bodies: Mapping[str, int], texts: Iterable[str]) -> None:
        self._passages = passages
        wanted, without_title = set(map(normalise, texts)), dict[str, str]()
        self._ids: dict[str, str] = {}
        for doc_id, text in passages.items() if wanted else ():
            if (plain := normalise(text)) in wanted:
                self._ids.setdefault(plain, doc_id)
            if doc_id in bodies and (plain := normalise(text[bodies[doc_id] :])) in wanted:
                without_title.setdefault(plain, doc_id)
        self._ids = without_title | self._ids  # a whole passage comes first

    def same(self, text: str) -> str | None:
        """The id of the first passage that equals one of the texts, with or without its title; None for none."""
        return self._ids.get(normalise(text))

    def add(self, doc_id: str, text: str) -> None:
        """Let `same` find a passage without a title that is not of the corpus."""
        self._ids.setdefault(normalise(text), doc_id)

    def around(self, texts: Sequence[str]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """For each text, in the order of the corpus, the longer passages that contain it and the shorter ones in it.

        Texts without a match are left out, and so are matches of under 20 characters.
        """
        wholes = {text: near_key(text) for text in texts}
        pieces = {text: plain for text, plain in wholes.items() if len(plain) >= _SHORTEST}
        inside, holding = self._candidates(pieces, whole=False), self._candidates(wholes, whole=True)
        holders: dict[str, list[str]] = defaultdict(list)
        parts: dict[str, list[str]] = defaultdict(list)
        for doc_id, text in self._passages.items() if texts else ():
            passage = near_key(text)
            for piece in inside(passage):
                if len(pieces[piece]) < len(passage) and pieces[piece] in passage:
                    holders[piece].append(doc_id)
            for whole in holding(passage) if len(passage) >= _SHORTEST else ():
                if len(passage) < len(wholes[whole]) and passage in wholes[whole]:
                    parts[whole].append(doc_id)
        return dict(holders), dict(parts)

    def _candidates(self, texts: Mapping[str, str], *, whole: bool) -> Callable[[str], Iterable[str]]:
        """A function that gives for a passage the texts to compare it with: all if they are few, else those with a
        word in common. That is the longest one of the shorter text: of the passage if a text is the `whole`."""
        if len(texts) * len(self._passages) <= _MAX_COMPARISONS:
            return lambda passage: texts
        by_word: dict[str, list[str]] = defaultdict(list)
        for text, plain in texts.items():
            for word in set(plain.split()) if whole else (self._key(plain),):
                by_word[word].append(text)
        if whole:
            return lambda passage: by_word.get(self._key(passage), ())
        words = by_word.keys()
        return lambda passage: (text for word in words & set(passage.split()) for text in by_word[word])

    @staticmethod
    def _key(plain: str) -> str:
        """The longest word, because few texts share it. The first and last word are not used: they may be cut."""
        words = plain.split()
        return max(words[1:-1] or words, key=len)
