"""Find the one JSON object that answers, in whatever an LM puts around it.

    {"output": {"answer": "blue"}}               → {"answer": "blue"}      wrapped once, or once more
    {"result": "{\\"answer\\": \\"blue\\"}"}      → {"answer": "blue"}      JSON inside a text of JSON
    Set {x} is: {"answer": "blue"} I hope so.    → {"answer": "blue"}
    {"answer": "blue"} or {"answer": "red"}      → ValueError: 2 objects have an answer, and they differ

A text without such an object is left to DSPy, which repairs small slips of form.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

_MOST_BRACES = 200  # braces at which an object is looked for
_MOST_WRAPS = 3
_SCHEMA = ("properties", "schema", "$defs")  # an LM that repeats the schema answers nothing


def alone(text: str, fields: set[str]) -> str:
    """The object that has all `fields`, as JSON; `text` as it is if there is none, or if the text is this object.

    Raises ValueError for several such objects that differ in their fields.
    """
    pieces = list(objects_in(text))
    found = [answer for start, end in pieces if (answer := _unwrapped(_loaded(text[start:end]), fields))]
    if not found:
        return text
    if any({name: other[name] for name in fields} != {name: found[0][name] for name in fields} for other in found):
        raise ValueError(f"{len(found)} objects have {' and '.join(sorted(fields))}, and they differ")
    return json.dumps(found[0], ensure_ascii=False)


def objects_in(text: str) -> Iterator[tuple[int, int]]:
    """Yield start and end of each JSON object in a text that is inside no other."""
    end = 0
    for match in itertools.islice(re.finditer(r"\{", text), _MOST_BRACES):
        if match.start() >= end:
            with contextlib.suppress(ValueError, RecursionError):
                end = json.JSONDecoder(strict=False).raw_decode(text, match.start())[1]
                yield match.start(), end


def _unwrapped(value: Any, fields: set[str]) -> dict[str, Any] | None:
    """The object with all fields, inside objects and lists of one member; None if there is none."""
    for _ in range(_MOST_WRAPS + 1):
        if isinstance(value, str):
            value = _loaded(value)
        if isinstance(value, dict) and fields <= value.keys():
            return value
        if not isinstance(value, dict | list) or len(value) != 1:
            return None
        if isinstance(value, dict) and next(iter(value)) in _SCHEMA:
            return None
        (value,) = value.values() if isinstance(value, dict) else value
    return None


def _loaded(text: str) -> Any:
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None
