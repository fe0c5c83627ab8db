"""What an LM call is for, which of its errors are the answer's own, and calls side by side.

with purpose("bisect.insort", attempt=1) as current: program(...)
current.calls → [Call(key="5f0c…", model="openai/gpt-4o-mini@default", finish_reason="stop", output_tokens=88, …)]
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar

from dspy.utils.exceptions import DSPyError

from syneg.core.errors import BackendError, BudgetError, DeferredError, SynegError, one_line
from syneg.core.records import Call

T = TypeVar("T")
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
PROGRAM_ERRORS = (DSPyError, ValueError, TypeError, LookupError, AttributeError)


@dataclass
class CallPurpose:
    """What the calls made right now are for; `calls` collects them."""

    query_id: str
    attempt: int = 0
    calls: list[Call] = field(default_factory=list)


_purpose: ContextVar[CallPurpose | None] = ContextVar("syneg_call_purpose", default=None)


@contextmanager
def purpose(query_id: str, attempt: int = 0) -> Iterator[CallPurpose]:
    """Attribute the LM calls of this thread to a query and an attempt."""
    current = CallPurpose(query_id, attempt)
    token = _purpose.set(current)
    try:
        yield current
    finally:
        _purpose.reset(token)


def current_purpose() -> CallPurpose:
    """The purpose set in this thread; an anonymous one where none was set."""
    return _purpose.get() or CallPurpose("")


def reraise_fatal(error: BaseException) -> None:
    """DSPy wraps whatever an engine raises; our own errors and a disk that cannot be written to are not the LM's."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, SynegError) or (isinstance(cause, OSError) and cause.errno in _DISK_ERRORS):
            raise cause
        cause = cause.__cause__ or cause.__context__


def check_answered(error: BaseException, *, answered: bool) -> None:
    """Return when one of PROGRAM_ERRORS says only that an answer was no good; raise BackendError where the LM failed."""
    reraise_fatal(error)
    if not answered:
        raise BackendError(
            f"the LM failed: {one_line(error)}", todo="check --lm, --api-base and the network"
        ) from error


def in_threads(work: Callable[[int], T], total: int, threads: int) -> Iterator[tuple[int, T]]:
    """Yield (place, result) as they come; never more than twice `threads` jobs are under way; the first error ends all, after
    the calls under way where it is a spent budget: they are paid for. A job whose call waits for a batch ends only the whole."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="generate")
    jobs: dict[Future[T], int] = {}
    places = iter(range(total))
    waits: DeferredError | None = None
    try:
        while True:
            while len(jobs) < 2 * threads and (place := next(places, None)) is not None:
                jobs[pool.submit(work, place)] = place
            if not jobs:
                break
            done, _ = wait(jobs, return_when=FIRST_COMPLETED)
            for job in done:
                place = jobs.pop(job)
                try:
                    result = job.result()
                except DeferredError as error:
                    waits = error
                else:
                    yield place, result
        if waits:
            raise waits
    except BudgetError:
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
