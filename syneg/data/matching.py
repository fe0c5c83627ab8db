"""Find the passages of a corpus that equal a text, contain it, or are contained in it.

    index = PassageIndex({"d1": "Sockets Close the socket first"}, bodies={"d1": "Close the socket first"})
    index.same("close the socket first")            → "d1"      (equal without its title)
    index.containing(["the socket first"])          → {"the socket first": ["d1"]}
    index.inside(["Now: sockets close the socket first, then exit"]) → {"Now: sockets …": ["d1"]}

Two texts are equal if `normalise` makes them equal. Containment is decided on the words alone (`near_key`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from syneg.core.near import near_key
from syneg.core.text import normalise

# Up to this number of (text, passage) comparisons all are made; above it, only those that share a long word.
_MAX_COMPARISONS = 20_000_000
_SHORTEST = 20  # characters; passages contain shorter texts by chance


class PassageIndex:
    """`passages` are texts by id. `bodies` are the same texts without the title, for passages that have one."""

    def __init__(self, passages: Mapping[str, str], bodies: Mapping[str, str] | None = None) -> None:
        self._texts = {doc_id: near_key(text) for doc_id, text in passages.items()}
        self._ids: dict[str, str] = {}
        for doc_id, text in passages.items():
            self._ids.setdefault(normalise(text), doc_id)
        for doc_id, text in (bodies or {}).items():
            self._ids.setdefault(normalise(text), doc_id)

    def same(self, text: str) -> str | None:
        """The id of the first passage that equals the text, with or without its title; None if there is none."""
        return self._ids.get(normalise(text))

    def add(self, doc_id: str, text: str) -> None:
        """Add a passage without a title."""
        self._texts[doc_id] = near_key(text)
        self._ids.setdefault(normalise(text), doc_id)

    def containing(self, texts: Sequence[str]) -> dict[str, list[str]]:
        """For each text the ids of the longer passages that contain it, in the order of the corpus.

        Texts under 20 characters and texts without a match are left out.
        """
        pieces = {text: plain for text in texts if len(plain := near_key(text)) >= _SHORTEST}
        matches: dict[str, list[str]] = defaultdict(list)
        by_word: dict[str, list[str]] = defaultdict(list)
        for text, plain in pieces.items():
            by_word[self._key(plain)].append(text)
        words = by_word.keys()
        direct = len(pieces) * len(self._texts) <= _MAX_COMPARISONS
        for doc_id, passage in self._texts.items():
            near: Iterable[str] = (
                pieces if direct else (text for word in words & set(passage.split()) for text in by_word[word])
            )
            for text in near:
                if len(pieces[text]) < len(passage) and pieces[text] in passage:
                    matches[text].append(doc_id)
        return dict(matches)

    def inside(self, texts: Sequence[str]) -> dict[str, list[str]]:
        """For each text the ids of the shorter passages that it contains; texts without a match are left out."""
        wholes = {text: near_key(text) for text in texts}
        matches: dict[str, list[str]] = defaultdict(list)
        by_word: dict[str, list[str]] = defaultdict(list)
        for text, plain in wholes.items():
            for word in set(plain.split()):
                by_word[word].append(text)
        direct = len(wholes) * len(self._texts) <= _MAX_COMPARISONS
        for doc_id, passage in self._texts.items():
            if len(passage) < _SHORTEST:
                continue
            for text in wholes if direct else by_word.get(self._key(passage), ()):
                if len(passage) < len(wholes[text]) and passage in wholes[text]:
                    matches[text].append(doc_id)
        return dict(matches)

    @staticmethod
    def _key(plain: str) -> str:
        """The longest word, because few texts share it. The first and last word are not used: they may be cut."""
        words = plain.split()
        return max(words[1:-1] or words, key=len)
