"""Pictures of the report: SVG by matplotlib, each with a sentence for screen readers and its numbers as a table.

    effect(verdict) → Figure("Difference to the base", "mined +0.101 [+0.082, +0.120]", "<svg …", …)

Black in the SVG is replaced by the colour of the page's text, so that one picture suits light, dark and print.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

import numpy as np

from .records import BASE, Comparison, Generation, Verdict
from .report import short

_WIDTH = 5.6  # inches: letters of 11 points stay legible on a screen 390 pixels wide
_LETTER = 0.1  # inches
_BLUE, _RED, _GREY = "#3b7dd8", "#d8573b", "#8a8a8a"


@dataclass(frozen=True)
class Figure:
    """A picture. `text` says in words what it shows; `rows` under `columns` are the numbers that it draws."""

    title: str
    text: str
    svg: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def effect(verdict: Verdict) -> Figure | None:
    """The difference in nDCG@10 of every arm to the base with its interval; None if the base is the only arm."""
    return effects([(arm, row) for arm in verdict.arms if arm != BASE and (row := verdict.against(BASE, arm))])


def effects(named: Sequence[tuple[str, Comparison]]) -> Figure | None:
    """Differences to the base with their intervals, from (name, comparison); None if `named` is empty."""
    rows = [(name, row.delta, row.interval or (row.delta, row.delta)) for name, row in named]
    return ranges("Difference to the base", rows, "nDCG@10 on test minus the base's, with 95 % interval", "arm")


def ranges(title: str, named: Sequence[tuple[str, float, tuple[float, float]]], unit: str, what: str) -> Figure | None:
    """Differences with their intervals, from (name, difference, interval); None if `named` is empty."""
    if not named:
        return None

    def draw(axes: Any) -> None:
        for place, (_, delta, interval) in enumerate(named):
            axes.plot(interval, [place, place], color=_BLUE, linewidth=3)
            axes.plot([delta], [place], "o", color=_BLUE)
        axes.axvline(0, color=_GREY, linewidth=1)
        axes.set_yticks(range(len(named)), [short(name, 28) for name, *_ in named])
        axes.set_ylim(len(named) - 0.5, -0.5)
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel(unit)

    numbers = [(name, f"{delta:+.4f}", f"{low:+.4f}", f"{high:+.4f}") for name, delta, (low, high) in named]
    text = "; ".join(f"{name} {delta} [{low}, {high}]" for name, delta, low, high in numbers)
    return Figure(title, text, _svg(draw, len(named)), (what, "difference", "low", "high"), numbers)


def wins(verdict: Verdict) -> Figure | None:
    """How many test queries each arm improves and worsens; None if the base is the only arm."""
    rows = [row for arm in verdict.arms if arm != BASE and (row := verdict.against(BASE, arm))]
    if not rows:
        return None
    total = verdict.queries.get("test", 0)

    def draw(axes: Any) -> None:
        places = range(len(rows))
        axes.barh(places, [row.wins for row in rows], color=_BLUE)
        axes.barh(places, [-row.losses for row in rows], color=_RED)
        axes.set_yticks(places, [short(row.b, 28) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.locator_params(axis="x", nbins=6, integer=True)
        axes.set_xlabel("test queries: worse to the left, better to the right")

    numbers = [(r.b, str(r.wins), str(total - r.wins - r.losses), str(r.losses)) for r in rows]
    text = "; ".join(f"{name}: {won} better, {same} the same, {lost} worse" for name, won, same, lost in numbers)
    return Figure("Queries won and lost", text, _svg(draw, len(rows)), ("arm", "better", "same", "worse"), numbers)


def bars(title: str, values: Mapping[str, float], unit: str) -> Figure | None:
    """One bar for each value, the longest first; None if there are no values."""
    if not values:
        return None
    values = dict(sorted(values.items(), key=lambda item: (-item[1], item[0])))
    names, heights = [*values], [*values.values()]

    def draw(axes: Any) -> None:
        axes.barh(range(len(names)), heights, color=_BLUE)
        axes.locator_params(axis="x", nbins=6, integer=all(float(height).is_integer() for height in heights))
        axes.set_yticks(range(len(names)), [short(name, 34) for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlabel(unit)

    rows = [(name, f"{value:g}") for name, value in values.items()]
    return Figure(title, "; ".join(f"{n} {v}" for n, v in rows), _svg(draw, len(names)), ("", unit), rows)


def coverage(generation: Generation) -> Figure | None:
    """Negatives wanted and accepted for each value of an attribute, at most 40 values.

    Attributes with one value are left out. None if nothing is left.
    """
    rows = [
        (f"{key}: {value}", wanted, accepted)
        for key, values in generation.coverage.items() if len(values) > 1
        for value, (wanted, accepted) in values.items()
    ][:40]  # fmt: skip
    if not rows:
        return None

    def draw(axes: Any) -> None:
        places = range(len(rows))
        axes.barh(places, [wanted for _, wanted, _ in rows], color=_GREY, alpha=0.5)
        axes.barh(places, [accepted for _, _, accepted in rows], color=_BLUE, height=0.45)
        axes.set_yticks(places, [short(name, 34) for name, _, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel("negatives: wanted (grey), accepted (blue)")

    numbers = [(name, str(wanted), str(accepted)) for name, wanted, accepted in rows]
    text = "; ".join(f"{name}: {accepted} of {wanted}" for name, wanted, accepted in numbers)
    return Figure("Attributes covered", text, _svg(draw, len(rows)), ("value", "wanted", "accepted"), numbers)


def histogram(title: str, groups: Mapping[str, Sequence[float]], unit: str) -> Figure | None:
    """How the values of each group are spread over 20 bins, as shares of the group; None if there are no values."""
    filled = {name: values for name, values in groups.items() if values}
    if not filled:
        return None
    together = [value for values in filled.values() for value in values]
    edges = np.histogram_bin_edges(together, 20)

    def draw(axes: Any) -> None:
        for (name, values), style in zip(filled.items(), ("-", "--", ":", "-.") * len(filled), strict=False):
            shares = np.histogram(values, edges)[0] / len(values)
            axes.step(edges, [*shares, shares[-1]], where="post", linestyle=style, label=name, linewidth=2)
        axes.set_xlabel(unit)
        axes.set_ylabel("share of the group")

    rows = [(name, str(len(v)), *(f"{x:.3f}" for x in np.quantile(v, [0.25, 0.5, 0.75]))) for name, v in filled.items()]
    text = "; ".join(f"{name}: median {row[2]} of {row[0]}" for name, *row in rows)
    return Figure(title, text, _svg(draw, 6), ("group", "count", "25 %", "median", "75 %"), rows)


def curves(title: str, lines: Mapping[str, Sequence[tuple[float, float]]], unit: str) -> Figure | None:
    """Values over steps: one line for each training, of (step, value) points. None if no line has two points."""
    filled = {name: points for name, points in lines.items() if points}
    if max(map(len, filled.values()), default=0) < 2:
        return None

    def draw(axes: Any) -> None:
        for name, points in filled.items():
            axes.plot(*zip(*points, strict=True), marker="o", label=short(name, 28))
        axes.locator_params(axis="x", integer=True)
        axes.set_xlabel("step")
        axes.set_ylabel(unit)

    rows = [(name, f"{step:g}", f"{value:.4f}") for name, points in filled.items() for step, value in points]
    text = "; ".join(f"{name}: {points[0][1]:.4f} to {points[-1][1]:.4f}" for name, points in filled.items())
    return Figure(title, text, _svg(draw, 6), ("training", "step", unit), rows)


def intervals(title: str, points: Sequence[tuple[int, float, float]], unit: str) -> Figure | None:
    """Values by number, from (number, value, half of the interval), with the best so far as a line; None under two."""
    if len(points) < 2:
        return None
    numbers, values, halves = zip(*points, strict=True)
    best = np.maximum.accumulate(values)

    def draw(axes: Any) -> None:
        axes.step(numbers, best, where="post", color=_GREY, linewidth=1, label="best so far")
        axes.errorbar(numbers, values, yerr=halves if any(halves) else None, fmt="o", color=_BLUE, capsize=3)
        axes.locator_params(axis="x", nbins=min(8, len(points)), integer=True)
        axes.set_title(unit, loc="left", fontsize=11)  # a long label would not fit beside the axis
        axes.set_xlabel("number of the text; 0 is the author's own")

    rows = [
        (str(n), f"{value:+.4f}", *((f"{value - half:+.4f}", f"{value + half:+.4f}") if half else ("", "")))
        for n, value, half in points
    ]
    top = int(np.argmax(values))
    text = f"{len(points)} texts; the highest is no. {numbers[top]} with {values[top]:.4f}, no. 0 has {values[0]:.4f}"
    return Figure(title, text, _svg(draw, 6), ("number", unit, "low", "high"), rows)


def _svg(draw: Callable[[Any], None], rows: int) -> str:
    """Let `draw` fill one pair of axes, as high as `rows` bars need; return the SVG element.

    A legend of what is labelled stands above the axes, where it covers nothing, and makes the picture higher.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    style: Any = {
        "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11, "svg.hashsalt": "syneg",
        "text.parse_math": False,
    }  # fmt: skip
    with matplotlib.rc_context(style):
        canvas = Canvas(figsize=(_WIDTH, 1.0 + 0.3 * rows), layout="constrained")
        FigureCanvasSVG(canvas)
        axes = canvas.add_subplot()
        draw(axes)
        # under the whole picture, since a label may be wider than the axes beside long names
        canvas.supxlabel(fill(axes.get_xlabel(), int(_WIDTH / _LETTER)), fontsize="medium")
        axes.set_xlabel("")
        if labels := axes.get_legend_handles_labels()[1]:
            columns = max(1, int(_WIDTH / (0.6 + _LETTER * max(map(len, labels)))))  # inches of a line and of a name
            canvas.set_figheight(canvas.get_figheight() + 0.25 * -(-len(labels) // columns))
            canvas.legend(loc="outside upper left", ncols=columns, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        file = io.StringIO()
        canvas.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    drawn = file.getvalue()[file.getvalue().index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r"<svg[^>]*?viewBox", '<svg aria-hidden="true" viewBox', drawn, count=1, flags=re.DOTALL)
    return drawn.replace("#000000", "currentColor").replace('<text style="', '<text style="fill: currentColor; ')
