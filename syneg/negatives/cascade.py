"""A cascade of readers: a cheap reader grades every list, a strong one grades the doubtful lists again.

    doubtful = in_doubt(lists, first)                → the lists whose grades cannot be trusted
    replaced(first, again, len(doubtful))            → Answers: the strong reader's grades for these, others unchanged

A list is doubtful in three cases:
- no passage is graded 2 or 3, although every list contains a known positive;
- too many passages are graded 3: more than the known positives and an eighth of the list. Each 3 becomes a positive in
  training;
- the answer could not be read.

The rule does not look at which passage is the known positive. So it treats the dev lists, which measure both readers
together, in the same way as lists of train queries. Cascades of LMs: FrugalGPT (arXiv 2305.05176).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .reading import ANSWERS, IN_PART, Answers, ToRead, grades_of

RULE = "no 2 or 3, too many 3s, or unreadable"
_EXTRA = 8  # one 3 in eight passages, besides the known positives, is still plausible


def in_doubt(lists: Sequence[ToRead], answers: Answers) -> list[ToRead]:
    """The lists that the strong reader has to grade again, in the order of `lists`."""
    grades = answers.by_query()
    return [asked for asked in lists if _doubtful(asked, grades.get(asked.query_id, {}))]


def _doubtful(asked: ToRead, grades: Mapping[str, int]) -> bool:
    """Whether the grades of one list are doubtful; {} stands for an answer that could not be read.

    >>> asked = ToRead("q", "query", tuple("abcdefgh"), frozenset("a"), frozenset())
    >>> lists = [3, 2, 3, 1, 0, 0, 0, 0], [3, 3, 3, 0, 0, 0, 0, 0], [1] * 8, []
    >>> [_doubtful(asked, dict(zip("abcdefgh", grades))) for grades in lists]
    [False, True, True, True]
    """
    values = list(grades.values())
    answering = sum(grade == ANSWERS for grade in values)
    most = len(asked.positives) + len(asked.doc_ids) // _EXTRA
    return max(values, default=0) < IN_PART or answering > most


def replaced(first: Answers, again: Answers, doubtful: int) -> Answers:
    """Merge both answers: the grades of `again` for every list that it could read, otherwise those of `first`.

    `doubtful` is the number of doubtful lists. The calls of both are kept.
    """
    better = grades_of(again.readings)
    kept = [reading for reading in first.readings if reading.query_id not in better]
    rescued = better.keys() - first.by_query().keys()
    calls = [*first.calls, *again.calls]
    return Answers([*kept, *again.readings], first.unreadable - len(rescued), calls, doubtful)
