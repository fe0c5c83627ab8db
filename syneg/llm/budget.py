"""Hard limits on LM calls: number, tokens, dollars, minutes. They are checked before each call, so none is exceeded.

    budget = Budget(calls=400, minutes=30)
    with budget.spend(tokens=900) as settle: …; settle(input_tokens + output_tokens, usd)
    budget.spent → "" or "calls: 400 of 400"

- A call first reserves the most that it may use. Afterwards it returns the part that it did not use.
- A call that fits beside finished calls, but not beside open reservations, waits for these.
- A call that does not fit beside finished calls exhausts the budget.
- A call that times out or breaks off counts with its whole reservation, because it may be billed. A call that the
  endpoint refused, or did not get, counts as one call without tokens.
- A compilation that was interrupted counts the calls of its earlier processes: those that failed when it begins again,
  and others, each once, when the ledger answers them.
- Minutes are wall-clock time since the budget was made. If an earlier process worked under the same name, they go on
  from those of the last call that the ledger answers; the pause between does not count.
- A limit of 0 means no limit.
- A call with an unknown price counts no dollars. A run with a limit in dollars therefore refuses models without a price
  (`LedgerEngine.price_known`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from dspy.lm15 import LM15Error

from syneg.core.errors import BudgetError

from .replies import causes_of

_COUNTED = ("calls", "tokens", "usd")


def is_unbilled(error: BaseException) -> bool:
    """Whether a call that failed used no tokens: it was not sent, or the endpoint told of its failure.

    A call that timed out or broke off may be billed, though litellm gives it a status of its own (408, 500).
    """
    import httpx

    causes = causes_of(error)
    if any(isinstance(cause, (httpx.ConnectError, httpx.ConnectTimeout, ConnectionRefusedError)) for cause in causes):
        return True
    broken_off = any(isinstance(cause, httpx.TransportError) for cause in causes)
    return bool(getattr(error, "status", None)) and not broken_off


class Budget:
    """Limits and counts; safe for threads. `used` counts finished calls, `reserved` the most that open calls may use.

    `spent` is "", or names the limit that was reached. `name` stands in the ledger beside the minutes; "" keeps none.
    """

    def __init__(
        self, *, calls: float = 0, tokens: float = 0, usd: float = 0.0, minutes: float = 0.0, name: str = ""
    ) -> None:
        self.name = name
        self.limits = {"calls": float(calls), "tokens": float(tokens), "usd": usd, "minutes": minutes}
        self.used = dict.fromkeys(_COUNTED, 0.0)
        self.reserved = dict.fromkeys(_COUNTED, 0.0)
        self._start = time.monotonic()
        self._counted: set[str] = set()  # keys of calls
        self._changed = threading.Condition()
        self.spent = ""

    def scale(self, factor: float) -> None:
        """Multiply every limit by `factor`, to hold part of the budget back for later. An exhausted budget may have
        room again."""
        with self._changed:
            self.limits = {name: limit * factor for name, limit in self.limits.items()}
            self.spent = ""
            self._changed.notify_all()

    @property
    def minutes(self) -> float:
        """Minutes so far, with those of earlier processes."""
        return (time.monotonic() - self._start) / 60

    def count(self, key: str, tokens: int, usd: float, minutes: float = 0.0) -> None:
        """Count the call `key`, which an earlier process made and paid for, unless it is counted already.

        `minutes` had gone by when that process got the answer.
        """
        with self._changed:
            if key not in self._counted:
                self._counted.add(key)
                self._start = min(self._start, time.monotonic() - 60 * minutes)
                for name, amount in (("calls", 1.0), ("tokens", float(tokens)), ("usd", usd)):
                    self.used[name] += amount

    def counted(self, key: str) -> None:
        """Note that the call `key` was made by this process, and counted by `spend`."""
        with self._changed:
            self._counted.add(key)

    def end(self, spent: str) -> NoReturn:
        """Count the budget as spent, as it was in the run that is replayed. Raises BudgetError."""
        with self._changed:
            self.spent = spent
        raise self._error()

    def _error(self) -> BudgetError:
        return BudgetError(
            f"the budget is spent ({self.spent})", todo="run the same command again to go on", budget=self
        )

    @contextmanager
    def spend(self, *, tokens: int, usd: float = 0.0) -> Iterator[Callable[[int, float], None]]:
        """Reserve one call of at most `tokens` and `usd`. Call the yielded function with the tokens and dollars used.

        Waits while the call fits only without the reservations of other calls. Raises BudgetError if it does not fit
        at all; every later call is then refused, too.
        """
        asked = {"calls": 1.0, "tokens": float(tokens), "usd": usd}
        self._reserve(asked)
        took = dict(asked)

        def settle(real_tokens: int, real_usd: float) -> None:
            took.update(tokens=float(real_tokens), usd=real_usd)

        try:
            yield settle
        except BudgetError:  # another budget refused the call, so it was not made
            took = dict.fromkeys(_COUNTED, 0.0)
            raise
        except LM15Error as error:
            if is_unbilled(error):
                settle(0, 0.0)
            raise
        finally:
            with self._changed:
                for name in _COUNTED:
                    self.reserved[name] -= asked[name]
                    self.used[name] += took[name]
                self._changed.notify_all()

    def _reserve(self, asked: dict[str, float]) -> None:
        with self._changed:
            while True:
                minutes = self.minutes
                used = {**self.used, "minutes": minutes}
                for name, limit in self.limits.items():
                    if not self.spent and limit and used[name] + asked.get(name, 0.0) > limit:
                        self.spent = f"{name}: {used[name]:.4g} of {limit:g}"
                if self.spent:
                    self._changed.notify_all()
                    raise self._error()
                if not any(
                    self.limits[name] and used[name] + self.reserved[name] + asked[name] > self.limits[name]
                    for name in _COUNTED
                ):
                    break
                limit = self.limits["minutes"]
                self._changed.wait(60 * max(0.0, limit - minutes) if limit else None)
            for name in _COUNTED:
                self.reserved[name] += asked[name]
