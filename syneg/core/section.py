"""What all sections of the settings share: a frozen pydantic model, each field described by the text under it.

    class MixConfig(Section):
        negatives: Positive = 3
        "Hard negatives in each training row."

    MixConfig.model_fields["negatives"].description → "Hard negatives in each training row."

The descriptions are the source of `--help` and of docs/settings.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def own_path(name: str) -> str:
    """A name of a file or folder that exists, as an absolute path; any other name as it is.

    Settings are kept in the run folder, and a later stage may be run from another folder. `local/PATH.gguf` keeps its
    beginning; other names that begin with `local/` are embedded models.
    """
    if name.startswith("local/"):
        return f"local/{own_path(name.removeprefix('local/'))}" if name.endswith(".gguf") else name
    try:
        path = Path(name).expanduser()
        return str(path.absolute()) if name and path.exists() else name
    except (OSError, RuntimeError, ValueError):  # too long for a path, no home, a zero byte
        return name


def own_program(name: str) -> str:
    """`own_path` for a saved program; other programs keep their names."""
    return own_path(name) if name.endswith(".json") else name


Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0)]
Above = Annotated[float, Field(gt=0)]
OwnPath = Annotated[str, AfterValidator(own_path)]
OwnProgram = Annotated[str, AfterValidator(own_program)]


class Section(BaseModel):
    """One table of the TOML file. Unknown keys are refused; values cannot be changed after they were checked.

    A list may be given as text, with commas between its items: `--set mine.sources=dense,bm25`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _read_lists(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        lists = {name for name, info in cls.model_fields.items() if get_origin(info.annotation) is tuple}
        return {name: _items(value) if name in lists else value for name, value in values.items()}


def _items(value: Any) -> Any:
    """The items of a list that was given as text or as its only item; everything else as it is."""
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else value
