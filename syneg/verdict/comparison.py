"""Compare several runs: a table for a terminal, and a page.

    comparison_table([Side("runs/a", verdict, …), Side("runs/b", …)])
      run           arm             nDCG@10 interval vs base    dev  boundary LM calls      $
      runs/a        hybrid*           0.360 [+0.03, +0.07]   0.381      0.74      96   0.02
      …
      Same collection: hybrid of runs/b less mined of runs/a: +0.012 [-0.004, +0.029] nDCG@10 over 520 test queries.

Runs over the same collection (the same passages, queries, qrels and splits, by its fingerprint) are compared query by
query. For any other run, a sentence says that its figures cannot be compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

from syneg.core.counts import counted
from syneg.core.lines import wrapped
from syneg.data.splits import TELLING

from .figures import Figure, effects
from .markup import document, drawn, html_table
from .records import BASE, Verdict
from .report import number, short
from .sentences import interval_text
from .statistics import paired_interval


@dataclass(frozen=True)
class Side:
    """One run. `settings` are by dotted key; `times` is a sentence on the seconds of its stages.

    `best_values[query_id]` is nDCG@10 of each test query by the run's best arm, the mean over seeds.
    """

    name: str
    verdict: Verdict
    settings: Mapping[str, Any] = field(default_factory=dict)
    best_values: Mapping[str, float] = field(default_factory=dict)
    times: str = ""


COLUMNS = ("run", "arm", "nDCG@10", "vs base", "95 %", "dev", "boundary", "seeds", "train s", "LM calls", "$")


def rows(sides: Sequence[Side]) -> Iterator[tuple[str, ...]]:
    """The cells under COLUMNS for every arm of every run. A star marks the best arm of each run on dev."""
    for side in sides:
        for arm, result in side.verdict.arms.items():
            row = side.verdict.against(BASE, arm) if arm != BASE else None
            interval = row.interval if row else None
            yield (
                side.name, arm + ("*" if arm == side.verdict.best else ""), number(result.test.get("ndcg@10")),
                f"{row.delta:+.4f}" if row else "", f"[{interval[0]:+.3f}, {interval[1]:+.3f}]" if interval else "",
                number(result.dev.get("ndcg@10")), f"{result.boundary.accuracy:.3f}" if result.boundary else "",
                str(result.seeds) if arm != BASE else "", f"{result.seconds:.0f}" if arm != BASE else "",
                str(result.calls), "?" if result.usd is None else f"{result.usd:.2f}",
            )  # fmt: skip


def sentences(sides: Sequence[Side]) -> Iterator[str]:
    """One sentence for each run after the first: its difference to the first run, or why they cannot be compared."""
    first, *others = sides
    for side in others:
        if side.verdict.fingerprint != first.verdict.fingerprint:
            yield _not_compared(side, first)
            continue
        shared = sorted(first.best_values.keys() & side.best_values.keys())
        if not shared:
            yield f"{side.name} and {first.name} have no test query in common."
            continue
        differences = [side.best_values[query] - first.best_values[query] for query in shared]
        few = f"; under {TELLING['test']} queries tell little" if len(shared) < TELLING["test"] else ""
        yield (
            f"Same collection: {side.verdict.best} of {side.name} less {first.verdict.best} of {first.name}: "
            f"{np.mean(differences):+.3f}{interval_text(paired_interval(differences))} nDCG@10 over "
            f"{counted(len(shared), 'test query')}{few}."
        )


def _not_compared(side: Side, first: Side) -> str:
    """Why two runs with other fingerprints cannot be compared."""
    ours, theirs = side.verdict, first.verdict
    so = "so their figures cannot be compared."
    if ours.collection != theirs.collection:
        over = f"{side.name} is over {ours.collection}, {first.name} over {theirs.collection}"
        return f"{over}: they are two collections, {so}"
    if ours.folds == theirs.folds:
        over = f"{side.name} and {first.name} are both over {ours.collection}"
        return f"{over}, but their splits, texts or qrels differ, {so}"
    more, less = (side, first) if ours.folds > theirs.folds else (first, side)
    how = f"in {less.verdict.folds}" if less.verdict.folds else "was not"
    return (
        f"{more.name} was cross-fitted in {more.verdict.folds} folds and {less.name} {how}, {so} "
        f"Run {more.name} again with evaluate.folds={less.verdict.folds}."
    )


def changed_settings(sides: Sequence[Side]) -> list[tuple[str, ...]]:
    """The settings that differ between runs: one row of the key and its value in each run."""
    keys = sorted({key for side in sides for key in side.settings})
    values = [(key, *(str(side.settings.get(key, "")) for side in sides)) for key in keys]
    return [row for row in values if len(set(row[1:])) > 1]


def comparison_table(sides: Sequence[Side]) -> str:
    """The arms of all runs as a text table, then the sentences, wrapped at 80 columns."""
    wanted = [0, 1, 2, 4, 5, 6, 9, 10]
    cells = [[COLUMNS[place] for place in wanted], *([row[place] for place in wanted] for row in rows(sides))]
    widths = [min(24, max(len(row[place]) for row in cells)) for place in range(len(wanted))]
    lines = [
        "  ".join(
            short(cell, width).ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    said = [wrapped(text) for text in sentences(sides)]
    return "\n".join((*lines, "* best on dev", *(["", *said] if said else [])))


def comparison_page(sides: Sequence[Side]) -> str:
    """The HTML page: sentences, a picture of the differences to the base, all arms, settings that differ, times."""
    changed = changed_settings(sides)
    names = ["setting", *(side.name for side in sides)]
    parts = [
        f"<h1>{counted(len(sides), 'run')}</h1>", *(f"<p class=lead>{escape(text)}</p>" for text in sentences(sides)),
        *map(drawn, _figures(sides)), "<h2>Arms</h2>", html_table(COLUMNS, rows(sides)),
        "<p><small>* best on dev</small></p>",
        "<h2>What each run says</h2>",
        *(f"<h3>{escape(side.name)}</h3><p>{escape(side.verdict.sentence)}</p>" for side in sides),
        "<h2>Settings that differ</h2>", html_table(names, changed) if changed else "<p>none</p>",
        "<h2>Times</h2>", html_table(("run", "stages"), [(side.name, side.times) for side in sides]),
    ]  # fmt: skip
    return document(" and ".join(side.name for side in sides), parts)


def _figures(sides: Sequence[Side]) -> Iterable[Figure]:
    named = [
        (f"{side.name}: {arm}", row)
        for side in sides
        for arm in side.verdict.arms
        if arm != BASE and (row := side.verdict.against(BASE, arm))
    ]
    figure = effects(named)
    return [figure] if figure else []
