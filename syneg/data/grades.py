"""Leave out queries without a relevant passage, and say what to do about a split that has too few queries.

    leave_out_unanswered(qrels, splits_of, 2.0, 3, reader)  → {"train": 1}: a query whose passages are all graded 1
    how_to_fill("train", {"dev": .15}, "train", {"train": 1}) → "lower collection.min_relevance: 1 query has …"

A split that has nothing relevant raises DataError: otherwise that split would be cut out of another one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from syneg.core.counts import counted, part_of
from syneg.core.errors import DataError

from .readers import Reader
from .splits import MIN_QUERIES, fewest


def relevant_of(grades: Mapping[str, float], lowest: float) -> set[str]:
    """Ids of the passages with a grade of at least `lowest`.

    >>> sorted(relevant_of({"d1": 2, "d2": 1, "d3": 0}, 1.0))
    ['d1', 'd2']
    """
    return {doc_id for doc_id, grade in grades.items() if grade >= lowest}


def leave_out_unanswered(
    qrels: dict[str, dict[str, float]], splits_of: dict[str, set[str]], lowest: float, queries: int, reader: Reader
) -> Counter[str]:
    """Remove queries without a relevant passage, and note their number. Pools such as TREC's hold them: no bad rows.

    `queries` is the number of all queries. Returns for each split how many of them have grades under `lowest` alone.
    """
    before = set().union(*splits_of.values())
    lower: Counter[str] = Counter()
    without = [query_id for query_id, grades in qrels.items() if not relevant_of(grades, lowest)]
    for query_id in without:
        if any(grade > 0 for grade in qrels.pop(query_id).values()):
            lower.update(splits_of[query_id])
        del splits_of[query_id]
    for split in sorted(before - set().union(*splits_of.values()) - {""}):
        if lower[split]:
            what = f"no query of {split} has a passage of grade {lowest:g} or more"
            raise DataError(what, where=reader.name, todo="lower collection.min_relevance")
        if not reader.published:
            what = f"no query of {split} has a relevant passage"
            raise DataError(what, where=reader.name, todo="correct the file, or remove it")
    if without:
        verbs = ("has judgements, but no relevant passage, and is", "have judgements, but no relevant passage, and are")
        reader.log.notes.append(f"{part_of(len(without), queries, 'query', *verbs)} left out")
    return lower


def grade_of(relevance: float, lowest: float | None) -> float | None:
    """A grade of at least 0. None for a fraction if `lowest` does not say which fractions are relevant.

    >>> grade_of(-1.0, None), grade_of(0.5, None), grade_of(0.5, 0.4)
    (0, None, 0.5)
    """
    if float(relevance).is_integer():
        return max(0, int(relevance))
    return None if lowest is None else max(0.0, relevance)


def how_to_fill(split: str, wanted: Mapping[str, float], source: str, lower: Mapping[str, int]) -> str:
    """What to do about a split with too few queries.

    `wanted` are the shares of the splits that are cut out of `source`. `lower` counts the queries of each split with
    grades under `collection.min_relevance` alone.
    """
    from_source = split in (*wanted, "train", source)
    if low := sum(lower.get(name, 0) for name in ({source, ""} if from_source else {split})):
        return f"lower collection.min_relevance: {counted(low, 'query has', 'queries have')} lower grades alone"
    if not from_source:
        return f"give {split} at least {MIN_QUERIES[split]} queries"
    if not wanted.get(split, 1):
        return f"set collection.{split}"
    enough = fewest(wanted)
    settings = "set collection.dev, collection.confirm and collection.test"
    return f"give at least {enough} different queries, or {settings}" if enough else f"{settings} lower"
