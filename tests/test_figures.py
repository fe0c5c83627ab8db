"""What the pictures of the report show, read from the figures that matplotlib draws."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from matplotlib.figure import Figure as Canvas

from syneg.verdict.figures import Figure, curves, histogram, intervals, ranges


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Callable[[Figure | None], Any]:
    """Return the canvas of the picture that was drawn last."""
    canvases, save = [], Canvas.savefig

    def saved(canvas: Canvas, *args: Any, **kwargs: Any) -> None:
        save(canvas, *args, **kwargs)
        canvases.append(canvas)

    monkeypatch.setattr(Canvas, "savefig", saved)
    return lambda figure: canvases[-1] if figure is not None else pytest.fail("nothing is drawn")


def cosines(count: int) -> dict[str, list[float]]:
    """Groups as those of a report: mined, accepted, rejected, positive."""
    draw, means = random.Random(0), {"mined": 0.55, "accepted": 0.6, "rejected": 0.5, "positive": 0.75}
    return {name: [draw.gauss(mean, 0.1) for _ in range(count)] for name, mean in means.items()}


@pytest.mark.parametrize(
    "make",
    [
        lambda: histogram("Cosine", cosines(6), "cosine"),
        lambda: histogram("Cosine", cosines(600), "cosine"),
        lambda: curves(
            "Score", {f"hybrid@program=multi_attribute, {n}": [(0, n), (9, n + 1)] for n in range(15)}, "nDCG@10"
        ),
        lambda: curves("Score", {f"mined, seed {n}": [(0, n), (9, n + 1)] for n in range(15)}, "nDCG@10"),
        lambda: intervals("Gain", [(n, n % 3, 0.5) for n in range(9)], "gain, with 95 %"),
    ],
    ids=["6 texts", "600 texts", "15 long names", "15 names", "one line"],
)
def test_a_legend_covers_nothing_that_is_drawn(
    make: Callable[[], Figure | None], drawn: Callable[[Figure | None], Any]
) -> None:
    canvas = drawn(make())
    (axes,) = canvas.axes
    boxes = [legend.get_window_extent() for legend in (*canvas.legends, axes.get_legend()) if legend is not None]
    assert boxes
    for box in boxes:
        assert not box.overlaps(axes.get_window_extent())
        assert box.x0 >= 0 and box.x1 <= canvas.bbox.x1 and box.y1 <= canvas.bbox.y1
    assert axes.get_window_extent().height / canvas.dpi > 1.8  # inches that the legend leaves


@pytest.mark.parametrize("name", ["mined", "hybrid@program=multi_attribute@ratio=0.7"])
@pytest.mark.parametrize("unit", ["nDCG@10 on test minus the base's, with 95 % interval", "gain, " * 30])
def test_the_label_of_an_axis_is_inside_the_picture(
    name: str, unit: str, drawn: Callable[[Figure | None], Any]
) -> None:
    canvas = drawn(ranges("Difference", [(name, 0.1, (0.0, 0.2)), ("b", 0.1, (0.0, 0.2))], unit, "arm"))
    canvas.set_dpi(72)  # as an SVG has it
    texts = [text for text in (canvas._supxlabel, canvas.axes[0].xaxis.label) if text is not None and text.get_text()]
    boxes = [text.get_window_extent() for text in (*texts, *canvas.axes[0].get_yticklabels())]
    assert " ".join(texts[0].get_text().split()) == unit.strip()
    assert all(box.x0 >= 0 and box.x1 <= canvas.bbox.x1 and box.y0 >= 0 for box in boxes), boxes


def test_a_histogram_shows_its_last_bin_and_values_that_are_all_equal(drawn: Callable[[Figure | None], Any]) -> None:
    steps = drawn(histogram("Cosine", {"mined": [0.0, 1.0, 1.0, 1.0]}, "cosine")).axes[0].lines[0]
    assert list(zip(*steps.get_data(), strict=True))[-2:] == [(pytest.approx(0.95), 0.75), (1.0, 0.75)]
    axes = drawn(histogram("Cosine", {"mined": [0.5] * 6}, "cosine")).axes[0]
    low, high = axes.get_xlim()
    assert high - low > 0.1 and max(axes.lines[0].get_ydata()) == 1.0
