"""Progress on stderr, one line per stage: what is done, how fast, how long it will take.

    mine          5171/5171 passages  13.9 s
    generate      17/48 pairs  11.2/min  ETA 2:46  $0.03         (redrawn on a terminal, every 20 s in a pipe)

With `verbose` every call of an LM has a line, too.

Machine output goes to stdout and never here. What is said is kept as events, too, where a file is given:

    {"time": "2026-11-21T17:10:02+00:00", "event": "done", "stage": "mine", "seconds": 13.9, "text": "762 negatives for
    64 queries"}
"""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .storage import Log

Tick = Callable[[int, int], None]
"""Told of progress as (done, total)."""

_PIPE_SECONDS = 20.0
_TERMINAL_SECONDS = 0.2


class Stage:
    """The line of one stage. Calling it with (done, total) redraws it."""

    def __init__(self, name: str, unit: str, quiet: bool, dollars: Callable[[], float] = float) -> None:
        self.name, self.unit, self.quiet, self._dollars = name, unit, quiet, dollars
        self.note = ""
        self._start = self._first = time.monotonic()
        self._drawn = 0.0
        self._terminal = sys.stderr.isatty()
        self._done = self._total = self._offset = 0
        if self._terminal:
            self._draw("…", end="\r")

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if total != self._total:  # another piece of work inside the stage: rates start anew
            self._first, self._offset = now, done
        self._done, self._total = done, total
        if now - self._drawn >= (_TERMINAL_SECONDS if self._terminal else _PIPE_SECONDS) and done < total:
            self._draw(self._counts(now), end="\r" if self._terminal else "\n")
            self._drawn = now

    def close(self, how: str = "") -> float:
        """Draw the last line; returns the seconds of the stage."""
        seconds = time.monotonic() - self._start
        self._draw("  ".join(part for part in (how or self.note, f"{seconds:.1f} s") if part), end="\n")
        return seconds

    def _counts(self, now: float) -> str:
        parts = [f"{self._done}/{self._total} {self.unit}"]
        moved, seconds = self._done - self._offset, now - self._first
        if moved > 0 and seconds > 0:
            rate = moved / seconds
            left = (self._total - self._done) / rate
            parts.append(f"{rate:.1f}/s" if rate >= 1 else f"{rate * 60:.1f}/min")
            parts.append(f"ETA {int(left) // 60}:{int(left) % 60:02}")
        if usd := self._dollars():
            parts.append(f"${usd:.2f}")
        return "  ".join(parts)

    def _draw(self, text: str, end: str) -> None:
        if not self.quiet:
            clear = "\x1b[2K" if self._terminal else ""
            sys.stderr.write(f"{clear}{self.name:<10} {text}{end}")
            sys.stderr.flush()


class Progress:
    """Opens stages and remembers the seconds of each, for the shares printed at the end."""

    def __init__(self, quiet: bool = False, verbose: bool = False) -> None:
        self.quiet, self.verbose = quiet, verbose
        self._dollars = 0.0  # cost of the LM calls so far
        self.seconds: dict[str, float] = {}
        self._events: Log | None = None

    @contextmanager
    def kept(self, path: Path) -> Iterator[None]:
        """While this is open, append what happens to a JSONL file."""
        self._events = Log(path)
        try:
            yield
        finally:
            self._events.close()
            self._events = None

    def _event(self, event: str, **facts: Any) -> None:
        if self._events is not None:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            self._events.append({"time": now, "event": event, **facts})

    @contextmanager
    def stage(self, name: str, unit: str = "") -> Iterator[Stage]:
        """A stage by name; its seconds count even when it fails."""
        line = Stage(name, unit, self.quiet, lambda: self._dollars)
        how = "stopped"
        self._event("begun", stage=name)
        try:
            yield line
            how = ""
        finally:
            seconds = line.close(how)
            self._add(name, seconds)
            self._event(how or "done", stage=name, seconds=round(seconds, 3), text=line.note)

    def say(self, text: str) -> None:
        """A line of its own, such as a warning, wrapped at 80 columns."""
        self._event("said", text=text)
        self._line(text)

    def _line(self, text: str) -> None:
        if not self.quiet:
            for line in text.splitlines():
                indent = line[: len(line) - len(line.lstrip())]
                sys.stderr.write(
                    f"{textwrap.fill(line.strip(), 80, initial_indent=indent, subsequent_indent=indent)}\n"
                )
            sys.stderr.flush()

    def call(self, row: Mapping[str, Any]) -> None:
        """Count the dollars of a new row of the ledger, and print the row (only with `verbose`)."""
        self._dollars += row["usd"] or 0.0
        if self.verbose:
            outcome = (
                row["error"] or f"{row['input_tokens']} tokens in, {row['output_tokens']} out, {row['finish_reason']}"
            )
            self._line(
                f"  {row['query_id']} attempt {row['attempt']}, {row['model']}: {outcome}, {row['seconds']:.1f} s"
            )

    def shares(self) -> str:
        """Seconds per stage and their share of the whole, as one line."""
        total = sum(self.seconds.values()) or 1.0
        parts = [
            f"{name} {seconds:.0f} s ({seconds / total:.0%})"
            for name, seconds in self.seconds.items()
            if seconds >= 0.5
        ]
        return f"{total:.0f} s: " + ", ".join(parts)

    def _add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
