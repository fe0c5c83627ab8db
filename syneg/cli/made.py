"""Look whether the run folder that a command names is there, before the command does anything else.

$ syneg-dspy report rnus/pairs   →   no such run folder: 'rnus/pairs'; check the path
"""

from __future__ import annotations

from pathlib import Path

import click

from syneg.run.folder import RunFolder


def made(folder: Path) -> Path:
    """Return the folder. Raises UsageError where it is none of a run, with the run that is probably meant."""
    if folder.is_file():
        raise click.UsageError(f"{str(folder)!r} is a file; name the folder of a run")
    if not folder.is_dir():
        from syneg.data.tables import look_at

        raise click.UsageError(f"no such run folder: {str(folder)!r}; {look_at(str(folder))}")
    if not RunFolder(folder).config.is_file():
        inside = sorted(str(other.parent) for other in folder.glob("*/config.toml"))
        todo = f"; name one of the runs in it: {', '.join(inside[:5])}" if inside else ": it has no config.toml"
        raise click.UsageError(f"{str(folder)!r} is no run folder{todo}")
    return folder
