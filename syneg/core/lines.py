"""Wrap text for a terminal of 80 columns. Every line that a command prints is wrapped here.

wrapped("written by single_prompt with openai/gpt-4o-mini")   a name is never cut, also not at its hyphens
"""

from __future__ import annotations

import textwrap

COLUMNS = 80


def wrapped(text: str, indent: str = "", columns: int = COLUMNS) -> str:
    """Wrap one paragraph between words; `indent` precedes each line after the first. A longer word stays whole."""
    return textwrap.fill(text, columns, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)
