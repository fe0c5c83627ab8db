"""Measure how well a reader's grades agree with the collection's own judgements, before the grades are used.

    agreement(lists, {"q1": {"d3": 3, "d9": 1}}, collection.qrels)
      → Agreement(lists=40, positives=44, answers=31, in_part=9, checks=40, false=1, kappa=.84,
                  order={"q1": 1.0, …}, encoder_order={"q1": .63, …}, marks={"q1": (1, 1, 0, 1), …})

The reader does not know which passages of a list are judged relevant (hidden positives) or known not to be (checks).
Two things are measured:
- Does it tell positives from checks? Its recall, its false grades and Cohen's kappa say so.
- Does its order of a list (by grade, ties in the encoder's order) have a higher nDCG@10 than the encoder's order? Here
  unjudged passages count as not relevant. So a reader that finds unjudged answers looks worse than it is, never better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from syneg.retrieval.metrics import MAIN_METRIC, evaluate, mean

from .reading import ANSWERS, IN_PART, ToRead

Grades = Mapping[str, Mapping[str, int]]
Scores = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Agreement:
    """Counts over the lists that were graded, and nDCG@10 by query.

    Of `positives`, `answers` were graded 3 and `in_part` 2. Of `checks` (known negatives), `false` were graded 2 or 3.
    `unreadable` lists have no grades. `order` is nDCG@10 in the reader's order, `encoder_order` in the encoder's.
    `marks` holds the counts of each query: positives graded 2 or 3, positives, checks graded 2 or 3, checks.
    """

    lists: int
    unreadable: int
    positives: int
    answers: int
    in_part: int
    checks: int
    false: int
    kappa: float
    order: Mapping[str, float]
    encoder_order: Mapping[str, float]
    marks: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def recall(self) -> float:
        """Share of the hidden positives graded 2 or 3."""
        return float(recall_of([self.answers + self.in_part, self.positives, self.false, self.checks]))

    @property
    def gains(self) -> list[float]:
        """nDCG@10 of the reader's order minus that of the encoder's, one value for each query."""
        return [self.order[query_id] - self.encoder_order[query_id] for query_id in self.order]

    @property
    def ndcg(self) -> tuple[float, float]:
        """Mean nDCG@10 of the reader's order and of the encoder's order."""
        return mean(self.order), mean(self.encoder_order)


def agreement(lists: Sequence[ToRead], grades: Grades, qrels: Mapping[str, Mapping[str, float]]) -> Agreement:
    """Compare `grades[query_id][doc_id]` with the known positives and negatives of `lists`, and with `qrels`.

    Lists without grades count as unreadable. Kappa is 0 if the graded lists hold only one of the two kinds.
    """
    graded = [asked for asked in lists if asked.query_id in grades]
    marks = {asked.query_id: _marks(asked, grades[asked.query_id]) for asked in graded}
    columns = zip(*marks.values(), strict=True)
    found, positives, false, checks = map(sum, columns) if marks else (0, 0, 0, 0)
    answers = sum(grades[asked.query_id][d] == ANSWERS for asked in graded for d in asked.positives)
    return Agreement(
        len(graded), len(lists) - len(graded), positives, answers, found - answers, checks, false,
        float(kappa_of([found, positives, false, checks])), *order_gains(graded, grades, qrels), marks,
    )  # fmt: skip


def _marks(asked: ToRead, grades: Mapping[str, int]) -> tuple[int, int, int, int]:
    found = sum(grades[d] >= IN_PART for d in asked.positives)
    false = sum(grades[d] >= IN_PART for d in asked.checks)
    return found, len(asked.positives), false, len(asked.checks)


def recall_of(counts: Any) -> np.ndarray:
    """Share of the positives graded 2 or 3. `counts` is (…, 4), as in `Agreement.marks`; gives (…); 0 without any."""
    found, positives, _, _ = np.moveaxis(np.asarray(counts, float), -1, 0)
    return np.asarray(found / np.maximum(positives, 1))


def kappa_of(counts: Any) -> np.ndarray:
    """Cohen's kappa of 2 and 3 against positives and checks. `counts` is (…, 4), as in `Agreement.marks`; gives (…).

    0 if there are no positives or no checks.

    >>> float(kappa_of([2, 2, 1, 2]))  # 3 of 4 right, 1/2 by chance
    0.5
    """
    found, positives, false, checks = np.moveaxis(np.asarray(counts, float), -1, 0)
    total, marked = positives + checks, found + false
    right = found + checks - false
    chance = (positives * marked + checks * (total - marked)) / np.maximum(total, 1)
    both = (positives > 0) & (checks > 0)
    return np.where(both, (right - chance) / np.where(both, total - chance, 1), 0.0)


def order_gains(
    lists: Sequence[ToRead], scores: Scores, qrels: Mapping[str, Mapping[str, float]]
) -> tuple[dict[str, float], dict[str, float]]:
    """query_id → nDCG@10 of each list ordered by `scores`, and the same for the encoder's order.

    Passages without a score come last.
    """
    ours = {asked.query_id: by_grade(asked, scores[asked.query_id]) for asked in lists}
    theirs = {asked.query_id: list(asked.doc_ids) for asked in lists}
    return _ndcg(ours, qrels), _ndcg(theirs, qrels)


def by_grade(asked: ToRead, grades: Mapping[str, float]) -> list[str]:
    """The passages by grade, the highest first; passages of equal grade stay in the encoder's order.

    >>> asked = ToRead("q", "query", ("a", "b", "c"), frozenset(), frozenset())
    >>> by_grade(asked, {"a": 0, "b": 1, "c": 1})
    ['b', 'c', 'a']
    """
    return sorted(asked.doc_ids, key=lambda doc_id: -grades.get(doc_id, -math.inf))


def ndcg_of_lists(
    lists: Sequence[ToRead], orders: Mapping[str, Sequence[str]], qrels: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    """query_id → nDCG@10 of each list, by the labels of its own passages only, so that the best order has 1.

    Lists without an order have 0.
    """
    labels = {
        asked.query_id: {d: grade for d, grade in qrels[asked.query_id].items() if d in asked.positives}
        for asked in lists
    }
    values = _ndcg({q: order for q, order in orders.items() if q in labels}, labels) if orders else {}
    return {query_id: values.get(query_id, 0.0) for query_id in labels}


def _ndcg(orders: Mapping[str, Sequence[str]], qrels: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """nDCG@10 of `orders`, which are doc_ids by query_id, best first."""
    ranking = {q: {doc_id: -float(rank) for rank, doc_id in enumerate(order)} for q, order in orders.items()}
    return evaluate(qrels, ranking, [MAIN_METRIC])[MAIN_METRIC]
