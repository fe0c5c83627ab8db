"""The options of a benchmark as one frozen dataclass: click fills its fields.

    @click.command()
    @click.option("--pairs", default=300)
    @click.option("--set", "overrides", multiple=True)
    @filled(Options)                                   Options(pairs=300, overrides=()) for a call without flags
    def main(options: Options) -> None: ...

A field has the name of click's parameter: "overrides" for --set, above. tests/test_benchmarks.py compares the names.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

Options = TypeVar("Options")


def filled(kind: type[Options]) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Let click call a function of one `kind`: the flags become its fields. Belongs below the last `click.option`."""

    def wrap(main: Callable[[Options], None]) -> Callable[..., None]:
        @functools.wraps(main)
        def call(**flags: Any) -> None:
            main(kind(**flags))

        return call

    return wrap
