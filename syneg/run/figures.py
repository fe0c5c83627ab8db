"""What a run is estimated to take: figures with a likely and a greatest value, by part, and as text.

Part("write multi_attribute", "openai/gpt-4o-mini", calls=Figure(52, 80), reads=Figure(31000, 48000), …)
Estimate((part, …), notes=("assumed: …",)).line()
  → "estimate: 52 LM calls (at most 80), 31k tokens in, 9.1k out, $0.02, 6 minutes"
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figure:
    """A value as it is likely to be, and at most."""

    likely: float = 0.0
    most: float = 0.0

    def __add__(self, other: Figure) -> Figure:
        return Figure(self.likely + other.likely, self.most + other.most)

    def times(self, likely: float, most: float | None = None) -> Figure:
        """Both values multiplied, the greatest by `most` where that is given."""
        return Figure(self.likely * likely, self.most * (likely if most is None else most))


NOTHING = Figure()


@dataclass(frozen=True)
class Part:
    """One use of an LM, or one stage without one (`lm` is ""). `usd` and `minutes` are None where nothing tells them.

    `reads` and `writes` are tokens.
    """

    name: str
    lm: str = ""
    calls: Figure = NOTHING
    reads: Figure = NOTHING
    writes: Figure = NOTHING
    usd: Figure | None = NOTHING
    minutes: Figure | None = NOTHING


@dataclass(frozen=True)
class Estimate:
    """The parts of what is left of a run, in the order of the path; `notes` say what had to be assumed."""

    parts: tuple[Part, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def whole(self) -> Part:
        """The sum of all parts. Dollars are unknown where those of one part are; minutes are the sum of those known."""
        unpriced = any(part.usd is None for part in self.parts)
        return Part(
            "in all",
            calls=_sum(part.calls for part in self.parts), reads=_sum(part.reads for part in self.parts),
            writes=_sum(part.writes for part in self.parts),
            usd=None if unpriced else _sum(part.usd or NOTHING for part in self.parts),
            minutes=_sum(part.minutes or NOTHING for part in self.parts),
        )  # fmt: skip

    def line(self) -> str:
        """All of it in one sentence."""
        whole = self.whole
        usd = "dollars unknown" if whole.usd is None else f"${whole.usd.likely:.2f} (at most ${whole.usd.most:.2f})"
        minutes = whole.minutes.likely if whole.minutes else 0.0
        untimed = [part.name for part in self.parts if part.minutes is None]
        besides = f" without {', '.join(untimed)}" if untimed else ""
        return (
            f"estimate: {_short(whole.calls.likely)} LM calls (at most {_short(whole.calls.most)}), "
            f"{_short(whole.reads.likely)} tokens in, {_short(whole.writes.likely)} out, {usd}, "
            f"{_minutes(minutes)} minutes{besides}"
        )

    def table(self) -> str:
        """For a terminal of 80 columns: likely values by part, and the sum as it is likely and at most."""
        if not self.parts:
            return "nothing is left to do"
        lines = [f"{'':32s} {'calls':>8s} {'tokens in':>10s} {'out':>8s} {'USD':>9s} {'minutes':>8s}"]
        lines += [_row(part.name, part, most=False) for part in self.parts]
        lines += [_row("in all, likely", self.whole, most=False), _row("in all, at most", self.whole, most=True)]
        if not self.whole.calls.most:
            lines.append("no LM would be called")
        return "\n".join([*lines, *(textwrap.fill(note, 80, subsequent_indent="  ") for note in self.notes)])


def _row(name: str, part: Part, *, most: bool) -> str:
    def value(figure: Figure) -> float:
        return figure.most if most else figure.likely

    usd = "unknown" if part.usd is None else f"{value(part.usd):.2f}"
    minutes = "unknown" if part.minutes is None else _minutes(value(part.minutes))
    if not part.calls.most:
        return f"{name[:32]:32s} {'':>8s} {'':>10s} {'':>8s} {'':>9s} {minutes:>8s}"
    cells = [_short(value(figure)) for figure in (part.calls, part.reads, part.writes)]
    return f"{name[:32]:32s} {cells[0]:>8s} {cells[1]:>10s} {cells[2]:>8s} {usd:>9s} {minutes:>8s}"


def _sum(figures: Iterable[Figure]) -> Figure:
    return sum(figures, NOTHING)


def _minutes(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def _short(value: float) -> str:
    return f"{value / 1e6:.1f}M" if value >= 1e6 else f"{value / 1e3:.0f}k" if value >= 1e4 else f"{value:.0f}"
