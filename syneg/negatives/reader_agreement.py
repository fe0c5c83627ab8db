"""Measure how well a reader's grades agree with the collection's own judgements, before the grades are used.

    agreement(lists, {"q1": {"d3": 3, "d9": 1}}, collection.qrels)
      → Agreement(lists=40, positives=44, answers=31, in_part=9, checks=40, false=1, kappa=.84,
                  order={"q1": 1.0, …}, encoder_order={"q1": .63, …})

The reader does not know which passages of a list are judged relevant (hidden positives) or known not to be (checks).
Two things are measured:
- Does it tell positives from checks? Its recall, its false grades and Cohen's kappa say so.
- Does its order of a list (by grade, ties in the encoder's order) have a higher nDCG@10 than the encoder's order? Here
  unjudged passages count as not relevant. So a reader that finds unjudged answers looks worse than it is, never better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from syneg.retrieval.metrics import MAIN_METRIC, evaluate, mean

from .reading import ANSWERS, IN_PART, ToRead

Grades = Mapping[str, Mapping[str, int]]
Scores = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Agreement:
    """Counts over the lists that were graded, and nDCG@10 by query.

    Of `positives`, `answers` were graded 3 and `in_part` 2. Of `checks` (known negatives), `false` were graded 2 or 3.
    `unreadable` lists have no grades. `order` is nDCG@10 in the reader's order, `encoder_order` in the encoder's.
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

    @property
    def recall(self) -> float:
        """Share of the hidden positives graded 2 or 3."""
        return (self.answers + self.in_part) / max(1, self.positives)

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
    from sklearn.metrics import cohen_kappa_score

    graded = [asked for asked in lists if asked.query_id in grades]
    labels: list[bool] = []
    marks: list[bool] = []
    counts = {"answers": 0, "in_part": 0, "false": 0, "positives": 0, "checks": 0}
    for asked in graded:
        for doc_id in asked.doc_ids:
            if doc_id not in asked.positives and doc_id not in asked.checks:
                continue
            relevant, grade = doc_id in asked.positives, grades[asked.query_id][doc_id]
            labels.append(relevant)
            marks.append(grade >= IN_PART)
            counts["positives" if relevant else "checks"] += 1
            counts["answers"] += relevant and grade == ANSWERS
            counts["in_part"] += relevant and grade == IN_PART
            counts["false"] += not relevant and grade >= IN_PART
    both = 0 < sum(labels) < len(labels)
    kappa = float(cohen_kappa_score(labels, marks)) if both else 0.0
    return Agreement(
        len(graded), len(lists) - len(graded), counts["positives"], counts["answers"], counts["in_part"],
        counts["checks"], counts["false"], kappa, *order_gains(graded, grades, qrels),
    )  # fmt: skip


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
