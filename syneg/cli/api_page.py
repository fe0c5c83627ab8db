"""Write docs/api.md from the docstrings of the public names of `syneg` and of the programs.

$ python -m syneg.cli.api_page > docs/api.md
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import click

import syneg

_PATH = ("mine", "read", "generate", "compile_program", "train", "evaluate")


def api_page() -> str:
    """Return docs/api.md as Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    from syneg import programs
    from syneg.run.api import run

    yield from [
        "# In Python",
        "",
        "Made of the docstrings by `python -m syneg.cli.api_page`. A first walk: [quickstart.ipynb](quickstart.ipynb).",
        "",
    ]
    yield from ["## The path", "", _text(inspect.getmodule(run)), ""]
    yield from _function("syneg.run", run)
    for name in _PATH:
        yield from _function(f"syneg.{name}", getattr(syneg, name))
    yield from ["## Data and settings", ""]
    for name in ("load_collection", "collection_of", "load_config"):
        yield from _function(f"syneg.{name}", getattr(syneg, name))
    yield from ["## Records", ""]
    for name in ("Collection", "Pair", "MinedNegative", "HardNegative", "Instance"):
        yield from _class(f"syneg.{name}", getattr(syneg, name))
    yield from ["## Errors", ""]
    for name in sorted(name for name in syneg.__all__ if name.endswith("Error")):
        yield from [f"`syneg.{name}`: {_first(getattr(syneg, name))}", ""]
    yield from ["## Programs", "", _text(programs), "", "| name | class | what |", "|---|---|---|"]
    for name, kind in {**programs.PROGRAMS, **programs.QUERY_PROGRAMS}.items():
        yield f"| `{name}` | `{kind.__name__}` | {_first(kind)} |"


def _function(name: str, function: Any) -> list[str]:
    taken = inspect.signature(function).parameters
    shown = ", ".join(
        key if parameter.default is parameter.empty else f"{key}={parameter.default!r}"
        for key, parameter in taken.items()
    )
    return [f"### `{name}({shown})`", "", _text(function), ""]


def _class(name: str, kind: Any) -> list[str]:
    fields = ", ".join(f"`{key}`" for key in kind.__dataclass_fields__)
    methods = [
        f"- `{key}`: {_first(value.fget if isinstance(value, property) else value)}"
        for key, value in vars(kind).items()
        if not key.startswith("_")
        and (inspect.isfunction(value) or isinstance(value, (property, classmethod)))
        and _first(value)
    ]
    return [f"### `{name}`", "", _text(kind), "", f"Fields: {fields}.", "", *methods, *([""] if methods else [])]


def _text(thing: Any) -> str:
    return inspect.getdoc(thing) or ""


def _first(thing: Any) -> str:
    return _text(thing).split("\n\n")[0].replace("\n", " ")


if __name__ == "__main__":
    click.echo(api_page(), nl=False)
