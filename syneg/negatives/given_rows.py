"""Read a file of negatives, grades or scores that the user gives: one JSON object on each line.

    {"query_id": "80", "doc_id": "7317051", "grade": 2}      → what `read` makes of the row
    {"query_id": "80", "doc_id": "7317051"}                  → the problem "grades.jsonl:2: no grade"

The file may be packed, and may begin with a byte order mark. Blank lines are skipped. Ids are read as in data files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO, TypeVar

from syneg.core.counts import counted
from syneg.core.errors import DataError, collected
from syneg.data.cells import id_cell
from syneg.data.encodings import open_text
from syneg.data.same import Unknown
from syneg.data.tables import json_object

T = TypeVar("T")


def given_rows(
    path: Path, what: tuple[str, str], read: Callable[[Mapping[str, Any]], T], max_bad: float
) -> tuple[list[T], list[str]]:
    """Return what `read` makes of each row, and one line for each bad row.

    `what` names the rows, and says what to do if there is no such file: ("grades", "check reader.given"). A row is bad
    if it is no JSON object, or if `read` raises ValueError, LookupError, TypeError or AttributeError.

    Raises DataError if the file cannot be read, or if more than `max_bad` of its rows (a share, 0 to 1) are bad.
    """
    rows, check = what
    if not path.is_file():
        raise DataError(f"no such file of {rows}", where=str(path), todo=check)
    found: list[T] = []
    problems: list[str] = []
    with open_text(path) as file:
        for number, line in _lines(file, path):
            try:
                found.append(read(_object(line)))
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                problems.append(f"{path}:{number}: {_reason(error)}")
    total = len(found) + len(problems)
    if len(problems) > max_bad * total:
        title = f"{len(problems)} of {counted(total, 'row')} cannot be used"
        form = all(problem.endswith(("JSON", "JSON object")) for problem in problems)
        todo = "write one JSON object on each line" if form else None
        raise DataError(collected(title, problems), where=str(path), todo=todo)
    return found, problems


def count_rows(path: Path) -> int:
    """The number of lines that are not blank. Raises DataError like `given_rows`."""
    with open_text(path) as file:
        return sum(1 for _ in _lines(file, path))


def id_of(row: Mapping[str, Any], name: str) -> str:
    """The id in a field of a row, as data files write it. Raises KeyError or ValueError for none.

    >>> id_of({"query_id": 3.0}, "query_id"), id_of({"query_id": " q3 "}, "query_id")
    ('3', 'q3')
    """
    key = id_cell(row[name], name)
    if not key:
        raise KeyError(name)
    return key


def not_used(foreign: Sequence[tuple[str, str]], known: Mapping[str, Iterable[str]], what: str) -> list[str]:
    """A note on the rows whose (kind, id) the collection does not have; [] for none. `known` are its ids by kind.

    >>> not_used([("query", "Q1")], {"query": ["q1"]}, "row")
    ["1 row not used: the collection does not have the query 'Q1'; there is 'q1'"]
    """
    if not foreign:
        return []
    kind, key = foreign[0]
    such = ", for example" if len(foreign) > 1 else ""
    said = f"the collection does not have{such} the {kind} {key[:60]!r}{Unknown(known).hint(kind, key)}"
    return [f"{counted(len(foreign), what)} not used: {said}"]


def _lines(file: TextIO, path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number, line) of the lines that are not blank. Raises DataError for a file that is not UTF-8."""
    try:
        yield from ((number, line) for number, line in enumerate(file, 1) if line.strip())
    except UnicodeDecodeError as error:
        raise DataError("not UTF-8 text", where=str(path), todo="convert it to UTF-8") from error


def _object(line: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line, object_pairs_hook=json_object)
    except json.JSONDecodeError:
        raise ValueError("not valid JSON") from None
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    return row


def _reason(error: Exception) -> str:
    return f"no {error.args[0]}" if isinstance(error, KeyError) else str(error)
