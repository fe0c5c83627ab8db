"""Look whether the run folder that a command names is there, before the command does anything else.

$ syneg-dspy report rnus/pairs   →   no such run folder: 'rnus/pairs'; check the path
"""

from __future__ import annotations

from pathlib import Path

import click


def made(folder: Path) -> Path:
    """Return the folder. Raises UsageError where none is, with the name beside it that is much like it."""
    if not folder.is_dir():
        from syneg.data.tables import look_at

        raise click.UsageError(f"no such run folder: {str(folder)!r}; {look_at(str(folder))}")
    return folder
