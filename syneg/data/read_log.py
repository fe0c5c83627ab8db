"""Count the rows of each file that is read, and collect problems with them.

    log = ReadLog()
    log.row("pairs.csv"); log.problem("pairs.csv:7", "empty query")
    log.check(share=.01)          raises DataError: 1 bad row of 1 in pairs.csv

Every row that is left out has a problem here. Shares are counted per file, so that a large corpus cannot hide a broken
file of qrels.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from syneg.core.counts import counted
from syneg.core.errors import DataError, collected

_ROUNDING = 1e-9  # .29 * 100 is below 29


@dataclass
class ReadLog:
    """`problems` are messages "file:line what is wrong". `notes` are messages on repairs and decisions."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _rows: Counter[str] = field(default_factory=Counter)
    _bad: dict[str, dict[str, str]] = field(default_factory=dict)  # file → row → the first thing wrong with it

    def row(self, file: str) -> None:
        """Count one row of a file, good or bad."""
        self._rows[file] += 1

    def has_rows(self, file: str) -> bool:
        """Whether a row of this file was counted before."""
        return file in self._rows

    def problem(self, where: str, what: str) -> None:
        """Record that the row at `where` (file:line) is left out, and why."""
        line = f"{where} {what}"
        self.problems.append(line)
        self._bad.setdefault(where.rpartition(":")[0] or where, {}).setdefault(where, line)

    def check(self, share: float) -> None:
        """Raise DataError if a file has a larger share of bad rows than `share` (0 to 1)."""
        over = {file: bad for file, bad in self._bad.items() if len(bad) > share * self._rows[file] + _ROUNDING}
        if not over:
            return
        counts = ", ".join(
            f"{counted(len(bad), 'bad row')} of {self._rows[file]} in {file}" for file, bad in over.items()
        )
        lines = [line for bad in over.values() for line in bad.values()]
        enough = max(math.ceil(100 * len(bad) / max(1, self._rows[file])) for file, bad in over.items()) / 100
        more = f"correct them, or allow more bad rows than {share:.0%}: --set collection.max_bad_rows={enough:g}"
        none = any(len(bad) >= self._rows[file] for file, bad in over.items())
        todo = "correct the file: none of its rows can be used" if none else more
        raise DataError(collected(counts, lines), todo=todo)
