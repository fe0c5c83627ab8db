"""Work in threads comes back in order, the first error ends it, and Ctrl-C does not wait."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from syneg.core.errors import BackendError, DeferredError, StoppedError
from syneg.core.threads import check_wanted, in_order, pause


def test_results_come_in_the_order_of_the_items_and_are_counted_as_they_finish() -> None:
    second, counted = threading.Event(), list[tuple[int, int]]()

    def work(item: str) -> str:
        if item == "a":
            assert second.wait(60)  # the first item finishes last
        else:
            second.set()
        return item * 2

    def tick(done: int, total: int) -> None:
        counted.append((done, total))

    assert in_order(work, ["a", "b", "c"], 2, tick) == ["aa", "bb", "cc"]
    assert counted == [(1, 3), (2, 3), (3, 3)]
    assert in_order(work, [], 2, tick) == [] and len(counted) == 3


def test_no_more_than_so_many_items_are_worked_on_at_once() -> None:
    now, most, one = list[int](), list[int](), threading.Lock()

    def work(item: int) -> None:
        with one:
            now.append(item)
            most.append(len(now))
        time.sleep(0.01)
        with one:
            now.remove(item)

    in_order(work, range(12), 3)
    assert max(most) == 3


def test_the_first_error_ends_the_rest_after_what_is_open() -> None:
    begun, ended, started = threading.Event(), threading.Event(), list[int]()

    def work(item: int) -> None:
        started.append(item)
        if item == 0:
            assert begun.wait(60)
            raise BackendError("down")
        begun.set()
        time.sleep(0.5)  # longer than the error takes to be seen
        ended.set()

    with pytest.raises(BackendError, match="down"):
        in_order(work, range(40), 2)
    assert ended.is_set() and len(started) < 6


def test_what_waits_or_begins_after_an_error_is_stopped() -> None:
    waiting, stopped = threading.Event(), list[str]()

    def work(item: int) -> None:
        if item == 0:
            assert waiting.wait(60)
            raise BackendError("down")
        try:
            waiting.set()
            pause(60)
        except StoppedError:
            stopped.append("the wait")
        try:
            check_wanted()
        except StoppedError:
            stopped.append("the next call")

    with pytest.raises(BackendError, match="down"):
        in_order(work, range(2), 2)
    assert stopped == ["the wait", "the next call"]
    check_wanted()  # nothing ends outside of it


def test_a_deferred_call_ends_nothing_before_the_others_are_done() -> None:
    done = list[int]()

    def work(item: int) -> None:
        if item == 0:
            raise DeferredError("in a batch")
        done.append(item)

    with pytest.raises(DeferredError):
        in_order(work, range(30), 2)
    assert sorted(done) == list(range(1, 30))


def test_an_interrupt_waits_for_nothing() -> None:
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    free, started, ended = threading.Event(), list[int](), list[int]()

    def work(item: int) -> None:
        started.append(item)
        if item == 1:
            time.sleep(0.2)  # all is submitted, and the caller waits
            os.kill(os.getpid(), signal.SIGINT)
        free.wait(5)
        ended.append(item)

    try:
        with pytest.raises(KeyboardInterrupt):
            in_order(work, range(40), 2)
        assert not ended and len(started) < 4
    finally:
        free.set()
        signal.signal(signal.SIGINT, handler)
