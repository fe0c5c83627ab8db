"""Make paid calls: each within the budgets, paced by the flow, and in the ledger even if it fails.

    tries = Tries(flow, ledger, ask, "openai/gpt-4o-mini")
    tries.row(known, request, Most(prompt, output_tokens=320))
      → {"key": "5f0c…", "answer": "…", "input_tokens": 412, "output_tokens": 88, "usd": .0001, …}

A prompt that is refused for its text gives a row with `"refused": True`, and the endpoint's message as its error.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from dspy.lm15 import LM15Error, Request

from syneg.core.errors import SynegError, one_line
from syneg.core.failing import on_failure

from .budget import Budget, is_unbilled
from .flow import Flow
from .ledger import Ledger
from .open_calls import open_call
from .prices import dollars
from .refusals import Refusals, is_refusal
from .rows import AnswerRow, CallRow, RequestRow, answered, unanswered
from .usage import most_tokens


@dataclass(frozen=True, slots=True)
class Most:
    """The most that a call may use: the text of its prompt, and its token limit."""

    prompt: str
    output_tokens: int

    @property
    def input_tokens(self) -> int:
        return most_tokens(self.prompt)

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


class Tries:
    """Makes the calls of one LM. `ask` sends a request; it returns the fields of the row that the answer decides."""

    def __init__(self, flow: Flow, ledger: Ledger, ask: Callable[[Request], AnswerRow], model: str) -> None:
        self.budgets: list[Budget] = []
        self._flow, self._ledger, self._ask, self._model = flow, ledger, ask, model
        self._refusals = Refusals()

    def row(self, known: RequestRow, request: Request, most: Most, *, optional: bool = False) -> CallRow:
        """Make a call and return its ledger row. `known` has the fields of the row that are known before the call.

        Raises LM15Error after the last try, BudgetError, or BackendError if the endpoint is down or refuses every
        request of this form. A refused `optional` request raises the refusal and does not count against the endpoint.
        """
        try:
            row = self._flow.call(lambda: self._kept(known, request, most), most_tokens=most.tokens, used=_tokens)
        except LM15Error as error:
            if optional or not is_refusal(error):
                raise
            return self._refused(known, request, error, most)
        self._refusals.works(request)
        for budget in self.budgets:
            budget.counted(row["key"])
        return row

    def count(self, row: CallRow, own: Budget | None) -> None:
        """Count a row that an earlier process made for the same work. `own`, the command's budget, is granted anew.

        The call that was refused has a row of its own, which `count_failed` counts.
        """
        for budget in self.budgets:
            if budget is not own and not row.get("refused"):
                minutes = row.get("minutes", 0.0) if row.get("within") == budget.name else 0.0
                budget.count(row["key"], _tokens(row), row["usd"] or 0.0, minutes)

    def _refused(self, known: RequestRow, request: Request, error: LM15Error, most: Most) -> CallRow:
        def ask(harmless: Request) -> None:
            test: RequestRow = {**known, "key": f"{known['key']}-form", "query_id": "form of requests"}
            self._flow.call(lambda: self._kept(test, harmless, most), most_tokens=most.tokens)

        if not self._refusals.of_text(request, error, ask):
            raise self._flow.fail(error, "refuses every request") from error
        row = unanswered(known, "refused", one_line(error))
        row["refused"] = True
        self._ledger.keep(row)
        return row

    def _kept(self, known: RequestRow, request: Request, most: Most) -> CallRow:
        """Try once. The row is in the ledger before this returns or raises."""
        with contextlib.nullcontext() if self._model.startswith("local/") else open_call():
            return self._made(known, request, most)

    def _made(self, known: RequestRow, request: Request, most: Most) -> CallRow:
        start = time.monotonic()

        def failed(error: BaseException) -> None:
            if isinstance(error, SynegError) or not isinstance(error, Exception):
                return  # no call was made, or the process ends
            row = unanswered(known, "error", one_line(error), usd=None, seconds=round(time.monotonic() - start, 3))
            if not is_unbilled(error):
                row["reserved"] = [most.tokens, self._most_dollars(most)]
            self._keep(row)

        with on_failure(failed):
            answer, usd = self._within_budget(request, most)
        row = answered(known, answer, usd=usd, seconds=round(time.monotonic() - start, 3))
        self._keep(row)
        return row

    def _keep(self, row: CallRow) -> None:
        for budget in self.budgets:
            if budget.name:
                row["within"], row["minutes"] = budget.name, round(budget.minutes, 3)
        self._ledger.keep(row)

    def _most_dollars(self, most: Most) -> float:
        return dollars(self._model, most.input_tokens, most.output_tokens) or 0.0

    def _within_budget(self, request: Request, most: Most) -> tuple[AnswerRow, float | None]:
        """Send a request within all budgets. Returns the answer and its dollars (None if the price is unknown)."""
        limited = any(budget.limits["usd"] for budget in self.budgets)
        limit = self._most_dollars(most) if limited else 0.0
        with contextlib.ExitStack() as stack:
            settles = [stack.enter_context(budget.spend(tokens=most.tokens, usd=limit)) for budget in self.budgets]
            answer = self._ask(request)
            usd = dollars(self._model, answer["input_tokens"], answer["output_tokens"])
            for settle in settles:
                settle(answer["input_tokens"] + answer["output_tokens"], usd or 0.0)
        return answer, usd


def count_failed(budget: Budget, ledger: Ledger) -> None:
    """Count the calls without an answer that earlier processes made within a budget of this name."""
    for place, row in ledger.failed(budget.name):
        tokens, usd = row.get("reserved", [_tokens(row), row["usd"] or 0.0])
        budget.count(f"failed {place}", int(tokens), usd, row.get("minutes", 0.0))


def _tokens(row: CallRow) -> int:
    return row["input_tokens"] + row["output_tokens"]
