"""What all sections of the settings share: a frozen pydantic model, each field described by the text under it.

    class MixConfig(Section):
        negatives: Positive = 3
        "Hard negatives in each training row."

    MixConfig.model_fields["negatives"].description → "Hard negatives in each training row."

The descriptions are the source of `--help` and of docs/settings.md.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0)]
Above = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """One table of the TOML file. Unknown keys are refused; values cannot be changed after they were checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, defer_build=True)
