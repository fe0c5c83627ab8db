"""The sections of report.html on the races that chose how negatives are mined and mixed.

    races(compiled) → ["<h2>How the choice of negatives was raced</h2>", "<p>…", "<figure …", …]
    window(chosen)  → ["<h2>How the margin of mining was chosen</h2>", "<p>…", "<table>…"]

`compiled` is the data of sampler-compiled.json (`compile --target sampler`). Each of its candidates belongs to one
race: the key of `instructions`. `chosen` is the data of window.json (`mine.margin = auto`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from syneg.core.records import NO_MARGIN
from syneg.core.toml import as_typed

from .figures import ranges
from .markup import drawn, html_table
from .statistics import ERRORS_95

_WHAT = (
    "The settings that choose negatives were raced, one question after the other. In a race, each candidate trains a "
    "short probe on the same train pairs, and the probes rank the same held-out queries. A candidate that surely loses "
    "is stopped. The first candidate of a race is what was set or chosen before; another one replaces it only if the "
    "paired comparison is sure. No LLM is asked."
)


def races(compiled: Mapping[str, Any]) -> list[str]:
    """The section as parts of HTML: what was chosen, then a figure and a table for each race."""
    by_race: dict[str, list[Mapping[str, Any]]] = {}
    for row in compiled.get("candidates", ()):
        by_race.setdefault(next(iter(row["instructions"])), []).append(row)
    probes = compiled.get("used", {}).get("probes", 0)
    outcome = "The races changed the settings." if compiled["won"] else "The races left the settings as they were."
    notes = "".join(f"<li>{escape(note)}</li>" for note in compiled.get("notes", ()))
    return [
        "<h2>How the choice of negatives was raced</h2>", f"<p>{escape(_WHAT)}</p>",
        f"<p>{outcome} They took {probes:.0f} probes.</p>",
        html_table(("setting", "chosen"), as_given(compiled.get("state", {}))),
        f"<details><summary>all that was measured</summary><ul>{notes}</ul></details>" if notes else "",
        *(part for about, rows in by_race.items() for part in _race(about, rows)),
    ]  # fmt: skip


def window(chosen: Mapping[str, Any] | None) -> list[str]:
    """The section on the choice of the margin as parts of HTML: the reason, then a table for each race.

    [] for None.
    """
    if chosen is None:
        return []
    sources = f" from {', '.join(chosen['sources'])} alone" if chosen["sources"] else ""
    why = f"<p>Mined by {escape(chosen['window'] + sources)}: {escape(chosen['why'])}.</p>"
    tables = []
    for rivals in chosen["races"]:
        first = next((row["name"] for row in rivals), "")
        columns = ("candidate", f"nDCG@10 over {first}", "what a reader found", "what became of it")
        rows = [
            (row["name"], _gain(row["gain"], row["error"]), row["answers"], _outcome(row, place))
            for place, row in enumerate(rivals)
        ]
        filled = [place for place in range(len(columns)) if any(row[place] for row in rows)]
        tables.append(html_table([columns[i] for i in filled], [[row[i] for i in filled] for row in rows]))
    return ["<h2>How the margin of mining was chosen</h2>", why, *tables]


def _gain(gain: float | None, error: float | None) -> str:
    return "" if gain is None or error is None else f"{gain:+.4f} ± {ERRORS_95 * error:.4f}"


def _outcome(row: Mapping[str, Any], place: int) -> str:
    """What became of a window in its race. Without a gain it did not race."""
    if row["gain"] is None:
        return "stays, no race was run" if place == 0 else "did not race"
    return _became({**row, "stopped": f"after block {row['blocks']}" if row["stopped"] else ""}, place)


def as_given(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each setting with its value as a user types it; a margin that excludes nothing is called none."""
    return [
        (key, "none" if key == "mine.margin" and value >= NO_MARGIN else as_typed(value))
        for key, value in settings.items()
    ]


def _race(about: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    names = [next(iter(row["instructions"].values())).partition(":")[0] for row in rows]
    gains = [
        (name, row["gain"], (row["gain"] - ERRORS_95 * row["error"], row["gain"] + ERRORS_95 * row["error"]))
        for name, row in zip(names, rows, strict=True)
    ]
    figure = ranges(f"Race: {about}", gains, f"nDCG@10 over {names[0]}, with 95 % interval", "candidate")
    cells = [
        (name, f"{row['gain']:+.4f} ± {ERRORS_95 * row['error']:.4f}", str(row["pairs"]), _became(row, place))
        for place, (name, row) in enumerate(zip(names, rows, strict=True))
    ]
    why = f"<p>{escape(str(rows[0].get('origin', '')))}</p>"
    return [
        drawn(figure, 3) if figure else "", why,
        html_table(("candidate", f"nDCG@10 over {names[0]}", "blocks", "what became of it"), cells),
    ]  # fmt: skip


def _became(row: Mapping[str, Any], place: int) -> str:
    if row.get("stopped"):
        return f"stopped {row['stopped']}"
    return "stays unless another is sure to be better" if place == 0 else "raced to the end"
