"""The section of report.html on the races that chose how negatives are mined and mixed (`compile --target sampler`).

    races(compiled) → ["<h2>How the choice of negatives was raced</h2>", "<p>…", "<figure …", …]

`compiled` is the data of sampler-compiled.json. Each of its candidates belongs to one race: the key of `instructions`.
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
