"""End a process with the one that started it, also if that one is killed.

    with held_open() as ends: subprocess.run(command, stdin=ends, env={**os.environ, FLAG: "1"})     the parent
    end_with_input()                                                                                 the child

The parent holds a pipe open. It closes with the parent, however that ends, and the child sees the end of its standard
input. Otherwise the processes of a killed training would train on, beside those of the command that resumes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

FLAG = "SYNEG_ENDS_WITH_INPUT"  # set for processes that `train` starts; one that is launched by hand may have no input


@contextmanager
def held_open() -> Iterator[int]:
    """The reading end of a pipe that stays open as long as this context, and this process."""
    ends, held = os.pipe()
    try:
        yield ends
    finally:
        os.close(held)
        os.close(ends)


def end_with_input() -> None:
    """Watch the standard input in a thread if FLAG is set, and end the process at once when the input closes."""
    if os.environ.get(FLAG):
        threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    while os.read(0, 1024):
        pass
    os._exit(1)
