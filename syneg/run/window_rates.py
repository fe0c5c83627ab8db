"""How many answers nobody judged stand in the passages that one rival of a race mines and no other does.

    OwnRates(rankings, grades).of({"95 % rule": MineConfig(margin=.95), "no margin": MineConfig(margin=1e9)})
      → {"95 % rule": Rate(answers=0, graded=12, interval=(0, .26)), "no margin": Rate(41, 180, (.16, .31))}

The grades are those of a trusted reader, for passages that nobody judged relevant. An answer is a passage graded 3: as
a negative, it teaches the encoder the opposite of what is true. Only passages that the reader graded count, so a rival
that mines deeper than the reader read has few of them. Its interval is wide, and it has no say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from syneg.core.config import MineConfig
from syneg.negatives.mining import Rankings
from syneg.negatives.reading import ANSWERS
from syneg.verdict.records import Interval
from syneg.verdict.statistics import share_interval

MOST_ANSWERS = 0.05  # share of answers up to which a rival's own passages have few
Grades = Mapping[str, Mapping[str, int]]  # query_id → doc_id → grade


@dataclass(frozen=True)
class Rate:
    """Of `graded` passages that one rival alone mines, the reader grades `answers` 3.

    `interval` is the 95 % interval of that share over queries, None if under two queries have such passages.
    """

    answers: int
    graded: int
    interval: Interval | None

    @property
    def are_few(self) -> bool:
        """Whether the share is surely at most `MOST_ANSWERS`."""
        return self.interval is not None and self.interval[1] <= MOST_ANSWERS

    @property
    def are_many(self) -> bool:
        """Whether the share is surely over `MOST_ANSWERS`."""
        return self.interval is not None and self.interval[0] > MOST_ANSWERS

    def __str__(self) -> str:
        if not self.graded:
            return "none of its own passages is graded"
        if self.interval is None:
            return f"{self.answers} of {self.graded} own passages answer"
        low, high = self.interval
        share = self.answers / self.graded
        return f"{self.answers} of {self.graded} own passages answer, {share:.1%} [{low:.1%}, {high:.1%}]"


class OwnRates:
    """Takes the passages of each rival from one search, and counts the answers among those that no other takes."""

    def __init__(self, rankings: Rankings, grades: Grades) -> None:
        """`rankings` are kept ones; their queries without grades do not count."""
        self._rankings, self._grades = rankings, grades

    def of(self, rivals: Mapping[str, MineConfig]) -> dict[str, Rate]:
        """The rate of each rival, by its name."""
        taken = {
            name: {q: {n.doc_id for n in own} for q, own in self._rankings.take(config).negatives.items()}
            for name, config in rivals.items()
        }
        return {name: self._rate(taken, name) for name in rivals}

    def _rate(self, taken: Mapping[str, Mapping[str, set[str]]], name: str) -> Rate:
        counts = []  # of each query with graded passages: (answers, graded)
        for query_id, doc_ids in taken[name].items():
            others = {doc_id for other, own in taken.items() if other != name for doc_id in own[query_id]}
            grades = self._grades.get(query_id, {})
            graded = [grades[doc_id] for doc_id in doc_ids - others if doc_id in grades]
            if graded:
                counts.append((graded.count(ANSWERS), len(graded)))
        return Rate(sum(c[0] for c in counts), sum(c[1] for c in counts), share_interval(counts))
