"""Hard limits on what LM calls may use: calls, tokens, dollars, minutes; asked before each call, so that none is
overshot.

    budget = Budget(calls=400, minutes=30)
    with budget.spend(tokens=900) as settle: …; settle(input_tokens + output_tokens, usd)
    budget.spent → "" or "calls: 400 of 400"

A call reserves the most that it may use, and gives back what it did not use. A call that does not fit beside the
reservations of others waits until these are settled. The budget counts as spent only when the call would not fit
beside what has been used for certain. A call that breaks off without an answer counts with its whole reservation, as it
may be billed; one that the endpoint refused counts as a call without tokens. Minutes are those of the clock since the
budget was made. A limit of 0 is none. A call whose price is not known counts no dollars, so a run with a limit in
dollars refuses models without a price (`LedgerEngine.price_known`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from dspy.lm15 import LM15Error

from syneg.core.errors import BudgetError

_COUNTED = ("calls", "tokens", "usd")


class Budget:
    """Safe for threads. `used` is what settled calls took, `reserved` what calls under way may still take."""

    def __init__(self, *, calls: float = 0, tokens: float = 0, usd: float = 0.0, minutes: float = 0.0) -> None:
        self.limits = {"calls": float(calls), "tokens": float(tokens), "usd": usd, "minutes": minutes}
        self.used = dict.fromkeys(_COUNTED, 0.0)
        self.reserved = dict.fromkeys(_COUNTED, 0.0)
        self._start = time.monotonic()
        self._changed = threading.Condition()
        self.spent = ""

    def scale(self, factor: float) -> None:
        """Multiply the limits, to keep a part back for what comes later. A budget that was spent may have room
        again."""
        with self._changed:
            self.limits = {name: limit * factor for name, limit in self.limits.items()}
            self.spent = ""
            self._changed.notify_all()

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
        """Reserve one call of at most so many tokens and dollars. Call the result with what the call took.

        Waits while only reservations of other calls stand in the way. Raises BudgetError when the call would pass a
        limit; every later call is then refused, too.
        """
        asked = {"calls": 1.0, "tokens": float(tokens), "usd": usd}
        self._reserve(asked)
        took = dict(asked)

        def settle(real_tokens: int, real_usd: float) -> None:
            took.update(tokens=float(real_tokens), usd=real_usd)

        try:
            yield settle
        except BudgetError:  # of another budget: nothing was called
            took = dict.fromkeys(_COUNTED, 0.0)
            raise
        except LM15Error as error:
            if getattr(error, "status", None):  # the endpoint refused: a call, but no tokens
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
                minutes = (time.monotonic() - self._start) / 60
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
