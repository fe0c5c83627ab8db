"""Record how a reader's grades agree with labelled queries, and decide whether it is trusted.

    Measured(lm="openai/gpt-4o-mini", split="dev", agreement=…, interval=(0.041, 0.172), …).trusted → True

A reader is trusted if its kappa reaches `reader.min_kappa`, its order of passages is better than the encoder's, and
neither may be chance, by 95 % intervals over queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from syneg.core.counts import counted
from syneg.core.storage import JsonObject
from syneg.negatives.cascade import RULE
from syneg.negatives.cross_reading import Thresholds
from syneg.negatives.reader_agreement import Agreement, kappa_of, recall_of
from syneg.verdict.records import Interval
from syneg.verdict.sentences import interval_text
from syneg.verdict.statistics import interval_of_sums
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
        """Whether kappa reaches `min_kappa`, nDCG@10 exceeds the encoder's, and neither may be chance.

        The interval of kappa lies over 0, and that of the gain in nDCG@10 has no part under 0.
        """
        return not self.doubts

    @property
    def recall_interval(self) -> Interval | None:
        """95 % interval of the recall of hidden positives; None for under two lists."""
        return interval_of_sums(self._counts, recall_of)

    @property
    def kappa_interval(self) -> Interval | None:
        """95 % interval of Cohen's kappa; None for under two lists."""
        return interval_of_sums(self._counts, kappa_of)

    @property
    def _counts(self) -> list[Sequence[int]]:
        """The counts of each query, by query_id: a bootstrap draws by place, and reader.json is sorted."""
        return [counts for _, counts in sorted(self.agreement.marks.items())]

    @property
    def doubts(self) -> tuple[str, ...]:
        """What the reader fails of the rule of trust, in words."""
        agreed = self.agreement
        if not agreed.lists:
            return (f"none of its answers to {counted(agreed.unreadable, 'list')} could be read",)
        return tuple(filter(None, (self._doubt_of_kappa(), self._doubt_of_order())))

    def _doubt_of_kappa(self) -> str:
        kappa, interval = self.agreement.kappa, self.kappa_interval
        if kappa < self.min_kappa:
            return f"kappa {kappa:.2f} (wanted {self.min_kappa:g})"
        return f"kappa may be chance: {kappa:.2f} {_shown(interval)}" if interval and interval[0] <= 0 else ""

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
            f"hidden positives        {agreed.positives:>6}   graded 3: {agreed.answers}, graded 2: {agreed.in_part}",
            f"recall of 2 and 3       {agreed.recall:>6.2f}   {_shown(self.recall_interval)}".rstrip(),
            f"known negatives         {agreed.checks:>6}   graded 2 or 3: {agreed.false} "
            f"({agreed.false / max(1, agreed.checks):.2f})",
            f"Cohen's kappa           {agreed.kappa:>6.2f}   {self._against_wanted()}",
            f"nDCG@10 of its order    {ours:>6.3f}   of the encoder's {theirs:.3f}: {ours - theirs:+.3f}{between}",
        ]
        if self.thresholds:
            limits = self.thresholds
            lines.append(f"scores for 3, 2, 1      {limits.answers:.3f}, {limits.in_part:.3f}, {limits.near:.3f}")
        if self.in_doubt is not None:
            lines.append(f"read again, in doubt    {self.in_doubt:>6}   ({RULE})")
        rule = "kappa as wanted and a better order, neither by chance"
        lines.append(f"{'trusted' if self.trusted else 'NOT trusted'} ({rule})")
        return "\n".join(lines)

    def _against_wanted(self) -> str:
        interval = self.kappa_interval
        doubt = "; may be under it" if interval and interval[0] < self.min_kappa <= self.agreement.kappa else ""
        return f"{_shown(interval) + ', ' if interval else ''}wanted {self.min_kappa:g}{doubt}"

    def to_json(self) -> JsonObject:
        """The figures as plain data, with the intervals of recall and kappa."""
        return {**asdict(self), "recall_interval": self.recall_interval, "kappa_interval": self.kappa_interval}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measured:
        limits, interval = data["thresholds"], data["interval"]
        marks = {query_id: tuple(counts) for query_id, counts in data["agreement"].get("marks", {}).items()}
        return cls(
            data["lm"], data["split"], Agreement(**{**data["agreement"], "marks": marks}),
            (interval[0], interval[1]) if interval else None, data["min_kappa"], Cost(**data["cost"]),
            Thresholds(**limits) if limits else None, data.get("in_doubt"),
        )  # fmt: skip


def _shown(interval: Interval | None) -> str:
    return f"[{interval[0]:.2f}, {interval[1]:.2f}]" if interval else ""
