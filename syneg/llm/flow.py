"""How calls to one endpoint flow: limits on rate, retries that wait as they are told, and an end when it is down.

    flow = Flow(LMConfig(model="openai/gpt-4o-mini", max_rpm=600))
    row = flow.call(lambda: kept(request), most_tokens=900, used=lambda row: row["input_tokens"] + row["output_tokens"])

- `max_rpm` and `max_tpm` are kept by spacing: a call starts when those before it have had their share of a minute, so
  an endpoint never sees a burst. A call takes its share of tokens by what it may use at most (`most_tokens`) and gives
  back what it did not use.
- Refusals for rate (429), faults of the server (5xx), timeouts and dropped connections are tried again, up to `retries`
  times: after what Retry-After says, or after exponential backoff with full jitter (tenacity; AWS Architecture Blog,
  "Exponential Backoff and Jitter"). A wait that the endpoint asks for holds for all calls.
- A refusal for rate halves the calls that may be under way, once for all calls that were under way together. Every
  success gives a little back (additive increase, multiplicative decrease, as in TCP).
- When `breaker` calls in a row have failed for good the endpoint counts as down. It does so at once where it refuses
the
  key, the bill or the model. Then every later call is refused and the run stops, with everything kept.
- A prompt that is refused for its text says nothing about the endpoint and is not counted (`refusals`).

Spacing, width and breaker are our own 60 lines: aiolimiter is for asyncio only, and pyrate-limiter lets a burst pass
and then blocks, where an endpoint counts in seconds; neither learns a width from refusals.
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

from .calls import go_on, pause
from .refusals import is_refusal
from .retry_after import seconds_asked_for

T = TypeVar("T")
_AGAIN = (RateLimitError, ServerError, LMTimeout, TransportError)
_NEVER = (AuthError, BillingError, UnsupportedModelError, NotConfiguredError)
_LONGEST = 60.0  # seconds between two tries, unless the endpoint asks for more
_PATIENCE = 600.0  # an endpoint that asks for more than this is down for us


class Flow:
    """Safe for threads; one for each endpoint. `hint` says what to do about an endpoint that is down."""

    def __init__(
        self,
        config: LMConfig,
        hint: Callable[[], str] = str,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = pause,
    ) -> None:
        self._config, self._hint, self._clock, self._sleep = config, hint, clock, sleep
        self._backoff = wait_random_exponential(max=_LONGEST)
        self._state = threading.Condition()
        self._next = {"calls": 0.0, "tokens": 0.0}  # when the next call may start
        self._width, self._under_way, self._failures = float(config.concurrency), 0, 0
        self._halvings = 0
        self._not_before, self._down = 0.0, ""

    @property
    def width(self) -> int:
        """How many calls may be under way now."""
        return max(1, int(self._width))

    def call(self, work: Callable[[], T], *, most_tokens: int, used: Callable[[T], int] | None = None) -> T:
        """What `work` returns, of which `used` are the tokens. Raises what its last try raised, or BackendError where
        the endpoint is down."""
        retrying = Retrying(
            retry=retry_if_exception_type(_AGAIN),
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
        """Count the endpoint as down from now on. Returns the error to raise."""
        with self._state:
            self._down = f"the LM {self._config.model!r} {why}, last: {one_line(error)}"
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
        """A place among the calls under way; how the call goes decides how many places there are."""
        halvings = self._begin(most_tokens)
        try:
            yield
        except RateLimitError:
            with self._state:
                if halvings == self._halvings:  # else a call that was under way beside this one has halved the width
                    self._halvings += 1
                    self._width = max(1.0, self._width / 2)
            raise
        else:
            with self._state:
                self._failures = 0
                self._width = min(float(self._config.concurrency), self._width + 1 / self._width)
        finally:
            with self._state:
                self._under_way -= 1
                self._state.notify_all()

    def _begin(self, most_tokens: int) -> int:
        """Wait for a place, and for the turn that the rate allows. Returns how often the width has been halved so
        far."""
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
        try:
            while (start := max(start, self._not_before)) > self._clock():
                self._sleep(start - self._clock())
        except BaseException:
            with self._state:
                self._under_way -= 1
                self._state.notify_all()
            raise
        return halvings

    def _wait(self, state: RetryCallState) -> float:
        """Seconds until the next try."""
        error = state.outcome.exception() if state.outcome else None
        asked = seconds_asked_for(error) if error is not None else None
        if asked is None:
            return float(self._backoff(state))
        if asked > _PATIENCE and isinstance(error, LM15Error):
            raise self.fail(error, f"asks to be left alone for {asked / 60:.0f} minutes") from error
        with self._state:  # the endpoint means all calls
            self._not_before = max(self._not_before, self._clock() + asked)
        return asked

    def _failed(self, error: LM15Error) -> None:
        """Count a call that failed for good. Raises BackendError where the endpoint counts as down from now on."""
        if is_refusal(error):
            return
        if isinstance(error, _NEVER):
            raise self.fail(error, "refuses every call") from error
        with self._state:
            self._failures += 1
            failures = self._failures
        if failures >= self._config.breaker:
            raise self.fail(error, f"failed {failures} times in a row") from error

    def _todo(self) -> str:
        known = self._hint() or "check the endpoint (--api-base), the network and the model name"
        return f"{known}; then run the same command again"
