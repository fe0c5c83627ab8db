"""The base of all sections of the settings: a frozen pydantic model whose fields are described by the text under them.

    class MixConfig(Section):
        negatives: Positive = 3
        "Hard negatives in each training row."

    MixConfig.model_fields["negatives"].description → "Hard negatives in each training row."

`--help` and docs/settings.md are made from these descriptions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator


def own_path(name: str) -> str:
    """Make the name of an existing file or folder absolute; return any other name unchanged.

    The run folder keeps the settings, and a later stage may run in another working folder. `local/PATH.gguf` keeps its
    prefix. Other names that begin with `local/` are embedded models and stay as they are.
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
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Above = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Name = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]  # "" would be the working folder
OwnPath = Annotated[str, AfterValidator(own_path)]
OwnModel = Annotated[Name, AfterValidator(own_path)]
OwnProgram = Annotated[Name, AfterValidator(own_program)]


class Section(BaseModel):
    """One table of the TOML file. It refuses unknown keys, and is frozen once its values are checked.

    A list may be written as text with commas: `--set mine.sources=dense,bm25`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _read_lists(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        lists = {
            name
            for name, info in cls.model_fields.items()
            if get_origin(info.annotation) is tuple and not any(isinstance(m, BeforeValidator) for m in info.metadata)
        }
        return {name: items_of(value) if name in lists else value for name, value in values.items()}


def items_of(value: Any) -> Any:
    """Split text at its commas, and put a lone number into a list; return any other value unchanged."""
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else value
