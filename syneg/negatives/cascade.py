"""A cheap reader for every list, a strong one for lists in doubt.

    lists = in_doubt(lists, answers)        → those of the lists whose grades cannot be gone by
    replaced(answers, again)                → the grades of the strong reader for these, else those of the cheap one

A known positive stands in every list, so that a list is in doubt where nothing in it is graded 2 or 3. It also is where
more than an eighth of it is graded 3 beside as many as known positives are shown, as each of these would be trained on
as an answer; and where no answer could be read. Which passage is the known positive is not looked at: dev lists that measure the two readers
together go the same way as those of the train queries. Cascades of LMs: FrugalGPT (arXiv 2305.05176).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .reading import ANSWERS, IN_PART, Answers, ToRead, grades_of

RULE = "no 2 or 3, too many 3s, or unreadable"
_EXTRA = 8  # one 3 in so many passages, beside the known positives, is no cause for doubt


def in_doubt(lists: Sequence[ToRead], answers: Answers) -> list[ToRead]:
    """The lists that the strong reader is to read."""
    grades = answers.by_query()
    return [asked for asked in lists if _doubtful(asked, grades.get(asked.query_id, {}))]


def _doubtful(asked: ToRead, grades: Mapping[str, int]) -> bool:
    """
    >>> asked = ToRead("q", "query", tuple("abcdefgh"), frozenset("a"), frozenset())
    >>> grades = [dict(zip("abcdefgh", given)) for given in ([3, 2, 3, 1, 0, 0, 0, 0], [3, 3, 3, 0, 0, 0, 0, 0], [1] * 8)]
    >>> [_doubtful(asked, given) for given in (*grades, {})]
    [False, True, True, True]
    """
    values = list(grades.values())
    answering = sum(grade == ANSWERS for grade in values)
    most = len(asked.positives) + len(asked.doc_ids) // _EXTRA
    return max(values, default=0) < IN_PART or answering > most


def replaced(first: Answers, again: Answers, doubtful: int) -> Answers:
    """The grades of both, those of `again` for the lists that it could read of the `doubtful` ones. Calls are those of
    both."""
    better = grades_of(again.readings)
    kept = [reading for reading in first.readings if reading.query_id not in better]
    rescued = better.keys() - first.by_query().keys()
    calls = [*first.calls, *again.calls]
    return Answers([*kept, *again.readings], first.unreadable - len(rescued), calls, doubtful)
