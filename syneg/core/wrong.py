"""Say in plain words why a value does not suit a setting.

    wrong_settings(error, Config) → ["train.epochs = 'many': takes a number above 0",
                                     "mine.margin = 'foo': takes a number above 0, or auto"]

pydantic names the kind of a number and every branch of a union; a user wants to know what the setting takes.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from .secrets import masked_values
from .toml import as_typed

_BOUNDS = {"gt": "above {:g}", "ge": "of at least {:g}", "le": "of at most {:g}", "min_length": "that is not empty"}
_PLAIN = {bool: "true or false", str: "a text", int: "a whole number", float: "a number"}


def wrong_settings(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line for each wrong setting of `model`: its key, the value with secrets masked, and what it takes."""
    lines: dict[str, str] = {}
    for found in error.errors():
        names, info = _setting(found["loc"], model)
        key = ".".join(names)
        if found["type"] == "value_error":  # a check of ours, with its own words
            why = found["msg"].removeprefix("Value error, ")
        elif found["type"] == "finite_number":
            why = "takes a finite number"
        elif info is not None:
            why = f"takes {taken(info.annotation, info.metadata)}"
        else:
            why = f"is a section; name one of its settings, as {key}.NAME"
        given = masked_values(found.get("input"))
        lines.setdefault(key, f"{key} = {repr(given) if isinstance(given, str) else as_typed(given)}: {why}")
    return list(lines.values())


def _setting(loc: Sequence[int | str], model: type[BaseModel]) -> tuple[list[str], FieldInfo | None]:
    """The names that lead to a setting, and its field; None if the place is a section and no setting."""
    names: list[str] = []
    for name in map(str, loc):
        info = model.model_fields.get(name)
        names.append(name)
        if info is None:
            return names, None
        if not (isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)):
            return names, info
        model = info.annotation
    return names, None


def taken(kind: Any, limits: Sequence[Any] = ()) -> str:
    """What a value of type `kind` may be.

    >>> from pydantic import Field
    >>> taken(Annotated[int, Field(ge=1)] | Literal["auto"]), taken(tuple[Literal["dense", "bm25"], ...])
    ('a whole number of at least 1, or auto', 'a list, each dense or bm25')
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return taken(parts[0], [*limits, *parts[1:]])
    if origin in (Union, types.UnionType):
        return ", or ".join(taken(part, limits) for part in parts if part is not type(None))
    if origin is Literal:
        return f"{', '.join(map(str, parts[:-1]))} or {parts[-1]}" if len(parts) > 1 else str(parts[0])
    if origin is tuple:
        return f"a list{_within(limits)}, each {taken(parts[0])}"
    return f"{_PLAIN.get(kind, 'a table, as in {key = 1}')}{_within(limits)}"


def _within(limits: Sequence[Any]) -> str:
    """The limits of a number or a text, as words that follow its kind."""
    flat = [each for limit in limits for each in (limit.metadata if isinstance(limit, FieldInfo) else [limit])]
    bound = {name: value for name in _BOUNDS for limit in flat if (value := getattr(limit, name, None)) is not None}
    if "ge" in bound and "le" in bound:
        return f" from {bound['ge']:g} to {bound['le']:g}"
    return "".join(f" {_BOUNDS[name].format(value)}" for name, value in bound.items())
