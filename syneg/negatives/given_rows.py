"""Read a file of negatives or grades that the user gives: one JSON object on each line.

    {"query_id": "80", "doc_id": "7317051", "grade": 2}      → what `read` makes of the row
    {"query_id": "80", "doc_id": "7317051"}                  → the problem "grades.jsonl:2: no grade"

A byte order mark and blank lines are skipped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from syneg.core.counts import counted
from syneg.core.errors import DataError, collected

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
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    found.append(read(_object(line)))
                except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                    problems.append(f"{path}:{number}: {_reason(error)}")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the {rows}: {error}", where=str(path)) from error
    total = len(found) + len(problems)
    if len(problems) > max_bad * total:
        title = f"{len(problems)} of {counted(total, 'row')} cannot be used"
        form = all(problem.endswith(("JSON", "JSON object")) for problem in problems)
        todo = "write one JSON object on each line" if form else None
        raise DataError(collected(title, problems), where=str(path), todo=todo)
    return found, problems


def _object(line: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        raise ValueError("not valid JSON") from None
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    return row


def _reason(error: Exception) -> str:
    return f"no {error.args[0]}" if isinstance(error, KeyError) else str(error)
