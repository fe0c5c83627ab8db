"""Recognise the language of texts by their script, or by frequent words if several languages share the script.

    language_of(["Die Pumpe wird entlüftet, indem man das Ventil öffnet …"])  → "German"
    language_of(["def close(self): …"])                                       → ""

The lists of frequent words come from bm25s. A language without a script of its own and without a list gives "".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice

from syneg.core.text import words

from .corpus_profile import script

_SAMPLE, _LETTERS = 300, 400  # texts to sample, and characters to read of each
_FEWEST_WORDS, _LEAST_SHARE, _CLEAR = 20, 0.15, 1.2
_BY_SCRIPT = {
    "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean", "CJK": "Chinese", "ARABIC": "Arabic",
    "THAI": "Thai", "DEVANAGARI": "Hindi", "GREEK": "Greek", "HEBREW": "Hebrew", "BENGALI": "Bengali",
    "TAMIL": "Tamil", "GEORGIAN": "Georgian", "ARMENIAN": "Armenian", "LAO": "Lao", "KHMER": "Khmer",
    "MYANMAR": "Burmese",
}  # fmt: skip


def language_of(texts: Iterable[str]) -> str:
    """The English name of the language of most of the first 300 texts; "" if it cannot be recognised."""
    sample = " ".join(text[:_LETTERS] for text in islice(texts, _SAMPLE))
    scripts = Counter(name for letter in sample if letter.isalpha() and (name := script(letter)))
    total = scripts.total()
    if not total:
        return ""
    for name, language in _BY_SCRIPT.items():  # Kana before Han: Japanese has both
        if scripts[name] > (0.1 if language == "Japanese" else 0.5) * total:
            return language
    return _by_words(words(sample))


def _by_words(sample: list[str]) -> str:
    from bm25s import stopwords

    if len(sample) < _FEWEST_WORDS:
        return ""
    names = (
        "Danish", "Dutch", "French", "German", "Italian", "Norwegian", "Portuguese", "Russian", "Spanish", "Swedish",
        "Turkish",
    )  # fmt: skip
    known = {name: frozenset(getattr(stopwords, f"STOPWORDS_{name.upper()}")) for name in names}
    known["English"] = frozenset(stopwords.STOPWORDS_EN_PLUS)
    shares = {name: sum(word in common for word in sample) / len(sample) for name, common in known.items()}
    second, best = sorted(shares, key=lambda name: shares[name])[-2:]
    return best if shares[best] >= max(_LEAST_SHARE, _CLEAR * shares[second]) else ""
