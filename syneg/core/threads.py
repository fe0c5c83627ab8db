"""Work on items in threads, and return the results in the order of the items.

    in_order(len, ["one", "three"], threads=2) → [3, 5]

If the work on one item fails, open work is finished, because it may be paid for, and nothing further starts. Ctrl-C
waits for nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import ContextVar
from typing import TypeVar

from .errors import DeferredError, StoppedError
from .failing import on_failure
from .progress import Tick

Item = TypeVar("Item")
Result = TypeVar("Result")
_ending: ContextVar[threading.Event | None] = ContextVar("syneg_ending", default=None)


def check_wanted() -> None:
    """Raise StoppedError if this thread works for an `in_order` that is ending, so that nothing new starts."""
    ending = _ending.get()
    if ending is not None and ending.is_set():
        raise StoppedError("the run is ending")


def pause(seconds: float) -> None:
    """Sleep. Raises StoppedError as soon as the `in_order` of this thread is ending."""
    ending = _ending.get()
    if ending is None:
        time.sleep(seconds)
    elif ending.wait(seconds):
        raise StoppedError("the run is ending")


def in_order(
    work: Callable[[Item], Result], items: Sequence[Item], threads: int, tick: Tick | None = None
) -> list[Result]:
    """Return `work(item)` of each item, in order. `tick` is called with (done, total) after each.

    At most twice `threads` jobs are queued. Raises the first error of `work`, after the open jobs are finished. A
    DeferredError is different: it is raised after all other jobs are done.
    """
    ending = threading.Event()

    def job(item: Item) -> Result:
        token = _ending.set(ending)
        try:
            return work(item)
        finally:
            _ending.reset(token)

    pool = ThreadPoolExecutor(threads, thread_name_prefix="in_order")

    def end(error: BaseException | None = None) -> None:
        ending.set()
        pool.shutdown(wait=isinstance(error, Exception), cancel_futures=True)  # not where nobody wants more results

    with on_failure(end):
        results = _collected(lambda item: pool.submit(job, item), items, 2 * threads, tick)
    end()
    return results


def _collected(
    submit: Callable[[Item], Future[Result]], items: Sequence[Item], queued: int, tick: Tick | None
) -> list[Result]:
    """The results of all items, of which `queued` are submitted at a time."""
    results: dict[int, Result] = {}
    jobs: dict[Future[Result], int] = {}
    places = iter(range(len(items)))
    deferred: DeferredError | None = None
    while True:
        while len(jobs) < queued and (place := next(places, None)) is not None:
            jobs[submit(items[place])] = place
        if not jobs:
            break
        done, _ = wait(jobs, return_when=FIRST_COMPLETED)
        for finished in done:
            place = jobs.pop(finished)
            try:
                results[place] = finished.result()
            except DeferredError as error:
                deferred = error
                continue
            if tick:
                tick(len(results), len(items))
    if deferred:
        raise deferred
    return [results[place] for place in range(len(items))]
