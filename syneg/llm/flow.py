"""Pace the calls to one endpoint: rate limits, retries with the waits that it asks for, and a stop when it is down.

    flow = Flow(LMConfig(model="openai/gpt-4o-mini", max_rpm=600))
    row = flow.call(lambda: kept(request), most_tokens=900, used=lambda row: row["input_tokens"] + row["output_tokens"])

- `max_rpm` and `max_tpm` space the calls evenly over a minute, so that an endpoint never sees a burst. A call first
  takes its share for the most tokens that it may use (`most_tokens`), then returns the part that it did not use.
- Rate refusals (429), server faults (5xx), timeouts and dropped connections are tried again, up to `retries` times. The
  wait is the endpoint's Retry-After, which holds for all calls, or else exponential backoff with full jitter (tenacity;
  AWS Architecture Blog, "Exponential Backoff and Jitter").
- A rate refusal halves the number of parallel calls, once for all calls that were open together. Each success raises it
  a little (additive increase, multiplicative decrease, as in TCP).
- The endpoint counts as down after `breaker` failed calls in a row, or at once if it refuses the key, the bill or the
  model. Every later call is then refused, and the run stops with everything kept.
- A prompt that is refused for its text does not count as a failure of the endpoint (`refusals`).

Spacing, parallel calls and the breaker are 60 lines of our own. aiolimiter needs asyncio; pyrate-limiter lets a burst
through and then blocks; neither adapts the number of parallel calls.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from dspy.lm15 import (
    AuthError,
    BillingError,
    LM15Error,
    NotConfiguredError,
    RateLimitError,
    ServerError,
    TransportError,
    UnsupportedModelError,
)
from dspy.lm15 import TimeoutError as LMTimeout
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from syneg.core.config import LMConfig
from syneg.core.errors import BackendError, one_line
from syneg.core.failing import on_failure
from syneg.core.threads import pause

from .calls import go_on
from .refusals import is_refusal
from .retry_after import seconds_asked_for

T = TypeVar("T")
RETRYABLE = (RateLimitError, ServerError, LMTimeout, TransportError)
FATAL = (AuthError, BillingError, UnsupportedModelError, NotConfiguredError)
MAX_DELAY_S = 60.0  # the longest backoff, unless the endpoint asks for more
MAX_RETRY_AFTER_S = 600.0  # an endpoint that asks for a longer wait counts as down


class Flow:
    """Paces the calls to one endpoint; safe for threads. `hint` returns the advice for an endpoint that is down."""

    def __init__(
        self,
        config: LMConfig,
        hint: Callable[[], str] = str,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = pause,
    ) -> None:
        self._config, self._hint, self._clock, self._sleep = config, hint, clock, sleep
        self._backoff = wait_random_exponential(max=MAX_DELAY_S)
        self._state = threading.Condition()
        self._next = {"calls": 0.0, "tokens": 0.0}  # when the next call may start
        self._width, self._under_way, self._failures = float(config.concurrency), 0, 0
        self._halvings = 0
        self._not_before, self._down = 0.0, ""

    @property
    def width(self) -> int:
        """The number of calls that may be open at the same time now."""
        return max(1, int(self._width))

    def call(self, work: Callable[[], T], *, most_tokens: int, used: Callable[[T], int] | None = None) -> T:
        """Return the result of `work`, called once or several times.

        `used` returns the tokens of a result. Raises the error of the last try, or BackendError if the endpoint is
        down.
        """
        retrying = Retrying(
            retry=retry_if_exception_type(RETRYABLE),
            stop=stop_after_attempt(self._config.retries + 1),
            wait=self._wait,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return retrying(self._try, work, most_tokens, used)
        except LM15Error as error:
            self._failed(error)
            raise

    def fail(self, error: LM15Error, why: str) -> BackendError:
        """Mark the endpoint as down. Returns the error to raise: for all calls, that of the first."""
        with self._state:
            self._down = self._down or f"the LM {self._config.model!r} {why}, last: {one_line(error)}"
            self._state.notify_all()
        return BackendError(self._down, todo=self._todo())

    def _try(self, work: Callable[[], T], most_tokens: int, used: Callable[[T], int] | None) -> T:
        with self._place(most_tokens):
            result = work()
        if used is not None and self._config.max_tpm:
            with self._state:
                self._next["tokens"] -= 60.0 * max(0, most_tokens - used(result)) / self._config.max_tpm
        return result

    @contextmanager
    def _place(self, most_tokens: int) -> Iterator[None]:
        """Hold a place among the open calls. The outcome of the call changes the number of places."""
        halvings = self._begin(most_tokens)
        try:
            yield
        except RateLimitError:
            with self._state:
                if halvings == self._halvings:  # else a call that was open at the same time has halved the width
                    self._halvings += 1
                    self._width = max(1.0, self._width / 2)
            raise
        else:
            with self._state:
                self._failures = 0
                self._width = min(float(self._config.concurrency), self._width + 1 / self._width)
        finally:
            self._leave()

    def _begin(self, most_tokens: int) -> int:
        """Wait for a place and for the start that the rate limits allow. Returns the number of halvings so far."""
        with self._state:
            while not self._down and self._under_way >= self.width:
                self._state.wait()
            go_on()
            if self._down:
                raise BackendError(self._down, todo=self._todo())
            self._under_way += 1
            halvings, now = self._halvings, self._clock()
            shares = {
                name: 60.0 * amount / limit
                for name, amount, limit in (
                    ("calls", 1, self._config.max_rpm),
                    ("tokens", most_tokens, self._config.max_tpm),
                )
                if limit
            }
            start = max(now, self._not_before, *(self._next[name] for name in shares))
            for name, share in shares.items():
                self._next[name] = start + share
        with on_failure(lambda _: self._leave()):
            while (start := max(start, self._not_before)) > self._clock():
                self._sleep(start - self._clock())
        return halvings

    def _leave(self) -> None:
        """Give a place back."""
        with self._state:
            self._under_way -= 1
            self._state.notify_all()

    def _wait(self, state: RetryCallState) -> float:
        """Seconds until the next try."""
        error = state.outcome.exception() if state.outcome else None
        asked = seconds_asked_for(error) if error is not None else None
        if asked is None:
            return float(self._backoff(state))
        if asked > MAX_RETRY_AFTER_S and isinstance(error, LM15Error):
            raise self.fail(error, f"asks to be left alone for {asked / 60:.0f} minutes") from error
        with self._state:  # the wait applies to all calls
            self._not_before = max(self._not_before, self._clock() + asked)
        return asked

    def _failed(self, error: LM15Error) -> None:
        """Count a call whose last try failed. Raises BackendError if the endpoint now counts as down."""
        if is_refusal(error):
            return
        if isinstance(error, FATAL):
            raise self.fail(error, "refuses every call") from error
        with self._state:
            self._failures += 1
            if self._failures >= self._config.breaker:
                raise self.fail(error, f"failed {self._failures} times in a row") from error

    def _todo(self) -> str:
        known = self._hint() or "check the endpoint (--api-base), the network and the model name"
        return f"{known}; then run the same command again"
