"""Attribute LM calls to a query, and sort their errors.

    with purpose("bisect.insort", attempt=1) as current: program(...)
    current.calls → [Call(key="5f0c…", model="openai/gpt-4o-mini@default", finish_reason="stop", output_tokens=88, …)]

An error ends one attempt, or the run: `end_of_run` tells which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import dspy
from dspy.utils.exceptions import DSPyError

from syneg.core.errors import BackendError, RefusedError, SynegError, one_line
from syneg.core.records import Call
from syneg.core.storage import DISK_ERRORS
from syneg.core.threads import check_wanted

from .open_calls import check_going

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


def go_on() -> None:
    """Raise StoppedError if the run was interrupted or is ending (`in_order`), so that no new call starts."""
    check_going()
    check_wanted()
