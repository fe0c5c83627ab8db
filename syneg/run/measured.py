"""Record how a reader's grades agree with labelled queries, and decide whether it is trusted.

    Measured(lm="openai/gpt-4o-mini", split="dev", agreement=…, interval=(0.041, 0.172), …).trusted → True

A reader is trusted if its kappa reaches `reader.min_kappa` and its order of passages is better than the encoder's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from syneg.core.counts import counted
from syneg.core.storage import JsonObject
from syneg.negatives.cascade import RULE
from syneg.negatives.cross_reading import Thresholds
from syneg.negatives.reader_agreement import Agreement
from syneg.verdict.records import Interval
from syneg.verdict.sentences import interval_text
from syneg.verdict.verdict import Cost


@dataclass(frozen=True)
class Measured:
    """Agreement of a reader with the labels of queries of `split`, and the cost of measuring it.

    `interval` is the 95 % interval of its gain in nDCG@10 over the encoder, None if there are too few lists.
    `thresholds` are those of a cross-encoder. `in_doubt` counts the lists that the strong LM read again; None without a
    strong LM.
    """

    lm: str
    split: str
    agreement: Agreement
    interval: Interval | None
    min_kappa: float
    cost: Cost
    thresholds: Thresholds | None = None
    in_doubt: int | None = None

    @property
    def trusted(self) -> bool:
        """Whether kappa reaches `min_kappa`, nDCG@10 exceeds the encoder's, and the interval has no part under 0."""
        return not self.doubts

    @property
    def doubts(self) -> tuple[str, ...]:
        """What the reader fails of the rule of trust, in words."""
        agreed = self.agreement
        if not agreed.lists:
            return (f"none of its answers to {counted(agreed.unreadable, 'list')} could be read",)
        kappa = "" if agreed.kappa >= self.min_kappa else f"kappa {agreed.kappa:.2f} (wanted {self.min_kappa:g})"
        return tuple(filter(None, (kappa, self._doubt_of_order())))

    def _doubt_of_order(self) -> str:
        ours, theirs = self.agreement.ndcg
        if ours <= theirs:
            return f"nDCG@10 of its order {ours:.3f} against the encoder's {theirs:.3f}"
        gain = "the gain of its order over the encoder's"
        if self.interval is None:
            return f"{gain} is known from one list alone"
        return (
            f"{gain} may be chance: {ours - theirs:+.3f}{interval_text(self.interval)}" if self.interval[0] < 0 else ""
        )

    def table(self) -> str:
        """The figures and the rule of trust as text of at most 80 columns."""
        agreed = self.agreement
        ours, theirs = agreed.ndcg
        between = interval_text(self.interval)
        measured = (
            f"measured on {agreed.lists} {self.split} queries, {agreed.unreadable} more without a readable answer"
        )
        if not agreed.lists:
            return f"{measured}\nNOT trusted: {self.doubts[0]}"
        lines = [
            measured,
            f"hidden positives        {agreed.positives:>6}   graded 3: {agreed.answers}, graded 2: {agreed.in_part}"
            f" (recall {agreed.recall:.2f})",
            f"known negatives         {agreed.checks:>6}   graded 2 or 3: {agreed.false} "
            f"({agreed.false / max(1, agreed.checks):.2f})",
            f"Cohen's kappa           {agreed.kappa:>6.2f}   wanted {self.min_kappa:g}",
            f"nDCG@10 of its order    {ours:>6.3f}   of the encoder's {theirs:.3f}: {ours - theirs:+.3f}{between}",
        ]
        if self.thresholds:
            limits = self.thresholds
            lines.append(f"scores for 3, 2, 1      {limits.answers:.3f}, {limits.in_part:.3f}, {limits.near:.3f}")
        if self.in_doubt is not None:
            lines.append(f"read again, in doubt    {self.in_doubt:>6}   ({RULE})")
        rule = "kappa as wanted, a better order, its interval not under 0"
        lines.append(f"{'trusted' if self.trusted else 'NOT trusted'} ({rule})")
        return "\n".join(lines)

    def to_json(self) -> JsonObject:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measured:
        limits, interval = data["thresholds"], data["interval"]
        return cls(
            data["lm"], data["split"], Agreement(**data["agreement"]), (interval[0], interval[1]) if interval else None,
            data["min_kappa"], Cost(**data["cost"]), Thresholds(**limits) if limits else None,
            data.get("in_doubt"),
        )  # fmt: skip
