"""What changed in the text of a program, word by word, as HTML.

diffs(rows, best=2) → ["<h3>What changed in no. 2, …</h3><blockquote>Write <del>one</del> <ins>a short</ins> …", …]
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_FEW_WORDS = 3  # fewer unchanged words between two changes are shown as part of one change


def diffs(rows: Sequence[Mapping[str, Any]], best: int) -> list[str]:
    """The changes in the chosen text (number `best`), then those in every other text, folded."""
    if len(rows) < 2:
        return []
    parts = []
    for row in sorted(rows[1:], key=lambda row: row["number"] != best):
        body = "".join(_diff(name, rows[0], row) for name in row["instructions"])
        if row["number"] == best:
            parts.append(f"<h3>What changed in no. {best}, the text that was chosen</h3>{body}")
        else:
            parts.append(f"<details><summary>What changed in no. {row['number']}</summary>{body}</details>")
    return parts


def _diff(name: str, first: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """The changes in one step of a program: removed and added words, and its number of worked examples."""
    before, after = first["instructions"].get(name, "").split(), row["instructions"][name].split()
    words, a, c = list[str](), 0, 0
    for block in difflib.SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks():
        if 0 < block.size < _FEW_WORDS and block.b + block.size < len(after):
            continue  # a few words between two changes belong to one change
        old, new = escape(" ".join(before[a : block.a])), escape(" ".join(after[c : block.b]))
        words += [f"<del>{old}</del>"] * bool(old) + [f"<ins>{new}</ins>"] * bool(new)
        a, c = block.a + block.size, block.b + block.size
        words.append(escape(" ".join(after[block.b : c])))
    examples, others = row["demos"].get(name, 0), first["demos"].get(name, 0)
    shown = f"; {examples} worked examples in place of {others}" if examples != others else ""
    same = " (the instruction is as it was)" if before == after else ""
    return f"<p><small>step {escape(name)}{shown}{same}</small></p><blockquote>{' '.join(words)}</blockquote>"
