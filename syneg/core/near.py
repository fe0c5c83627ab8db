"""Find near-copies: texts that differ in case, spacing and punctuation alone.

    near_key("Close the *file*!")  → "close the file"
    near_key("it is -1 %")         → "it is minus 1 percent"

Punctuation that makes a number or a name another one is kept: a sign, a point before a digit or a name, a mark between
two digits, a per cent. Names stand for these marks, because words are found faster in one pass.
"""

from __future__ import annotations

import re

from .text import normalise, words_in

MARKS = {
    "-": "minus", "\u2010": "minus", "\u2013": "minus", "\u2212": "minus",  # hyphens, a dash, the minus
    "/": "slash", ":": "colon", "%": "percent", "‰": "permille", ".": "dot",
}  # fmt: skip
_MARK = re.compile(
    r"[-\u2010\u2013\u2212](?:(?<![\w.)\]%].)(?=\.?\d)|(?<=\d.)(?=\d))|[/:](?<=\d.)(?=\d)|[%‰]|\.(?<![\w.].)(?=\w)"
)


def near_key(text: str) -> str:
    """A coarser identity than `normalise`: `near_words` in a row. A text without a word is only normalised.

    >>> near_key("Close the *file*!"), near_key("x<0") == near_key("x>0"), near_key("???")
    ('close the file', False, '???')
    """
    return " ".join(near_words(text)) or normalise(text)


def near_words(text: str) -> list[str]:
    """Normalised words and symbols, and the name of each mark that is kept, in order.

    >>> near_words("(-1), .5 or 1\u20132 %: .NET")
    ['minus', '1', 'dot', '5', 'or', '1', 'minus', '2', 'percent', 'dot', 'net']
    """
    return words_in(_MARK.sub(lambda mark: f" {MARKS[mark[0]]} ", normalise(text)))
