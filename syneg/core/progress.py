"""Show progress on stderr, one line per stage, and log it as events.

    mine          5171/5171 passages  13.9 s
    generate      17/48 pairs  11.2/min  ETA 2:46  $0.03

The line is redrawn every second on a terminal, with a clock until the first count; it is repeated every 20 s in a
pipe. `verbose` adds a line for every LM call. Stdout stays free for output that machines read. `Progress.kept` also
writes an event for each stage and each message:

    {"time": "2026-11-21T17:10:02+00:00", "event": "done", "stage": "mine", "seconds": 13.9,
     "text": "762 negatives for 64 queries"}
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .counts import counted
from .errors import DeferredError
from .lines import wrapped
from .storage import Log
from .streams import draw

Tick = Callable[[int, int], None]
"""Called with (done, total) as work proceeds."""

_PIPE_SECONDS = 20.0
_TERMINAL_SECONDS = 0.2
_CLOCK_SECONDS = 1.0
_CLEAR = "\x1b[2K"
_FIXED = "\N{NO-BREAK SPACE}"  # lines are not wrapped there; it is printed as a space


class Stage:
    """The progress line of one stage. Call it with (done, total); it redraws itself at most every 0.2 s.

    `note` is shown when the stage ends. `dollars` returns the cost so far.
    """

    def __init__(self, name: str, unit: str, quiet: bool, dollars: Callable[[], float] = float) -> None:
        self.name, self.unit, self.quiet, self._dollars = name, unit, quiet, dollars
        self.note = ""
        self._start = self._first = time.monotonic()
        self._drawn = 0.0
        self._terminal = sys.stderr.isatty()
        self._done = self._total = self._offset = 0
        self._ended = threading.Event()
        self._clock = threading.Thread(target=self._run_clock, daemon=True)
        if self._terminal and not quiet:
            self._draw("…", end="\r")
            self._clock.start()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if total != self._total or done < self._done:  # another piece of work: the old rate does not apply
            self._first, self._offset = now, done
        self._done, self._total = done, total
        if now - self._drawn >= (_TERMINAL_SECONDS if self._terminal else _PIPE_SECONDS) and done < total:
            self._draw(self._counts(now), end="\r" if self._terminal else "\n")
            self._drawn = now

    def close(self, how: str = "") -> float:
        """Draw the last line with `how` (or `note`). Returns the seconds since the stage began."""
        self._ended.set()
        if self._clock.is_alive():
            self._clock.join()
        seconds = time.monotonic() - self._start
        self._draw("  ".join(part for part in (how or self.note, f"{seconds:.1f}{_FIXED}s") if part), end="\n")
        return seconds

    def _run_clock(self) -> None:
        while not self._ended.wait(_CLOCK_SECONDS):
            now = time.monotonic()
            self._draw(self._counts(now) if self._total else f"…  {now - self._start:.0f} s", end="\r")

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
            line = _line_of(f"{self.name:<10} {text}", indent=" " * 11)
            draw(f"{_CLEAR if self._terminal else ''}{line}{end}")


def _line_of(text: str, indent: str) -> str:
    return wrapped(text, indent).replace(_FIXED, " ")


class Progress:
    """Opens stages and adds up the seconds of each, by name."""

    def __init__(self, quiet: bool = False, verbose: bool = False) -> None:
        self.quiet, self.verbose = quiet, verbose
        self._dollars = 0.0  # cost of the LM calls so far
        self.seconds: dict[str, float] = {}
        self._events: Log | None = None
        self._kept = Counter[str]()  # results of an earlier run that are not said yet

    @contextmanager
    def kept(self, path: Path) -> Iterator[None]:
        """Append every event to a JSONL file while this is open."""
        self._events = Log(path)
        try:
            yield
        finally:
            self._say_kept()
            self._events.close()
            self._events = None

    def _event(self, event: str, **facts: Any) -> None:
        if self._events is not None:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            self._events.append({"time": now, "event": event, **facts})

    @contextmanager
    def stage(self, name: str, unit: str = "") -> Iterator[Stage]:
        """Open a stage and draw its line. Its seconds count even if it fails, or waits for answers of a batch file."""
        self._say_kept()
        line = Stage(name, unit, self.quiet, lambda: self._dollars)
        how = "stopped"
        self._event("begun", stage=name)
        try:
            yield line
            how = ""
        except DeferredError:
            how = "waits for the answers to a batch file"
            raise
        finally:
            seconds = line.close(how)
            self._add(name, seconds)
            self._event(how.split()[0] if how else "done", stage=name, seconds=round(seconds, 3), text=line.note)

    def say(self, text: str) -> None:
        """Print a message, such as a warning, wrapped at 80 columns, and log it as an event."""
        self._say_kept()
        self._event("said", text=text)
        self._line(text)

    def keep(self, kind: str) -> None:
        """Count one of many results of a kind ("model") that an earlier run made.

        One line with the number of each kind precedes the next stage or message, or ends the log of events.
        """
        self._kept[kind] += 1

    def _say_kept(self) -> None:
        if self._kept:
            kinds = ", ".join(counted(count, kind) for kind, count in self._kept.items())
            self._kept.clear()
            self.say(f"{kinds}: kept from an earlier run")

    def _line(self, text: str) -> None:
        if not self.quiet:
            clear = _CLEAR if sys.stderr.isatty() else ""  # a stage may have drawn its line here
            for line in text.splitlines():
                indent = line[: len(line) - len(line.lstrip())]
                draw(f"{clear}{_line_of(line, indent)}\n")

    def call(self, row: Mapping[str, Any]) -> None:
        """Add the dollars of a new ledger row, and print the row if `verbose`."""
        self._dollars += row["usd"] or 0.0
        if self.verbose:
            outcome = (
                row["error"] or f"{row['input_tokens']} tokens in, {row['output_tokens']} out, {row['finish_reason']}"
            )
            self._line(
                f"  {row['query_id']} attempt {row['attempt']}, {row['model']}: {outcome}, {row['seconds']:.1f} s"
            )

    def shares(self) -> str:
        """One line with the seconds of all stages, and of each stage that took half a second or more; "" if none did.

        `90 s: mine 14 s (16%), train 76 s (84%)`
        """
        total = sum(self.seconds.values())
        parts = [
            f"{name} {seconds:.0f} s ({seconds / total:.0%})"
            for name, seconds in self.seconds.items()
            if seconds >= 0.5
        ]
        return f"{total:.0f} s: {', '.join(parts)}" if parts else ""

    def _add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
