"""End a call by a deadline, whatever the endpoint sends meanwhile.

    in_time(180.0, lambda: client.complete(request))      TimeoutError: no whole answer after 185 s

A client's own timeout is for each read: an endpoint that sends one byte a second, or headers and then nothing, holds
a call for as long as it likes. Here the call runs in a thread of its own, and is left alone after its time. The
process does not wait for such a thread at its end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextvars import copy_context
from typing import TypeVar

from dspy.lm15 import TimeoutError as LMTimeout

T = TypeVar("T")
GRACE_S = 5.0  # more than the client's own timeout, which says more, and than the first call takes to load code


def in_time(seconds: float, call: Callable[[], T]) -> T:
    """The result of `call`, which runs with the context of this thread. Raises its error, or dspy's TimeoutError if it
    takes more than GRACE_S longer than `seconds`."""
    future: Future[T] = Future()
    context = copy_context()

    def run() -> None:
        try:
            future.set_result(context.run(call))
        except BaseException as error:  # noqa: BLE001 the waiting thread raises it
            future.set_exception(error)

    threading.Thread(target=run, name="call", daemon=True).start()
    if not wait([future], seconds + GRACE_S).done:
        raise LMTimeout(f"no whole answer after {seconds + GRACE_S:g} s; raise timeout_s if the endpoint is that slow")
    return future.result()
