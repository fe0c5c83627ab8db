"""Standard streams whose readers may be gone, as after `syneg-dspy run 2>&1 | head -1` or with a lost terminal.

draw("mine          17/48 pairs\\n")      writes to stderr; a run goes on where nobody reads it
unread(sys.stdout)                       True: a command ends as others do (exit code 141)
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
from typing import TextIO


def draw(text: str) -> None:
    """Write text to stderr. What stderr does not take is lost; all later text is, too."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        silence(sys.stderr)


def unread(stream: TextIO) -> bool:
    """Whether a stream is a pipe that nobody reads any more."""
    if not hasattr(select, "poll"):
        return True
    look = select.poll()
    look.register(stream, 0)  # POLLERR and POLLHUP are always looked for
    return bool(look.poll(0))


def silence(stream: TextIO) -> None:
    """Send what is written to a stream to nowhere, also what it holds back and what other code writes."""
    with contextlib.suppress(OSError):  # a stream without a file
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
