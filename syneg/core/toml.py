"""Write settings as TOML, and notice if the end of such a file is gone.

to_toml(config) → # Settings of a run, down to the line "# end"
                  seed = 0

                  [collection]
                  …
                  # end
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from .config import Config
from .secrets import masked_values

_END = "# end"
_HEAD = f'# Settings of a run, down to the line "{_END}"'


def to_toml(config: Config) -> str:
    """Write all settings as TOML, with secrets masked. Reading it back gives the same config.

    TOML has no null, so a setting that is None is left out.
    """
    lines = [_HEAD, f"seed = {config.seed}"]
    for name, section in config:
        if isinstance(section, BaseModel):
            lines += ["", f"[{name}]"]
            settings = masked_values({key: value for key, value in section if value is not None})
            lines += [f"{key} = {toml_value(value)}" for key, value in settings.items()]
    return "\n".join([*lines, _END]) + "\n"


def is_cut(text: str) -> bool:
    """Whether `text` begins as `to_toml` writes, but has no last line. A text written by hand is never cut."""
    return text.startswith(_HEAD) and _END not in text.splitlines()


def toml_value(value: Any) -> str:
    """Write one value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    if isinstance(value, Mapping):
        pairs = (f"{json.dumps(key)} = {toml_value(item)}" for key, item in value.items() if item is not None)
        return f"{{{', '.join(pairs)}}}"
    # A JSON string is a TOML basic string, except for DEL: JSON does not escape it.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def as_typed(value: Any) -> str:
    """Write one value as it follows `--set section.key=`.

    >>> [as_typed(value) for value in (("dense", "bm25"), 0.95, True, "auto", None, ())]
    ['dense,bm25', '0.95', 'true', 'auto', '', '[]']
    """
    if isinstance(value, (tuple, list)):
        return ",".join(map(as_typed, value)) or "[]"
    if isinstance(value, (bool, int, float, Mapping)):
        return toml_value(value)
    return "" if value is None else str(value)
