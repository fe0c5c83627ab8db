"""Compare texts and split them into words, in every script. No other module does this.

    normalise("Close  the FILE.")  → "close the file"       masks, split guard, duplicates
    words("Close x<0, 关闭文件")   → ["close", "x", "<", "0", "关", "闭", "文", "件"]
    word_count("关闭文件")         → 2                      two characters of Han or Kana count as a word
    terms("关闭文件")              → ["关", "闭", "文", "件", "关闭", "闭文", "文件"]     terms of BM25
    cut("Close the socket now", 3) → "Close the socket …"

`normalise` keeps every character that carries meaning: C++ and C# differ, as do x<0 and x>0; the vowel signs of Hindi
and Thai and emoji stay. `syneg.core.near` also drops punctuation, to find near-copies.

The `regex` package tells scripts apart by its Unicode tables. It knows combining marks and needs no dictionary. Pairs
of characters retrieve Chinese and Japanese about as well as segmented words do (Nie et al. 2000, IRAL). Segmenters for
Chinese, Japanese, Thai, Khmer, Lao and Burmese would add six dependencies.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator

import regex

_NGRAM = 4
# Scripts without spaces between words. Script_Extensions (scx) are used because ー 々 〆 belong to several scripts.
_DENSE = r"\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Bopomofo}\p{Script=Yi}"
_LOOSE = "".join(
    rf"\p{{Script={name}}}" for name in ["Thai", "Lao", "Khmer", "Myanmar", "Tai_Tham", "Javanese", "Balinese"]
)
_UNSPACED = rf"[[{_DENSE}{_LOOSE}]&&[\p{{L}}\p{{M}}\p{{N}}]]"
_PER_CHARACTER = {True: 1 / 2, False: 1 / 3}  # words per character: Han and Kana (True), Thai and similar (False)
_CLUSTER = rf"{_UNSPACED}[\p{{M}}\u200c\u200d]*"
_LETTER = rf"[[\p{{L}}\p{{M}}\p{{N}}\u200c\u200d]--{_UNSPACED}]"
_NUMBER = rf"\p{{Nd}}+(?:[.,]\p{{Nd}}+)+(?!{_LETTER})"
_NAME = rf"{_LETTER}+(?:\++|\#(?!\w))?"  # C++, C#
_PICTURE = r"\p{So}(?:[\p{M}\p{Sk}]|\u200d\p{So})*"  # an emoji with its modifiers
_SYMBOL = r"!=+|[\p{Sm}\p{Sc}]+"  # x <= 0

_V1 = regex.VERSION1
_WORD = regex.compile(f"{_CLUSTER}|{_NUMBER}|{_NAME}|{_PICTURE}|{_SYMBOL}", _V1)
_TERM = regex.compile(f"(?P<run>(?:{_CLUSTER})+)|{_NUMBER}|{_NAME}|{_PICTURE}", _V1)
_PIECE = regex.compile(
    rf"(?P<dense>[[{_DENSE}]&&[\p{{L}}\p{{N}}]]\p{{M}}*)|(?P<loose>{_CLUSTER})|[\S--{_UNSPACED}]+", _V1
)
_IS_CLUSTER = regex.compile(_CLUSTER, _V1)
_IS_DENSE = regex.compile(f"[{_DENSE}]", _V1)
_IS_HAN = regex.compile(r"\p{Script=Han}")
_HAS_UNSPACED = regex.compile(f"[{_DENSE}{_LOOSE}]", _V1)
_HANGUL = regex.compile(r"\p{Script=Hangul}+", _V1)
_CARRIES = regex.compile(r"[\p{L}\p{N}\p{S}]", _V1)
# Latin, Greek and Cyrillic texts are split by `re`, which is five times as fast as the Unicode tables of `regex`.
_NEEDS_TABLES = re.compile("[\u0300-\u036f\u0483-\u0489\u0530-\u1dff\u200c\u200d\u2070-\U0010ffff]")
_EASY = r"\d+(?:[.,]\d+)+(?![^\W_])|[^\W_]+(?:\++|#(?!\w))?|!=+|[<>=+|~$¢£¥¬±×÷]+"
_EASY_WORD = re.compile(_EASY)
_ASCII_WORD = re.compile(r"[a-z]+(?![a-z0-9+#])|" + _EASY, re.ASCII)  # plain words first: a third faster
_ELISION = regex.compile(r"(?<=\p{L})['’]\p{L}(?!\w)", _V1)
_FENCE = regex.compile(r"</?data>", regex.IGNORECASE)
_UNSEEN = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff\ufe0e\ufe0f]")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SEEN = regex.compile(r"[^\s\p{Cc}\p{Cf}\ufe0e\ufe0f]", _V1)
_STOPS = ".!?…。！？"
_ENDS_SENTENCE = re.compile(r"(?:[^\W\d_]{2}| \d)\Z")  # "closed" and "closed!"; "n" and "n!" are two texts
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")


def normalise(text: str) -> str:
    """The identity of a text: two texts count as the same if their normalised forms are equal.

    The text is NFKC-normalised and case-folded, and each run of whitespace and control characters becomes one space.
    Invisible characters and the full stop at the end of a sentence are removed. Everything else stays.

    >>> normalise("Close  the\\tFILE"), normalise("C++") == normalise("C#"), normalise("10²") == normalise("102")
    ('close the file', False, False)
    """
    if not text.isascii():
        text = _RAISED.sub(r"^\g<0>", _UNSEEN.sub("", text))  # NFKC alone makes 10² the number 102
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    plain = " ".join(text.casefold().split())
    if not plain.isprintable():
        plain = " ".join(printable(plain).split())
    bare = plain.rstrip(_STOPS)
    return bare if _ENDS_SENTENCE.search(bare[-2:]) else plain


def words(text: str) -> list[str]:
    """Normalised words and symbols, in order. In a script without spaces each character is an entry of its own.

    >>> words("Is C++ faster? 打开!")
    ['is', 'c++', 'faster', '打', '开']
    """
    return words_in(normalise(text))


def words_in(plain: str) -> list[str]:
    """The words of a normalised text, or of a part of one."""
    return (_easy_words(plain) or _WORD).findall(plain)


def word_count(text: str) -> int:
    """The length of a text in words: pieces between spaces that hold a letter, digit or symbol.

    Two characters of Han or Kana count as a word, and three of Thai, Lao, Khmer or Burmese.

    >>> word_count("a well-known word"), word_count("先关闭套接字。"), word_count("—")
    (3, 3, 0)
    """
    if not _HAS_UNSPACED.search(text):
        return sum(bool(_CARRIES.search(piece)) for piece in text.split())
    return round(sum(weight for _, weight in _pieces(text)) + 1e-9)


def length_of(text: str) -> str:
    """The length of a text as a prompt states it: in characters for a script without spaces, else in words.

    >>> length_of("close the file"), length_of("关闭文件")
    ('3 words', '4 characters')
    """
    characters = len(_IS_CLUSTER.findall(text)) if _HAS_UNSPACED.search(text) else 0
    count = word_count(text)
    return f"{characters} characters" if characters > count else f"{count} words"


def cut(text: str, limit: int, mark: str = " …") -> str:
    """The first `limit` words of a text, unchanged. `mark` follows them if the text was longer."""
    total, end = 0.0, 0
    for place, weight in _pieces(text):
        total += weight
        if total > limit + 1e-9:
            return text[:end].rstrip() + mark
        end = place
    return text


def grams(text: str, size: int = _NGRAM) -> list[tuple[str, ...]]:
    """All runs of `size` consecutive words. In a script without spaces a run has as many characters as `size` words.

    >>> grams("a b c", 2), grams("关闭文件", 2)
    ([('a', 'b'), ('b', 'c')], [('关', '闭', '文', '件')])
    """
    units = words(text)
    if all(unit.isascii() for unit in units):
        return [tuple(units[i : i + size]) for i in range(len(units) - size + 1)]
    weights = [_weight(unit) for unit in units]
    runs, end, total = [], 0, 0.0
    for start, weight in enumerate(weights):
        while end < len(units) and total < size - 1e-6:
            total += weights[end]
            end += 1
        if total < size - 1e-6:
            break
        runs.append(tuple(units[start:end]))
        total -= weight
    return runs


def joined(gram: tuple[str, ...]) -> str:
    """Join words with spaces, or without them in a script that has none.

    >>> joined(("close", "it")), joined(("关", "闭"))
    ('close it', '关闭')
    """
    return regex.sub(rf"(?<={_UNSPACED}\p{{M}}*) (?={_UNSPACED})", "", " ".join(gram), flags=_V1)


def copied_share(text: str, other: str) -> float:
    """The share of the word 4-grams of `text` that `other` contains, 0 to 1; 0 if `text` has under four words.

    >>> copied_share("a b c d e", "x A b, c d")
    0.5
    """
    own = set(grams(text))
    return len(own & set(grams(other))) / len(own) if own else 0.0


def contains(text: str, part: str) -> bool:
    """Whether `text` contains the words of `part` in a row; False if `part` has no words.

    >>> contains("How to CLOSE a socket?", "close a socket"), contains("closed", "close")
    (True, False)
    >>> contains("请问怎样关闭文件呢", "关闭文件")
    True
    """
    inner = " ".join(words(part))
    return bool(inner) and f" {inner} " in f" {' '.join(words(text))} "


def terms(text: str) -> list[str]:
    """The terms of a text for a lexical index.

    - Words of a script with spaces stay whole, without a single letter behind an apostrophe (cat's → cat).
    - A script without spaces gives pairs of neighbouring characters; Han gives single characters, too.
    - A Korean word of three or more syllables gives pairs of syllables, because particles are written onto the word.

    >>> terms("The cat's C++ résumé"), terms("打开文件"), terms("파일을")
    (['the', 'cat', 'c++', 'résumé'], ['打', '开', '文', '件', '打开', '开文', '文件'], ['파일', '일을'])
    """
    plain = _ELISION.sub("", normalise(text)) if "'" in text or "’" in text else normalise(text)
    if easy := _easy_words(plain):
        return [word for word in easy.findall(plain) if word[0].isalnum()]
    units: list[str] = []
    for match in _TERM.finditer(plain):
        word = match.group()
        if match["run"]:
            characters = _IS_CLUSTER.findall(word)
            pairs = [a + b for a, b in itertools.pairwise(characters)]
            single = [c for c in characters if _IS_HAN.match(c)] if pairs else characters
            units += [*single, *pairs]
        elif _HANGUL.fullmatch(word) and len(word) > 2:
            units += [word[i : i + 2] for i in range(len(word) - 1)]
        else:
            units.append(word)
    return units


def is_dense(character: str) -> bool:
    """Whether a character belongs to a script of about two characters per word: Han, Kana, Bopomofo, Yi."""
    return not character.isascii() and bool(_IS_DENSE.match(character))


def is_letter(character: str) -> bool:
    """Whether a character is a letter or a mark on a letter, such as a vowel sign of Hindi or Thai."""
    return character.isalpha() or unicodedata.category(character)[0] == "M"


def is_blank(text: str) -> bool:
    """Whether a text has no visible character: only spaces, control characters and invisible ones such as U+200B.

    >>> is_blank(" \u200b"), is_blank(" a")
    (True, False)
    """
    return not _SEEN.search(text)


def encodable(text: str) -> str:
    """Make a text writable as UTF-8: half of a surrogate pair (JSON's escapes can hold one) becomes a question mark.

    >>> encodable("a \\ud800 b")
    'a ? b'
    """
    return text.encode("utf-8", "replace").decode()


def printable(text: str) -> str:
    """Replace each control character by a space, save tabs and line ends.

    >>> printable("a\\x00b\\x1b[1m\\n")
    'a b [1m\\n'
    """
    return _CONTROL.sub(" ", text)


def plain_text(text: str) -> str:
    """Clean an LM's text: one line, without control characters and the marks of prompts that small models repeat.

    These marks are the tags around corpus text and the dots at the end of a cut passage. An encoder would learn to
    recognise written texts by them.

    >>> plain_text("<data>Close  it. Then …</data>")
    'Close it. Then'
    """
    return " ".join(_FENCE.sub(" ", printable(encodable(text))).split()).rstrip(" …")


def _easy_words(plain: str) -> re.Pattern[str] | None:
    """The fastest pattern of a word that is right for a normalised text; None if it needs the tables of `regex`."""
    if plain.isascii():
        return _ASCII_WORD
    return None if _NEEDS_TABLES.search(plain) else _EASY_WORD


def _pieces(text: str) -> Iterator[tuple[int, float]]:
    """Yield (end, words) for each piece of a text: its end as an index into the text, and its length in words."""
    for match in _PIECE.finditer(text):
        if match["dense"] or match["loose"]:
            yield match.end(), _PER_CHARACTER[bool(match["dense"])]
        elif _CARRIES.search(match.group()):
            yield match.end(), 1.0
        else:
            yield match.end(), 0.0


def _weight(unit: str) -> float:
    return _PER_CHARACTER[bool(_IS_DENSE.match(unit))] if _IS_CLUSTER.fullmatch(unit) else 1.0
