"""Colour what a stage prints on a terminal. In a pipe, and where NO_COLOR is set, the text stays as it is.

painted("arm      seeds\\nhybrid*      1")
  → "\\x1b[1marm      seeds\\x1b[0m\\n\\x1b[32m\\x1b[1mhybrid*      1\\x1b[0m"
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import click

_HEADINGS = ("arm", "model", "run")  # first words of the headings of tables


def show(text: str, *, err: bool = False) -> None:
    """Print text, coloured if the stream is a terminal: click takes the colours out of everything else."""
    click.echo(text if os.environ.get("NO_COLOR") else painted(text), err=err)


def painted(text: str) -> str:
    """Return the text with ANSI colours: headings of tables bold, the best arm green, errors red, diffs as usual."""
    return "\n".join(_painted_lines(text.split("\n")))


def _painted_lines(lines: list[str]) -> Iterator[str]:
    in_diff = False
    for line in lines:
        first = line.split(" ", 1)[0]
        if line.startswith("```"):
            in_diff = line == "```diff"
        if in_diff and line[:1] in ("+", "-", "@"):
            yield click.style(line, fg={"+": "green", "-": "red", "@": "cyan"}[line[0]])
        elif line.startswith("error: "):
            yield click.style("error:", fg="red", bold=True) + line.removeprefix("error:")
        elif first in _HEADINGS and "  " in line:
            yield click.style(line, bold=True)
        elif first.endswith("*") and len(first) > 1:
            yield click.style(line, fg="green", bold=True)
        else:
            yield line
