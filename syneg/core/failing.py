"""Do something when a block fails, without holding its error up.

    with on_failure(lambda error: ledger.keep(row_of(error))):
        answer = ask()                      # an error of any kind is kept as a row, and goes on

No `except` for every kind of error is needed, so none can swallow one.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType


def on_failure(act: Callable[[BaseException], None]) -> AbstractContextManager[object]:
    """A block that calls `act` with the error that ends it. The error goes on, unless `act` raises one in its place."""

    def failed(kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            act(error)

    stack = ExitStack()
    stack.push(failed)
    return stack
