"""Read a single cell of a table as a text, an id or a grade.

    id_cell(0) → "0"        id_cell(3.0) → "3"        id_cell(float("nan")) → ""
    text_cell(["a", "b"], "query") raises BadCell("query is a list, not a text")

A missing cell (None, NaN, an empty string) is "". A value of another type is an error; it is not printed into a text.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import math
import re
from collections.abc import Container
from decimal import Decimal
from typing import Any

from syneg.core.text import encodable, is_blank, normalise

_MISSING = {  # missing values as pandas, JSON, Python, R and people write them, and the errors of spreadsheets
    "nan", "null", "none", "<na>", "na", "n/a", "n.a.", "#n/a", "#na", "#null!", "#ref!", "#value!", "#name?", "#num!",
    "#div/0!",
}  # fmt: skip
PASSAGE_IDS = ("docid", "doc_id", "pid", "passage_id", "psg_id", "corpus_id", "document_id", "docno")
_NO_WORD = re.compile(r"[\W_]+")
_ZEROS = re.compile(r"(?<!\d)0+(?=\d)")
_KINDS = {list: "a list", tuple: "a list", dict: "an object", bool: "true or false", int: "a number", float: "a number",
          bytes: "bytes that are no UTF-8"}  # fmt: skip


class BadCell(ValueError):
    """A cell has a value that its column cannot hold. The message names neither file nor line; the caller adds them."""


def text_cell(value: Any, column: str) -> str:
    """The stripped text of a cell; "" if it is missing. Raises BadCell for a value that is no text."""
    value = _plain(value)
    if value is None:
        return ""
    if not isinstance(value, str):
        todo = "; give its text a column of its own" if isinstance(value, dict) else ""
        raise BadCell(f"{column} is {_KINDS.get(type(value), type(value).__name__)}, not a text{todo}")
    text = value.strip()
    if is_blank(text):
        return ""
    if text.casefold() in _MISSING:
        raise BadCell(f"{column} is {text!r}, which usually marks a missing value")
    if _is_written_list(text):
        raise BadCell(f"{column} is a list that was written as text; save the table as JSONL or Parquet")
    return _storable(text, column)


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: None, NaN, or an empty text, list or object."""
    value = _plain(value)
    return value is None or (isinstance(value, (str, list, tuple, dict)) and not value)


def passages_cell(value: Any, column: str, *, numbers: bool = False) -> list[tuple[str, str]]:
    """(id, text) of each passage in a cell: a text, a list of texts, or a list of objects as those of Tevatron and DPR.

    An object has a text and perhaps a title and an id, or an id alone. With `numbers`, a whole number is an id. The id
    is "" if there is none, and so is the text. Empty texts are left out. Raises BadCell for a value that is no text.
    """
    value = _plain(value)
    values = value if isinstance(value, (list, tuple)) else [value]
    passages = []
    for item in values:
        if isinstance(item, dict):
            doc_id = next(
                (id_cell(item[name], f"{column} {name}") for name in PASSAGE_IDS if not is_missing(item.get(name))), ""
            )
            if "text" not in item and not doc_id:
                raise BadCell(f"{column} holds an object without 'text'")
            parts = [text_cell(item.get(name), f"{column} {name}") for name in ("title", "text")]
            text = " ".join(part for part in parts if part) if parts[1] or "text" in item else ""
            passages.append((doc_id, text))
        elif numbers and _is_whole(item):
            passages.append((id_cell(item, column), ""))
        else:
            passages.append(("", text_cell(item, f"an entry of {column}" if values is value else column)))
    return [passage for passage in passages if any(passage)]


def id_cell(value: Any, column: str = "id") -> str:
    """An id as stripped text; a whole number is written without a point. Raises BadCell for a list or an object."""
    value = _plain(value)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        raise BadCell(f"{column} is {_KINDS.get(type(value), type(value).__name__)}, not an id")
    if isinstance(value, (float, Decimal)) and math.isfinite(value) and value == int(value):
        value = int(value)
    return _storable(str(value).strip(), column)


def ids_cell(value: Any, column: str) -> list[str]:
    """The ids in a cell: one, or a list of them. Empty ones are left out. Raises BadCell like `id_cell`."""
    value = _plain(value)
    items = value if isinstance(value, (list, tuple)) else [value]
    return [key for key in (id_cell(item, column) for item in items) if key]


def known_id(key: str, known: Container[str]) -> str:
    """The id as the data set spells it. pandas writes 3 as 3.0 in a column with missing values.

    >>> known_id("3.0", {"3"}), known_id("3", {"3.0"}), known_id("v3.0", {"v3"})
    ('3', '3.0', 'v3.0')
    """
    whole = key.removesuffix(".0")
    spellings = (whole, f"{whole}.0") if key not in known and whole.isdecimal() else ()
    return next((spelling for spelling in spellings if spelling in known), key)


def near_id(key: str) -> str:
    """Return an id without what programs change in it: case, spaces, punctuation, zeros in front of a number.

    >>> near_id("Doc-007 ") == near_id("doc 7"), near_id("a.7") == near_id("a.70")
    (True, False)
    """
    return _ZEROS.sub("", _NO_WORD.sub(" ", normalise(key)).strip())


def grade_cell(value: Any, column: str) -> float:
    """A grade of relevance. Raises BadCell for a value that is no finite number."""
    value = _plain(value)
    try:
        grade = float(value.strip() if isinstance(value, str) else value)
    except (TypeError, ValueError, OverflowError, AttributeError):
        raise BadCell(f"{column} {value!r} is not a number") from None
    if not math.isfinite(grade):
        raise BadCell(f"{column} {value!r} is not a number")
    return grade


def made_id(kind: str, text: str) -> str:
    """Make an id from a normalised text, so that it does not depend on the position of its row.

    >>> made_id("q", "Close a file") == made_id("q", "close  a FILE")
    True
    """
    return f"{kind}-{hashlib.sha256(normalise(text).encode('utf-8', 'replace')).hexdigest()[:12]}"


def _is_whole(value: Any) -> bool:
    value = _plain(value)
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return whole and not isinstance(value, bool)


def _storable(text: str, column: str) -> str:
    if encodable(text) != text:
        raise BadCell(f"{column} holds half of a surrogate pair, which no file can store")
    return text


def _is_written_list(text: str) -> bool:
    """Whether a text is a printed list of texts, as pandas writes a list into a CSV.

    >>> _is_written_list("['first', 'second']"), _is_written_list("[1] Smith 2020, [2] Wu")
    (True, False)
    """
    if not (text.startswith(("['", '["')) and text.endswith(("']", '"]'))):
        return False
    try:
        items = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return False
    return isinstance(items, list) and all(isinstance(item, str) for item in items)


def _plain(value: Any) -> Any:
    """Convert a value of numpy or pandas to plain Python, and bytes to text; NaN, NaT and NA become None."""
    if type(value).__module__ in ("numpy", "pandas") or type(value).__module__.startswith(("numpy.", "pandas.")):
        value = value.tolist() if hasattr(value, "tolist") else None
    if isinstance(value, bytes):  # Spark writes texts into Parquet as bytes
        with contextlib.suppress(UnicodeDecodeError):
            value = value.decode()
    return None if isinstance(value, float) and math.isnan(value) else value
