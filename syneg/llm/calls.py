"""Attribute LM calls to a query, sort their errors, and make calls in parallel.

    with purpose("bisect.insort", attempt=1) as current: program(...)
    current.calls → [Call(key="5f0c…", model="openai/gpt-4o-mini@default", finish_reason="stop", output_tokens=88, …)]

If one of the parallel calls ends the run, the open calls are finished and kept, and no further call is started.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

import dspy
from dspy.utils.exceptions import DSPyError

from syneg.core.errors import BackendError, DeferredError, RefusedError, StoppedError, SynegError, one_line
from syneg.core.failing import on_failure
from syneg.core.records import Call
from syneg.core.storage import DISK_ERRORS

from .open_calls import check_going

T = TypeVar("T")
R = TypeVar("R")
PROGRAM_ERRORS = (DSPyError, ValueError, TypeError, LookupError, AttributeError, RecursionError)


@dataclass
class CallPurpose:
    """The query and attempt that the current calls belong to.

    `calls` collects these calls. `ended` collects the errors of calls that end the run.
    """

    query_id: str
    attempt: int = 0
    calls: list[Call] = field(default_factory=list)
    ended: list[Exception] = field(default_factory=list)


_PURPOSE = "syneg_call_purpose"  # a setting of DSPy, which DSPy hands on to the threads of dspy.Parallel


@contextmanager
def purpose(query_id: str, attempt: int = 0) -> Iterator[CallPurpose]:
    """Attribute the LM calls of this thread to a query and an attempt (from 0) while this is open."""
    current = CallPurpose(query_id, attempt)
    with dspy.context(**{_PURPOSE: current}):
        yield current


def current_purpose() -> CallPurpose:
    """The purpose set in this thread; one without a query if none was set."""
    return dspy.settings.get(_PURPOSE) or CallPurpose("")


def end_of_run(error: BaseException) -> Exception | None:
    """The error that ends the run: `error` or the first of its causes that is a SynegError, or a full or read-only
    disk; None if there is none.

    DSPy wraps every error of an engine, so the causes are searched. A RefusedError does not end a run.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, RefusedError):
        if isinstance(cause, SynegError) or (isinstance(cause, OSError) and cause.errno in DISK_ERRORS):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None


def reraise_fatal(error: BaseException) -> None:
    """Raise what `end_of_run` finds in `error`; return if it finds nothing."""
    if fatal := end_of_run(error):
        raise fatal


def attempted(program: Callable[..., R], ask: Mapping[str, Any]) -> tuple[R | None, str]:
    """Run a program once: its prediction and "", or None and why it failed.

    A program may be a user's own code, so any exception is a failure. Raises errors that end the run, also if the
    program caught them, as dspy.BestOfN, dspy.Refine and dspy.Parallel do.
    """
    about = current_purpose()
    before = len(about.ended)
    prediction, failed = None, ""
    try:
        prediction = program(**ask)
    except (Exception, SystemExit) as error:  # noqa: BLE001 the boundary to code that is not ours
        reraise_fatal(error)
        failed = one_line(error)
    if caught := about.ended[before:]:
        raise caught[0]
    return prediction, failed


def check_answered(error: BaseException, *, answered: bool) -> None:
    """Return if an error of PROGRAM_ERRORS means a bad answer. Raise BackendError if the LM did not answer, and any
    error that ends the run."""
    reraise_fatal(error)
    if not answered:
        raise BackendError(
            f"the LM failed: {one_line(error)}", todo="check --lm, --api-base and the network"
        ) from error


_ending: ContextVar[threading.Event | None] = ContextVar("syneg_ending", default=None)


def go_on() -> None:
    """Raise StoppedError if this thread belongs to an ending run (`in_threads`), so that no new call starts."""
    check_going()
    ending = _ending.get()
    if ending is not None and ending.is_set():
        raise StoppedError("the run is ending")


def pause(seconds: float) -> None:
    """Sleep. Raises StoppedError as soon as the run is ending."""
    ending = _ending.get()
    if ending is None:
        time.sleep(seconds)
    elif ending.wait(seconds):
        raise StoppedError("the run is ending")


def in_threads(work: Callable[[int], T], total: int, threads: int) -> Iterator[tuple[int, T]]:
    """Run work(0) … work(total - 1) in threads. Yield (place, result) in the order in which they finish.

    At most twice `threads` jobs are queued. The first error ends the run: open calls are finished, because they are
    paid for, and no further call starts. A DeferredError is different: it is raised after all other jobs are done.
    """
    ending = threading.Event()

    def job(place: int) -> T:
        token = _ending.set(ending)
        try:
            return work(place)
        finally:
            _ending.reset(token)

    pool = ThreadPoolExecutor(threads, thread_name_prefix="generate")
    jobs: dict[Future[T], int] = {}
    places = iter(range(total))
    deferred: DeferredError | None = None

    def end(error: BaseException | None = None) -> None:
        ending.set()
        pool.shutdown(wait=isinstance(error, Exception), cancel_futures=True)  # not where nobody wants more results

    with on_failure(end):
        while True:
            while len(jobs) < 2 * threads and (place := next(places, None)) is not None:
                jobs[pool.submit(job, place)] = place
            if not jobs:
                break
            done, _ = wait(jobs, return_when=FIRST_COMPLETED)
            for finished in done:
                place = jobs.pop(finished)
                try:
                    result = finished.result()
                except DeferredError as error:
                    deferred = error
                else:
                    yield place, result
        if deferred:
            raise deferred
    end()
