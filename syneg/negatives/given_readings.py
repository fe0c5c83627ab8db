"""Grades from a file, in place of a reader's: `--set reader.given=grades.jsonl`.

    {"query_id": "80", "doc_id": "7317051", "grade": 2}                        one grade on a line
    {"query_id": "80", "doc_ids": ["7317051", "4920376"], "grades": [2, 1]}    or a list
      → [Reading("80", "7317051", 2, lm="given"), …]

`span` and `lm` are optional, so readings.jsonl of another run can be given unchanged. Grades of queries or passages
that the collection does not have are left out and counted. So are passages with two grades.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from syneg.core.counts import counted
from syneg.data.cells import known_id
from syneg.data.collection import Collection

from .given_rows import given_rows, id_of, not_used
from .reading import ANSWERS, OTHER, Reading, ToRead


def given_readings(path: Path, collection: Collection, max_bad: float) -> tuple[list[Reading], list[str]]:
    """The grades of a file for queries and passages of the collection, and notes on what was left out.

    If a passage is graded twice for a query, the last grade counts. Raises DataError if the file cannot be read, or if
    more than `max_bad` of its rows (a share, 0 to 1) are bad.
    """
    rows, problems = given_rows(path, ("grades", "check reader.given"), _readings, max_bad)
    readings: dict[tuple[str, str], Reading] = {}
    foreign: list[tuple[str, str]] = []
    twice: set[tuple[str, str]] = set()
    for reading in chain.from_iterable(rows):
        key = known_id(reading.query_id, collection.queries), known_id(reading.doc_id, collection.passages)
        if key[0] not in collection.queries:
            foreign.append(("query", key[0]))
        elif key[1] not in collection.passages:
            foreign.append(("passage", key[1]))
        else:
            twice |= {key} if readings.get(key, reading).grade != reading.grade else set()
            readings[key] = replace(reading, query_id=key[0], doc_id=key[1])
    notes = not_used(foreign, {"query": collection.queries, "passage": collection.passages}, "grade")
    if twice:
        notes.append(f"{counted(len(twice), 'passage has', 'passages have')} two grades: the last one counts")
    if problems:
        notes.append(f"{counted(len(problems), 'row')} cannot be used, such as: {problems[0]}")
    return list(readings.values()), notes


def _readings(row: Mapping[str, Any]) -> list[Reading]:
    """The grades of one row, in either form. Raises ValueError, LookupError or TypeError for a bad row."""
    query_id, lm = id_of(row, "query_id"), str(row.get("lm") or "given")
    if "doc_ids" in row:
        if not isinstance(row["doc_ids"], list) or not isinstance(row["grades"], list):
            raise ValueError("doc_ids and grades are no two lists")
        if len(row["doc_ids"]) != len(row["grades"]):
            raise ValueError(f"{len(row['doc_ids'])} doc_ids and {len(row['grades'])} grades")
        graded = zip(row["doc_ids"], row["grades"], strict=True)
        return [Reading(query_id, id_of({"doc_id": d}, "doc_id"), _grade(grade), lm=lm) for d, grade in graded]
    return [Reading(query_id, id_of(row, "doc_id"), _grade(row["grade"]), str(row.get("span") or ""), lm)]


def _grade(value: Any) -> int:
    """A grade of a file. Raises ValueError if it is none."""
    if isinstance(value, bool) or not isinstance(value, int) or not OTHER <= value <= ANSWERS:
        raise ValueError(f"{value!r} is no grade from {OTHER} to {ANSWERS}")
    return value


def lists_of(readings: list[Reading], collection: Collection, query_ids: set[str]) -> list[ToRead]:
    """The graded passages of `query_ids` as lists, so that the grades can be compared with the qrels.

    Graded passages that were judged not relevant are the known negatives. Lists without a known positive are left out,
    because they tell nothing about the grades.
    """
    doc_ids: dict[str, list[str]] = {}
    for reading in readings:
        if reading.query_id in query_ids:
            doc_ids.setdefault(reading.query_id, []).append(reading.doc_id)
    lists = []
    for query_id, graded in doc_ids.items():
        positives = frozenset(collection.relevant(query_id).intersection(graded))
        if positives:
            judged = collection.qrels[query_id]
            checks = frozenset(d for d in graded if judged.get(d, 1) <= 0)
            lists.append(ToRead(query_id, collection.queries[query_id], tuple(graded), positives, checks))
    return lists


def with_known_negative(asked: ToRead) -> ToRead:
    """Return the list with a known negative: if nobody judged one, its last passage that nobody judged relevant.

    `asked` has its passages in the encoder's order. The others that nobody judged are not known to be irrelevant; a
    reader finds relevant ones among them.
    """
    rest = [doc_id for doc_id in asked.doc_ids if doc_id not in asked.positives]
    return asked if asked.checks or not rest else replace(asked, checks=frozenset(rest[-1:]))
