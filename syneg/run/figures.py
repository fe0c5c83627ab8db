"""Hold the estimate of a run: calls, tokens, dollars and minutes of each part, likely and at most; print it.

Part("write multi_attribute", "openai/gpt-4o-mini", calls=Figure(52, 80), reads=Figure(31000, 48000), …)
Estimate((part, …), notes=("assumed: …",)).line()
  → "estimate: 52 LM calls (at most 80), 31k tokens in, 9.1k out, $0.02, 6 minutes"
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from syneg.core.lines import wrapped


@dataclass(frozen=True)
class Figure:
    """An estimated value: the likely one, and an upper bound."""

    likely: float = 0.0
    most: float = 0.0

    def __add__(self, other: Figure) -> Figure:
        return Figure(self.likely + other.likely, self.most + other.most)

    def times(self, likely: float, most: float | None = None) -> Figure:
        """Multiply both values by `likely`; the upper bound by `most` if that is given."""
        return Figure(self.likely * likely, self.most * (likely if most is None else most))


NOTHING = Figure()


@dataclass(frozen=True)
class Part:
    """The estimate for one use of an LM, or for one stage that calls none (`lm` is "").

    `reads` and `writes` are tokens of all calls together. `usd` and `minutes` are None if they are unknown.
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
    """The parts of a run that are left to do, in the order of the path. `notes` name what was assumed."""

    parts: tuple[Part, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def whole(self) -> Part:
        """The sum of all parts. Dollars are None if one part has no price; parts without minutes count as 0 minutes."""
        unpriced = any(part.usd is None for part in self.parts)
        return Part(
            "in all",
            calls=_sum(part.calls for part in self.parts), reads=_sum(part.reads for part in self.parts),
            writes=_sum(part.writes for part in self.parts),
            usd=None if unpriced else _sum(part.usd or NOTHING for part in self.parts),
            minutes=_sum(part.minutes or NOTHING for part in self.parts),
        )  # fmt: skip

    def line(self) -> str:
        """The sum of all parts in one line; it names the parts whose minutes are unknown."""
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
        """A table of at most 80 columns: likely values of each part, then the likely sum and the upper bound."""
        if not self.parts:
            return "nothing is left to do"
        lines = [f"{'':32s} {'calls':>8s} {'tokens in':>10s} {'out':>8s} {'USD':>9s} {'minutes':>8s}"]
        lines += [_row(part.name, part, most=False) for part in self.parts]
        lines += [_row("in all, likely", self.whole, most=False), _row("in all, at most", self.whole, most=True)]
        if not self.whole.calls.most:
            lines.append("no LM would be called")
        return "\n".join([*lines, *(wrapped(note, "  ") for note in self.notes)])


def _row(name: str, part: Part, *, most: bool) -> str:
    def value(figure: Figure) -> float:
        return figure.most if most else figure.likely

    usd = "unknown" if part.usd is None else f"{value(part.usd):.2f}"
    minutes = "unknown" if part.minutes is None else _minutes(value(part.minutes))
    if not part.calls.most:
        return f"{_cut(name):32s} {'':>8s} {'':>10s} {'':>8s} {'':>9s} {minutes:>8s}"
    cells = [_short(value(figure)) for figure in (part.calls, part.reads, part.writes)]
    return f"{_cut(name):32s} {cells[0]:>8s} {cells[1]:>10s} {cells[2]:>8s} {usd:>9s} {minutes:>8s}"


def _cut(name: str) -> str:
    """At most 32 letters of a name: its first word and its end, which tells one program of a user from another."""
    verb, _, rest = name.partition(" ")
    return name if len(name) <= 32 else f"{verb} …{rest[len(verb) - 30 :]}"


def _sum(figures: Iterable[Figure]) -> Figure:
    return sum(figures, NOTHING)


def _minutes(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def _short(value: float) -> str:
    return f"{value / 1e6:.1f}M" if value >= 1e6 else f"{value / 1e3:.0f}k" if value >= 1e4 else f"{value:.0f}"
