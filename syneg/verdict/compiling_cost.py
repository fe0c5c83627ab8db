"""What a compilation cost, in a sentence, and its curve as text, for program.md and the report.

    cost(compiled)     → "The search took 60 calls, 31,200 tokens, $0.04 and 11.5 minutes; the comparison that had …"
    curve(rows)        → ["no. 0   0.410 ± 0.060  ########              best so far", …]

`compiled` is the data of compiled.json, `rows` are its candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .statistics import ERRORS_95

_WIDTH = 20  # characters of a bar for the value 1


def cost(compiled: Mapping[str, Any]) -> str:
    """What search and last comparison took, and which limit ended the search."""
    search, last = _took(compiled.get("used", {})), compiled.get("used_to_confirm") or {}
    text = f"The search took {search}"
    if last:
        text += f"; the comparison that had the last word took {_took(last)}"
    elif compiled.get("confirmed"):
        text += "; the comparison that had the last word is not counted"
    ended = f" A limit ended the search early ({compiled['stopped']})." if compiled.get("stopped") else ""
    return f"{text}.{ended}"


def curve(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each text, in the order of the proposals: the value of its answers with half of the 95 % interval, a bar, and
    what is the highest so far. A text that repeats a phrase of the data does not count."""
    lines, best = [], -1.0
    for row in rows:
        value, error = row["critic"], ERRORS_95 * (row.get("critic_error") or 0.0)
        mark = "  best so far" if value > best and not row["copies"] else ""
        best = max(best, value) if mark else best
        bar = "#" * round(_WIDTH * min(1.0, max(0.0, value)))
        gain = "" if row["gain"] is None else f"  gain {row['gain']:+.4f}"
        line = f"no. {row['number']:<3} {value:.3f} ± {error:.3f}  {bar:<{_WIDTH}}{gain}{mark}"
        lines.append(line.rstrip())
    return lines


def _took(used: Mapping[str, float]) -> str:
    parts = [
        f"{used.get('calls', 0):,.0f} calls", f"{used.get('tokens', 0):,.0f} tokens", f"${used.get('usd', 0.0):.2f}",
    ]  # fmt: skip
    if "minutes" not in used:
        return ", ".join(parts)
    return f"{', '.join(parts)} and {used['minutes']:.1f} minutes"
