"""What a reader met: rows by file, what is wrong with some of them, and what the user should know about the rest.

    log = ReadLog()
    log.row("pairs.csv"); log.problem("pairs.csv:7", "empty query")
    log.check(share=.01)          raises DataError, as 1 of 1 row is more than 1 %

A row that cannot be used is never dropped without a problem, and a problem always counts against its own file, so that
a large corpus does not hide a broken file of qrels.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from syneg.core.errors import DataError, collected


@dataclass
class ReadLog:
    """`problems` are lines "file:line what is wrong"; `notes` are lines about what was done with good rows."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _rows: Counter[str] = field(default_factory=Counter)
    _bad: dict[str, dict[str, str]] = field(default_factory=dict)  # file → row → the first thing wrong with it

    def row(self, file: str) -> None:
        """Count one row of a file, good or bad."""
        self._rows[file] += 1

    def has_rows(self, file: str) -> bool:
        """Whether a row of the file was counted."""
        return file in self._rows

    def problem(self, where: str, what: str) -> None:
        """Note that the row at `where` (file:line) is left out, and why."""
        line = f"{where} {what}"
        self.problems.append(line)
        self._bad.setdefault(where.rpartition(":")[0] or where, {}).setdefault(where, line)

    def check(self, share: float) -> None:
        """Raise DataError when more than `share` of the rows of one file are bad."""
        over = {file: bad for file, bad in self._bad.items() if len(bad) > share * self._rows[file]}
        if not over:
            return
        counts = ", ".join(f"{len(bad)} bad row(s) of {self._rows[file]} in {file}" for file, bad in over.items())
        lines = [line for bad in over.values() for line in bad.values()]
        raise DataError(
            collected(counts, lines),
            todo=f"mend them, or leave out more than {share:.0%} of a file with --set collection.max_bad_rows=0.1",
        )
