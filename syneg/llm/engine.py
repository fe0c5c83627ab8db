"""A DSPy engine that answers each request from the ledger or else by a call. It alone decides what is sent, kept,
priced and replayed.

    engine = LedgerEngine(config, ledger, Calling(client, None, None, True, Terms()))
    engine.complete(Request(…)) → Response(…)      the row is in the ledger before this returns or raises
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dspy.lm15 import InvalidRequestError, LM15Error, Request, Response, response_from_openai_chat

from syneg.core.config import LMConfig
from syneg.core.errors import BackendError, BudgetError, DeferredError, RefusedError, SynegError, one_line
from syneg.core.fetch import asset_named
from syneg.core.records import Call, fingerprint
from syneg.core.storage import sha256_of

from .addresses import connected, identity_of
from .answers import CUT, NoAnswerError, answer_of
from .batch_files import Pending
from .budget import Budget
from .calls import current_purpose, end_of_run, go_on
from .capabilities import capabilities_of, key_hint
from .endpoints import Client
from .flow import Flow
from .ledger import Ledger
from .prices import batch_dollars, has_price
from .recorded import Recorded
from .requests import PlainRequest, plain_request, prompt_text
from .room import WIDER, WIDER_FOR_THINKING, WIDEST, most_output, room_for
from .rows import AnswerRow, CallRow, RequestRow, unanswered
from .tries import Most, Tries
from .usage import usage_of


@dataclass(frozen=True)
class Terms:
    """How a run uses one LM.

    - `section`: its section in the settings, for messages.
    - `words`: about the length of the texts that it writes; sets the token limit.
    - `repeats`: asking the same request again makes a new call, instead of an answer from the ledger.
    - `whole`: a text that was cut is no answer.
    - `pending`: if given, calls are deferred to this batch file.
    - `budget`: limits of all its calls.
    - `recorded`: if given, all answers come from this ledger, and no call is made.
    - `say`: gets a line for each thing that the endpoint refuses.
    - `before`: called before each call that the ledger does not answer.
    - `use`: the purpose of its calls in the ledger; "" takes `Ledger.use`.
    """

    section: str = "lm"
    words: int = 200
    repeats: bool = False
    whole: bool = False
    pending: Pending | None = None
    budget: Budget | None = None
    recorded: Recorded | None = None
    say: Callable[[str], None] = lambda line: None
    before: Callable[[], None] = lambda: None
    use: str = ""


@dataclass(frozen=True)
class Calling:
    """The parts that make the calls of one LM: its client, its flow (None makes a new one) and its terms.

    `gguf` is the file of an embedded LM. `owned` says whether closing the LM closes the client.
    """

    client: Client
    flow: Flow | None
    gguf: Path | None
    owned: bool
    terms: Terms


class LedgerEngine:
    """A DSPy engine: `complete` answers one request, from the ledger or by a call."""

    def __init__(self, config: LMConfig, ledger: Ledger, call: Calling) -> None:
        self.config, self.ledger, self._call_by = config, ledger, call
        self.endpoint, self.flow = call.client, call.flow or Flow(config, self._key_hint)
        self._tries = Tries(self.flow, ledger, self._call, config.model)
        self.budgets = self._tries.budgets  # of every call
        self.budgets += [call.terms.budget] if call.terms.budget else []
        # Some optimizers swallow errors. Their callers read here which errors end the run, and how many calls failed.
        self.ended: list[Exception] = []
        self.answers, self.failures, self.last_failure = 0, 0, ""
        self._asked = Counter[str]()
        self._calls_allowed = True
        self._lock = threading.Lock()
        where = connected(config, call.terms.section)
        self.supports_response_schema, self.supported_params = capabilities_of(where)
        self.identity: str = identity_of(where, _sha_of(config.model, call.gguf)[:16] if call.gguf else "")

    def complete(self, request: Request) -> Response:
        """Answer a request. The row is in the ledger before this returns or raises.

        A cut answer is asked for once more with a higher token limit. Raises NoAnswerError for an answer without a
        usable text, RefusedError for a refused prompt, LM15Error for a failed call, and errors that end the run.
        """
        row = self._answered(request)
        if row["finish_reason"] == CUT:
            wider = self._wider(request, bool(row.get("thinking")))
            with contextlib.suppress(InvalidRequestError):  # the higher limit may exceed the endpoint's
                row = self._answered(wider, optional=True) if wider else row
        if row["error"] is not None:
            self.failures, self.last_failure = self.failures + 1, row["error"]
            if row.get("refused"):
                raise RefusedError(f"the endpoint refuses this prompt: {row['error']}")
            raise NoAnswerError(row["error"])
        self.answers += 1
        message = {"role": "assistant", "content": row["answer"]}
        return response_from_openai_chat(
            {
                "model": self.config.model,
                "choices": [{"message": message, "finish_reason": row["finish_reason"]}],
                "usage": {"prompt_tokens": row["input_tokens"], "completion_tokens": row["output_tokens"]},
            },
            model=self.config.model,
        )

    def _answered(self, request: Request, *, optional: bool = False) -> CallRow:
        """The ledger row of a request, made by a call now if it does not exist. A refused `optional` request raises
        InvalidRequestError and does not count against the endpoint."""
        purpose = current_purpose()
        asked = plain_request(request)
        repetition = self._repetition(asked)
        key = fingerprint(self.identity, asked, purpose.attempt, *repetition)
        known: RequestRow = {
            "key": key, "query_id": purpose.query_id, "attempt": purpose.attempt, "model": self.identity,
            "prompt": fingerprint(asked),
        }  # fmt: skip
        if repetition:
            known["repeat"] = repetition[0]
        terms = self._call_by.terms
        if use := terms.use or self.ledger.use:
            known["use"] = use

        def made() -> CallRow:
            if terms.recorded is not None:
                return self._recorded(terms.recorded, known)
            if not self._calls_allowed:
                raise BudgetError("only the ledger answers now")
            most = Most(json.dumps(asked, ensure_ascii=False, default=str), self._room(request))
            if terms.pending is not None:
                self._put_off(terms.pending, known, request, most)
                raise DeferredError(f"call {key} waits for a batch")
            go_on()
            try:
                return self._tries.row(known, request, most, optional=optional)
            except BudgetError as error:
                self._note_stop(known, error)
                raise

        if terms.recorded is None and terms.pending is None and self.ledger.find(key) is None:
            terms.before()
        try:
            row, replayed = self.ledger.once(key, made)
        except (SynegError, OSError) as error:
            if end_of_run(error):
                purpose.ended.append(error)
                if self._calls_allowed:
                    self.ended.append(error)
            raise
        except LM15Error as error:
            self.failures, self.last_failure = self.failures + 1, one_line(error)
            raise
        if replayed and terms.recorded is None and row.get("use", "") == use:
            self._tries.count(row, terms.budget)
        self._attribute(row, replayed=replayed or terms.recorded is not None)
        return row

    def _put_off(self, pending: Pending, known: RequestRow, request: Request, most: Most) -> None:
        """Defer a request. Raises BudgetError if its highest use does not fit into a budget."""
        if known["key"] in pending:
            return
        usd = batch_dollars(self.config.model, most.input_tokens, most.output_tokens)
        with contextlib.ExitStack() as stack:
            for budget in self._tries.budgets:
                stack.enter_context(budget.spend(tokens=most.tokens, usd=usd or 0.0))
        pending.add(known, self.config.model, request, usd)

    def _attribute(self, row: CallRow, *, replayed: bool) -> None:
        """Add the call to its purpose."""
        call = Call(
            row["key"], row["model"], row["prompt"], row["finish_reason"], row["input_tokens"], row["output_tokens"],
            row["usd"], row["seconds"], replayed,
        )  # fmt: skip
        current_purpose().calls.append(call)

    def _note_stop(self, known: RequestRow, error: BudgetError) -> None:
        """Keep that a budget of a part of the run (`within`) stopped a call. The command's own is granted anew."""
        for budget in self._tries.budgets:
            if budget is error.budget and budget is not self._call_by.terms.budget:
                self.ledger.keep({**unanswered(known, "stopped", budget.spent), "stopped": True})

    def _recorded(self, recorded: Recorded, known: RequestRow) -> CallRow:
        """Copy the row that another run has for this request. Raises BackendError if it has none, and BudgetError if a
        budget stopped the call there."""
        budget = self._tries.budgets[-1] if self._tries.budgets else None
        if budget is not None and (stop := recorded.stop(known)):
            budget.end(stop["error"] or "")
        row = recorded.find(known)
        if row is None and budget is not None and budget.spent:
            budget.end(budget.spent)
        if row is None:
            raise BackendError(
                f"the ledger has no answer to this prompt: {known.get('use') or 'call'} of {self.config.model!r} for "
                f"query {known['query_id']!r}, attempt {known['attempt'] + 1}, prompt {known['prompt'][:12]}",
                where=str(recorded.path),
                todo="give the settings, the data and the version of the run that made it, or leave out --replay",
            )
        row = {**row, **known}
        self.ledger.keep(row)
        return row

    def _room(self, request: Request) -> int:
        return int(request.config.max_tokens or room_for(self.config, self._call_by.terms.words))

    def _wider(self, request: Request, thought: bool) -> Request | None:
        """The request with a higher token limit; None if the model cannot write more."""
        room = self._room(request)
        most = most_output(self.config.model)
        wider = min(room * (WIDER_FOR_THINKING if thought else WIDER), most or WIDEST)
        return replace(request, config=replace(request.config, max_tokens=wider)) if wider > room else None

    def _repetition(self, asked: PlainRequest) -> list[int]:
        """[n] for the n-th time of a request (n > 1) to an LM that `repeats`; [] otherwise."""
        if not self._call_by.terms.repeats:
            return []
        with self._lock:
            self._asked[fingerprint(asked)] += 1
            count = self._asked[fingerprint(asked)]
        return [count] if count > 1 else []

    @property
    def price_known(self) -> bool:
        """Whether the dollars of a call are known: an embedded LM, a replay, or a model in litellm's price table."""
        return (
            self._call_by.gguf is not None or self._call_by.terms.recorded is not None or has_price(self.config.model)
        )

    @contextlib.contextmanager
    def within(self, budget: Budget) -> Iterator[None]:
        """Limit every call by `budget` as well, while this is open."""
        self._tries.budgets.append(budget)
        try:
            yield
        finally:
            self._tries.budgets.remove(budget)

    @contextlib.contextmanager
    def uncalled(self) -> Iterator[None]:
        """Answer from the ledger only, while this is open; any other request raises BudgetError."""
        self._calls_allowed = False
        try:
            yield
        finally:
            self._calls_allowed = True

    def _key_hint(self) -> str:
        if self._call_by.gguf is not None:
            return "see the log of the embedded LM in the run folder (llm.log); is there enough memory?"
        return key_hint(self.config.model)

    def _call(self, request: Request) -> AnswerRow:
        response = self.endpoint.complete(request)
        answer = answer_of(response)
        terms = self._call_by.terms
        fault = answer.fault(terms.section, self._room(request), whole=terms.whole)
        usage = usage_of(response, prompt_text(request), f"{answer.thinking} {answer.text}", self.config.model)
        row: AnswerRow = {
            "error": fault or None, "answer": answer.text, "finish_reason": answer.finish_reason,
            "input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens, "counted": usage.counted,
        }  # fmt: skip
        if answer.thinking:
            row["thinking"] = answer.thinking
        return row

    def close(self) -> None:
        if self._call_by.owned:
            self.endpoint.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> LedgerEngine:
        return self  # DSPy copies LMs, and copies must share the ledger and the server


def _sha_of(model: str, gguf: Path) -> str:
    return sha256_of(gguf) if model.endswith(".gguf") else next(iter(asset_named(model).files.values())).sha256
