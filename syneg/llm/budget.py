"""Hard limits on what LM calls may use: calls, tokens, dollars, minutes; asked before each call, so that none is overshot.

    budget = Budget(calls=400, minutes=30)
    with budget.spend(tokens=900) as spent: …; spent(input_tokens + output_tokens, usd)
    budget.spent → "" or "calls: 400 of 400"

What a call may use at most is reserved before it and settled after it, so calls that run side by side cannot pass a
limit together; one that breaks off without an answer counts with what was reserved, as it may be billed. Minutes are those of the clock since the budget was made. A limit of 0 is none. A call whose price is not
known counts no dollars; a limit in dollars refuses such a model (`price_known`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dspy.lm15 import LM15Error

from syneg.core.errors import BudgetError


class Budget:
    """Safe for threads."""

    def __init__(self, *, calls: float = 0, tokens: float = 0, usd: float = 0.0, minutes: float = 0.0) -> None:
        self.limits = {"calls": float(calls), "tokens": float(tokens), "usd": usd, "minutes": minutes}
        self.used = {"calls": 0.0, "tokens": 0.0, "usd": 0.0}
        self._start = time.monotonic()
        self._lock = threading.Lock()
        self.spent = ""

    def scale(self, factor: float) -> None:
        """Multiply the limits, so that a part can be kept back for what comes later; what was spent may be there again."""
        with self._lock:
            self.limits = {name: limit * factor for name, limit in self.limits.items()}
            self.spent = ""

    @contextmanager
    def spend(self, *, tokens: int, usd: float = 0.0) -> Iterator[Callable[[int, float], None]]:
        """Reserve one call with at most so many tokens and dollars; call what is given with what it was.

        Raises BudgetError when that would pass a limit; every later call is then refused too.
        """
        asked = {"calls": 1.0, "tokens": float(tokens), "usd": usd}
        with self._lock:
            self._check(asked)
            self._add(asked, 1)
        took = dict(asked)

        def settle(real_tokens: int, real_usd: float) -> None:
            took.update(tokens=float(real_tokens), usd=real_usd)

        try:
            yield settle
        except BudgetError:  # of another limit: nothing was called
            took = dict.fromkeys(asked, 0.0)
            raise
        except LM15Error as error:
            if getattr(error, "status", None):  # the endpoint refused: a call, but no tokens
                settle(0, 0.0)
            raise
        finally:
            with self._lock:
                self._add(asked, -1)
                self._add(took, 1)

    def _add(self, amounts: dict[str, float], sign: int) -> None:
        for name, amount in amounts.items():
            self.used[name] += sign * amount

    def _check(self, asked: dict[str, float]) -> None:
        used = {**self.used, "minutes": (time.monotonic() - self._start) / 60}
        for name, limit in self.limits.items():
            if not self.spent and limit and used[name] + asked.get(name, 0.0) > limit:
                self.spent = f"{name}: {used[name]:.4g} of {limit:g}"
        if self.spent:
            raise BudgetError(f"the budget is spent ({self.spent})", todo="run the same command again to go on")
