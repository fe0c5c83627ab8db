"""Read the answer to a closed question, in whatever plain spelling an LM gives it.

    chosen("**Yes**.", ("yes", "no"))       → "yes"
    chosen("Grade: 2/3", (0, 1, 2, 3))      → 2
    chosen("yes and no", ("yes", "no"))     → None

An explanation may follow the answer, if it names no other option and takes nothing back ("yes, but …").
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

_YES, _NO = ("yes", "true", "y"), ("no", "false", "n")
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_LABELS = ("final answer", "answer", "verdict", "judgement", "judgment", "grade", "score", "rating", "result")
_MARKS = re.compile(r"[*`\"'“”„‘’«»]")
_JOINED = re.compile(r"(?<=[^\W\d])[_-]+(?=[^\W\d])")
_END = r"(?=\s*(?:$|[.,;:!)\]](?!\d)|\(|[-–—]+\s))"
_DOUBT = re.compile(r"\b(?:but|however|although|though|except|unless|or|maybe|perhaps|partly|partially|wait|only)\b")


def chosen(value: Any, allowed: Sequence[Any], name: str = "") -> Any | None:
    """The option of `allowed` that `value` names; None if it names none, or leaves a doubt.

    `name` is the field, which may stand before its value ("relevant: no").
    """
    for option in allowed:
        if type(option) is type(value) and option == value:
            return option
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, str | bool | int):
        return None
    spelled = {spelling: option for option in reversed(allowed) for spelling in _spellings(option)}
    spelled |= {_folded(str(option)): option for option in allowed}
    options = "|".join(re.escape(spelling) for spelling in sorted(spelled, key=len, reverse=True))
    text = _folded(str(value))
    numbers = [option for option in allowed if type(option) is int]
    if numbers:  # "2/3", "2 out of 3", "2.0"
        text = re.sub(rf"^(\D*\d+)\s*(?:/|out of|of)\s*{max(numbers)}(?!\d|/)", r"\1", text)
        text = re.sub(r"(\d)\.0+(?!\d)", r"\1", text)
    labels = "|".join(re.escape(label) for label in (*_LABELS, _folded(name)) if label)
    found = re.match(rf"(?:[-–•]\s+)?[(\[]?(?:(?:{labels})(?:\s*[:=]\s*|\s+))?({options}){_END}", text)
    named = {spelled[word] for word in re.findall(rf"(?<![\w.,/-])(?:{options})(?![\w/%])", text)}
    return spelled[found[1]] if found and len(named) == 1 and not _DOUBT.search(text[found.end() :]) else None


def _spellings(option: Any) -> tuple[str, ...]:
    """Other words for an option."""
    plain = _folded(str(option))
    if type(option) is int and 0 <= option < len(_NUMBERS):
        return (_NUMBERS[option],)
    return next((words for words in (_YES, _NO) if plain in words), ())


def _folded(text: str) -> str:
    """A text in small letters, without marks and quotation marks; a new line ends a sentence.

    >>> _folded("**Means_only**\\nWhy")
    'means only. why'
    """
    text = _MARKS.sub("", unicodedata.normalize("NFKC", text)).casefold().strip()
    return " ".join(_JOINED.sub(" ", re.sub(r"[.:]?\s*\n\s*", ". ", text)).split())
