"""Finds the passages of a corpus that a text is: the same text, the text without its title, or a piece of it.

    index = PassageIndex({"d1": "Sockets Close the socket first, then …"}, bodies={"d1": "Close the socket first, then
    …"}) index.same("close the socket first, then …")                 → "d1" index.containing(["close the socket
    first"])                 → {"close the socket first": ["d1"]} index.inside(["… Close the socket first, then … and so
    on"]) → passages that are pieces of a text

The same text is one that `normalise` makes equal; pieces are compared as `near_key` leaves them, words only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from syneg.core.text import near_key, normalise

_DIRECT = (
    20_000_000  # comparisons (text, passage) up to which all are made; above, only those with a long word in common
)
_SHORTEST = 20  # characters: what is shorter stands in passages by chance


class PassageIndex:
    """`bodies` are the texts of passages without their titles, where they have one."""

    def __init__(self, passages: Mapping[str, str], bodies: Mapping[str, str] | None = None) -> None:
        self._texts = {doc_id: near_key(text) for doc_id, text in passages.items()}
        self._ids: dict[str, str] = {}
        for doc_id, text in passages.items():
            self._ids.setdefault(normalise(text), doc_id)
        for doc_id, text in (bodies or {}).items():
            self._ids.setdefault(normalise(text), doc_id)

    def same(self, text: str) -> str | None:
        """The first passage that is the text, with or without its title."""
        return self._ids.get(normalise(text))

    def add(self, doc_id: str, text: str) -> None:
        """Know another passage by its whole text."""
        self._texts[doc_id] = near_key(text)
        self._ids.setdefault(normalise(text), doc_id)

    def containing(self, texts: Sequence[str]) -> dict[str, list[str]]:
        """For each text the ids of the passages that it is a piece of, in the order of the corpus."""
        pieces = {text: plain for text in texts if len(plain := near_key(text)) >= _SHORTEST}
        matches: dict[str, list[str]] = defaultdict(list)
        by_word: dict[str, list[str]] = defaultdict(list)
        for text, plain in pieces.items():
            by_word[self._key(plain)].append(text)
        words = by_word.keys()
        direct = len(pieces) * len(self._texts) <= _DIRECT
        for doc_id, passage in self._texts.items():
            near: Iterable[str] = (
                pieces if direct else (text for word in words & set(passage.split()) for text in by_word[word])
            )
            for text in near:
                if len(pieces[text]) < len(passage) and pieces[text] in passage:
                    matches[text].append(doc_id)
        return dict(matches)

    def inside(self, texts: Sequence[str]) -> dict[str, list[str]]:
        """For each text the ids of the passages that are pieces of it."""
        wholes = {text: near_key(text) for text in texts}
        matches: dict[str, list[str]] = defaultdict(list)
        by_word: dict[str, list[str]] = defaultdict(list)
        for text, plain in wholes.items():
            for word in set(plain.split()):
                by_word[word].append(text)
        direct = len(wholes) * len(self._texts) <= _DIRECT
        for doc_id, passage in self._texts.items():
            if len(passage) < _SHORTEST:
                continue
            for text in wholes if direct else by_word.get(self._key(passage), ()):
                if len(passage) < len(wholes[text]) and passage in wholes[text]:
                    matches[text].append(doc_id)
        return dict(matches)

    @staticmethod
    def _key(plain: str) -> str:
        """The longest word, which few other texts have; not the outer ones, which may be cut."""
        words = plain.split()
        return max(words[1:-1] or words, key=len)
