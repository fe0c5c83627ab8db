"""Finish the LM calls that are open when a run is interrupted: they are paid for, so their answers are kept.

    with Finishing(progress.say):      the first Ctrl-C (SIGTERM, SIGHUP) waits for the open calls, the second leaves
        with open_call(): …            from the request until its row is in the ledger

If the main thread waits for an answer, its KeyboardInterrupt is raised when the call is finished. Otherwise it is
raised at once, and `Finishing` waits for the calls of other threads. No thread starts a further call. A run in another
thread than the main one changes no handler of signals.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from syneg.core.counts import counted
from syneg.core.errors import StoppedError

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_open: set[int] = set()  # the threads that wait for an answer
_closed = threading.Condition()
_ending = threading.Event()  # set: no further call starts
_late: list[Callable[[], None]] = []  # what ends the open call of the main thread


def check_going() -> None:
    """Raise StoppedError if the run was interrupted."""
    if _ending.is_set():
        raise StoppedError("the run is ending")


def open_now() -> int:
    """The number of open calls."""
    return len(_open)


@contextlib.contextmanager
def open_call() -> Iterator[None]:
    """Count a call of this thread as open.

    Raises StoppedError if the run was interrupted before. A KeyboardInterrupt that comes meanwhile is raised at the
    end.
    """
    thread = threading.get_ident()
    _open.add(thread)
    try:
        check_going()
        yield
    finally:
        with _closed:
            _open.discard(thread)
            _closed.notify_all()
        if _late and threading.current_thread() is threading.main_thread():
            _late.pop()()


class Finishing:
    """Wait for open calls where a signal ends what is inside. `say` gets the line that says so."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._signals = say, 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            _ending.clear()
            for number in SIGNALS:
                if callable(before := signal.getsignal(number)):
                    self._before[number] = before
                    signal.signal(number, self._signalled)

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if self._signals == 1:
                self._wait()
        finally:
            for number, before in self._before.items():
                signal.signal(number, before)

    def _signalled(self, number: int, frame: Any) -> None:
        self._signals += 1
        _late.clear()
        if self._signals == 1 and threading.get_ident() in _open:
            _late.append(lambda: self._before[number](number, frame))
            self._tell()
        else:
            self._before[number](number, frame)

    def _wait(self) -> None:
        _ending.set()
        if _open:
            self._tell()
        with _closed:
            while _open:
                _closed.wait()

    def _tell(self) -> None:
        with contextlib.suppress(OSError):  # the terminal may be gone
            calls = counted(open_now(), "open LM call")
            self._say(f"  {calls} paid for: waiting for the answers (again: leave at once)")
