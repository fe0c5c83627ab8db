"""The type of an argument that names a run folder: one that is not there ends the command, with the name beside it.

$ syneg-dspy report rnus/pairs   →   no such run folder: 'rnus/pairs'; check the path
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


class Made(click.Path):
    """A run folder that is there."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(str(super().convert(value, param, ctx)))
        if not path.is_dir():
            from syneg.data.tables import look_at

            self.fail(f"no such run folder: {str(path)!r}; {look_at(str(path))}", param, ctx)
        return path
