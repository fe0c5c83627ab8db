"""The last word on a compilation: the best candidate against the program as it was, on queries that no proposal saw.

    Confirmed.of(3, {"q1": .63, …}, {"q1": .50, …}, how="round trips of other passages").verdict
      → "No difference is shown, so the program as it was is used."

- The candidate wins if the whole 95 % interval of the paired difference lies over 0.
- It loses if the interval lies under 0, or if standard nDCG@10 falls by more than the error of that difference.
- Otherwise no difference is shown. Where both programs have a cost, the cheaper one is then used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from syneg.retrieval.metrics import mean, mean_and_error

from .records import Interval
from .statistics import detectable, paired_interval

_ALPHA, _NDCG = 0.05, "nDCG@10"


@dataclass(frozen=True)
class Confirmed:
    """Comparison of a candidate with the first program on `queries` queries, in `measure`.

    `mean` holds the values of the candidate and of the first program, `delta` their paired difference, `error` its
    standard error, `interval` its 95 % interval. `detectable` is the smallest difference that this number of queries
    shows with power .8. `how` names what was ranked. `standard` is the difference in standard nDCG@10 with its error,
    None if that is `measure` itself. `cost` is what an accepted negative takes with the candidate and with the first
    program, in `unit`; None for programs that write none. `test` is the same comparison on the test queries, which
    decides nothing; None if it was not made.
    """

    candidate: int
    mean: tuple[float, float]
    delta: float
    error: float
    queries: int
    interval: Interval | None = None
    detectable: float | None = None
    how: str = "full training, confirm split"
    measure: str = _NDCG
    standard: tuple[float, float] | None = None
    cost: tuple[float, float] | None = None
    unit: str = "tokens"
    test: Confirmed | None = None

    @classmethod
    def of(cls, candidate: int, best: Mapping[str, float], first: Mapping[str, float], **more: Any) -> Confirmed:
        """Make it from query_id → value with the candidate (`best`) and with the first program (`first`).

        `more` are further fields: `how`, `measure`, `standard`, `cost`, `unit`.
        """
        deltas = differences(best, first)
        means = mean(best), mean({query_id: first[query_id] for query_id in best})
        return cls(
            candidate, means, *mean_and_error(deltas), len(deltas), paired_interval(deltas),
            detectable(deltas, _ALPHA), **more,
        )  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Confirmed:
        """Read it from plain data; keys that it does not have are left out."""
        names = {field.name for field in fields(cls)}
        known = {name: value for name, value in data.items() if name in names}
        return cls(**{**known, "test": cls.from_json(known["test"]) if known.get("test") else None})

    @property
    def falls(self) -> bool:
        """Whether standard nDCG@10 falls by more than its error."""
        return self.standard is not None and self.standard[0] < -self.standard[1]

    @property
    def shown(self) -> bool:
        """Whether a difference is shown: the interval does not hold 0."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]

    @property
    def replaces(self) -> bool:
        """Whether the candidate replaces the program: it is better, or there is no difference and it is cheaper."""
        if self.falls:
            return False
        if self.shown:
            return self.delta > 0
        return self.cost is not None and self.cost[0] < self.cost[1]

    @property
    def figures(self) -> str:
        """The difference with error, interval, queries, the smallest difference they show, and standard nDCG@10."""
        text = f"{self.delta:+.4f} ± {self.error:.4f}"
        if self.interval is not None:
            text += f" [{self.interval[0]:+.4f}, {self.interval[1]:+.4f}]"
        text += f", {self.queries} queries"
        if self.detectable is not None:
            text += f", which would have shown {self.detectable:.4f}"
        if self.standard is not None:
            text += f"; standard {_NDCG} {self.standard[0]:+.4f} ± {self.standard[1]:.4f}"
        return text

    @property
    def tested(self) -> str:
        """The comparison on the test queries, in a sentence; "" if it was not made."""
        if self.test is None:
            return ""
        best, first = self.test.mean
        return (
            f"On {self.test.queries} test queries, after the choice: {self.measure} {best:.4f} with the candidate, "
            f"{first:.4f} with the first ({self.test.figures})."
        )

    @property
    def verdict(self) -> str:
        """What follows, in one or two sentences."""
        if self.falls:
            return f"Standard {_NDCG} falls by more than its error, so the program as it was is used."
        if self.shown and self.delta > 0:
            return "The interval lies over 0, so the candidate replaces the program."
        if self.shown:
            return "The candidate is worse, so the program as it was is used."
        if self.cost is None:
            return "No difference is shown, so the program as it was is used."
        which = "the candidate" if self.replaces else "the program as it was"
        return (
            f"No difference is shown. An accepted negative takes {_amount(self.cost[0], self.unit)} with the candidate "
            f"and {_amount(self.cost[1], self.unit)} with the program as it was, so {which} is used."
        )


def differences(best: Mapping[str, float], first: Mapping[str, float]) -> list[float]:
    """The paired differences, by query id."""
    return [best[query_id] - first[query_id] for query_id in sorted(best)]


def _amount(value: float, unit: str) -> str:
    return f"${value:.5f}" if unit == "dollars" else f"{value:,.0f} {unit}"
