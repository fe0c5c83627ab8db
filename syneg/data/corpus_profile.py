"""Measure script, language and length of a corpus, to compare written passages with it.

    profile = CorpusProfile.of(passages)
    profile.strange_letters("Привет, socket")   → .5         share of letters in scripts that the corpus hardly uses
    profile.language_share("Der Socket wird …") → .86        share of letter trigrams that are common in the corpus
    profile.words                               → (6, 214)   1st and 99th percentile of the length in words

A language is recognised by its frequent trigrams, so no list of languages is needed. The share is divided by the 5th
percentile of the corpus's own passages. Against English corpora 99 of 100 English texts reach .94; German, French,
Dutch and Spanish texts reach .78 to .92 (docs/lab_notes.md).
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Collection, Set
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress

import numpy as np

from syneg.core.text import is_dense, is_letter, normalise, word_count

_SAMPLE = 2000
_ENOUGH_LETTERS = 20_000  # fewer letters show the frequent trigrams of a few passages, not of a language
_ENOUGH_TEXTS = 50
_FEWEST_TRIGRAMS = 10  # a shorter text tells too little about its language
_COMMON_MASS = 0.9
_RARE_SCRIPT = 0.002


@dataclass(frozen=True)
class CorpusProfile:
    """Figures of about 2,000 passages, taken at even steps.

    `scripts` and `trigrams` are the common ones; `trigrams` is empty if the corpus is too small. `low_share` is the 5th
    percentile of the passages' own shares. `words` is the 1st and 99th percentile of the length in words.
    """

    scripts: frozenset[str]
    trigrams: frozenset[str]
    low_share: float
    words: tuple[float, float]

    @classmethod
    def of(cls, passages: Collection[str]) -> CorpusProfile:
        """Measure the passages, which are read twice; equal ones count once."""
        texts = _sample(passages)
        letters: Counter[str] = Counter()
        grams: Counter[str] = Counter()
        for number, text in enumerate(texts):
            letters.update(_scripts(text))
            if number % 2:  # the other half shows what share an unseen passage reaches
                grams.update(_trigrams(text))
        total = sum(letters.values())
        scripts = frozenset(name for name, count in letters.items() if count >= _RARE_SCRIPT * total)
        lengths = [word_count(text) for text in texts] or [0]
        low, high = (float(x) for x in np.percentile(lengths, [1, 99]))
        if total < _ENOUGH_LETTERS or len(texts) < _ENOUGH_TEXTS:
            return cls(scripts, frozenset(), 1.0, (low, high))
        common: set[str] = set()
        mass = 0
        for gram, count in sorted(grams.items(), key=lambda item: (-item[1], item[0])):
            common.add(gram)
            mass += count
            if mass >= _COMMON_MASS * grams.total():
                break
        shares = [share for text in texts[::2] if (share := _share(text, common)) is not None]
        return cls(scripts, frozenset(common), float(np.percentile(shares, 5)), (low, high))

    def strange_letters(self, text: str) -> float:
        """Share of the letters of `text` in scripts that the corpus hardly uses; 0 for a text without letters."""
        scripts = _scripts(text)
        return sum(name not in self.scripts for name in scripts) / len(scripts) if scripts and self.scripts else 0.0

    def language_share(self, text: str) -> float | None:
        """Share of the trigrams of `text` that are common in the corpus, divided by `low_share`.

        None if the text has under ten trigrams or the corpus is too small.
        """
        share = _share(text, self.trigrams) if self.trigrams else None
        return None if share is None else share / self.low_share


def _sample(passages: Collection[str]) -> list[str]:
    """About `_SAMPLE` different passages at even steps. Of all others only a hash is kept in memory."""
    hashes = np.fromiter(map(hash, passages), np.int64, len(passages))
    firsts = np.sort(np.unique(hashes, return_index=True)[1])
    chosen = np.zeros(len(passages), bool)
    chosen[firsts[:: max(1, len(firsts) // _SAMPLE)]] = True
    return list(compress(passages, chosen.tolist()))


@lru_cache(maxsize=65536)
def script(letter: str) -> str:
    """The script of a letter: the first word of its Unicode name; "" for a mark without a script.

    >>> script("é"), script("ж"), script("字"), script("Ａ"), script("々")
    ('LATIN', 'CYRILLIC', 'CJK', 'LATIN', 'CJK')
    """
    plain = unicodedata.normalize("NFKC", letter)[:1]
    name = unicodedata.name(plain, "UNKNOWN").split()[0].split("-")[0]
    return {"IDEOGRAPHIC": "CJK", "VERTICAL": "CJK", "MODIFIER": ""}.get(name, name)


def _scripts(text: str) -> list[str]:
    return [name for letter in text if letter.isalpha() and (name := script(letter))]


def _trigrams(text: str) -> list[str]:
    """Runs of three letters, including the spaces around words. Han and Kana give single characters, because a run of
    three is rare in any text."""
    plain = normalise(text)
    singles = [c for c in plain if is_dense(c)]
    letters = "".join(c if is_letter(c) and not is_dense(c) else " " for c in plain)
    padded = f" {' '.join(letters.split())} "
    return singles + [padded[i : i + 3] for i in range(len(padded) - 2)]


def _share(text: str, common: Set[str]) -> float | None:
    """Share of the trigrams of `text` that are common, plus one standard error in favour of short texts.

    None for a text of fewer than `_FEWEST_TRIGRAMS`.
    """
    grams = _trigrams(text)
    if len(grams) < _FEWEST_TRIGRAMS:
        return None
    share = sum(gram in common for gram in grams) / len(grams)
    return share + math.sqrt(share * (1 - share) / len(grams))
