"""How calls to one endpoint flow: limits on rate, retries that wait as they are told, and an end when it is down.

    flow = Flow(LMConfig(model="openai/gpt-4o-mini", max_rpm=600))
    answer = flow.call(lambda: backend.complete(request), tokens=900)

`max_rpm` and `max_tpm` are kept by spacing: a call starts when those before it have had their share of a minute, so an
endpoint never sees a burst. Refusals for rate (429), faults of the server (5xx), timeouts and dropped connections are tried
again up to `retries` times, after what Retry-After says, or after exponential backoff with full jitter (AWS Architecture Blog,
"Exponential Backoff and Jitter"). A refusal for rate halves the calls that may be under way, every success gives a little
back (additive increase, multiplicative decrease, as in TCP). When `breaker` calls in a row have failed for good the endpoint
counts as down, and at once where it refuses key, bill or model: every later call is refused, and a run stops with all kept.
"""

from __future__ import annotations

import random
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

from syneg.core.config import LMConfig
from syneg.core.errors import BackendError, one_line

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
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._config, self._hint, self._clock, self._sleep = config, hint, clock, sleep
        self._state = threading.Condition()
        self._next = {"calls": 0.0, "tokens": 0.0}  # when the next call may start
        self._width, self._under_way, self._failures = float(config.concurrency), 0, 0
        self._not_before, self._down = 0.0, ""

    @property
    def width(self) -> int:
        """How many calls may be under way now."""
        return max(1, int(self._width))

    def call(self, work: Callable[[], T], *, tokens: int) -> T:
        """What `work` returns, each try counted with `tokens`. Raises what its last try raised, or BackendError where the
        endpoint is down."""
        attempt = 0
        while True:
            try:
                with self._place(tokens):
                    return work()
            except LM15Error as error:
                if attempt >= self._config.retries or not isinstance(error, _AGAIN):
                    self._failed(error)
                    raise
                self._sleep(self._delay(error, attempt))
                attempt += 1

    @contextmanager
    def _place(self, tokens: int) -> Iterator[None]:
        """A place among the calls under way; how it went decides how many there are."""
        self._begin(tokens)
        try:
            yield
        except RateLimitError:
            with self._state:
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

    def _begin(self, tokens: int) -> None:
        """Wait for a place, and for the turn that the rate allows."""
        with self._state:
            while not self._down and self._under_way >= self.width:
                self._state.wait()
            if self._down:
                raise BackendError(self._down, todo=self._todo())
            self._under_way += 1
            now = self._clock()
            shares = {
                name: 60.0 * amount / limit
                for name, amount, limit in (("calls", 1, self._config.max_rpm), ("tokens", tokens, self._config.max_tpm))
                if limit
            }  # fmt: skip
            start = max(now, self._not_before, *(self._next[name] for name in shares))
            for name, share in shares.items():
                self._next[name] = start + share
        if start > now:
            self._sleep(start - now)

    def _delay(self, error: LM15Error, attempt: int) -> float:
        asked = getattr(error, "retry_after", None)
        if asked is None:
            return random.uniform(0, min(_LONGEST, 2.0**attempt))
        if asked > _PATIENCE:
            self._failed(error, f"asks to be left alone for {asked / 60:.0f} minutes")
        with self._state:  # the endpoint means all calls
            self._not_before = max(self._not_before, self._clock() + asked)
        return float(asked)

    def _failed(self, error: LM15Error, why: str = "") -> None:
        """Count a call that failed for good; raise where the endpoint counts as down from now on."""
        with self._state:
            self._failures += 1
            if isinstance(error, _NEVER):
                why = "refuses every call"
            elif not why and self._failures >= self._config.breaker:
                why = f"failed {self._failures} times in a row"
            if not why:
                return
            self._down = f"the LM {self._config.model!r} {why}, last: {one_line(error)}"
            self._state.notify_all()
        raise BackendError(self._down, todo=self._todo()) from error

    def _todo(self) -> str:
        known = self._hint() or "check the endpoint (--api-base), the network and the model name"
        return f"{known}; then run the same command again"
