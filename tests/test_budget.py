from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeLM, Fault, write_negative
from dspy.lm15 import ServerError, TransportError
from dspy.utils.exceptions import DSPyError

from syneg.core.config import LMConfig
from syneg.core.errors import BudgetError
from syneg.core.progress import Progress
from syneg.core.settings import load_config
from syneg.core.storage import read_rows
from syneg.core.threads import in_order
from syneg.llm import deadline
from syneg.llm.budget import Budget
from syneg.llm.calls import purpose
from syneg.llm.engine import Terms
from syneg.llm.ledger import Ledger
from syneg.llm.lms import LanguageModel
from syneg.llm.prices import price
from syneg.llm.tries import count_failed
from syneg.llm.usage import count_tokens
from syneg.run.pipeline import Run

SCRIPTS = {
    "English": "why does bread taste sour",
    "Chinese": "为什么面包尝起来是酸的",
    "Japanese": "なぜパンは酸っぱい味がするのですか",
    "Thai": "ทำไมขนมปังถึงมีรสเปรี้ยว",
    "Burmese": "ပေါင်မုန့်က ဘာကြောင့် ချဉ်တာလဲ",
    "emoji": "🥖👩‍🍳🏳️‍🌈",
}


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., LanguageModel]]:
    """An LM with its ledger in calls.jsonl, under a budget."""
    ledger = Ledger(tmp_path / "calls.jsonl")

    def build(server: FakeLM, budget: Budget, model: str = "openai/gpt-4o-mini", **more: Any) -> LanguageModel:
        config = LMConfig(model=model, api_base=server.url, retries=0, **more)
        return LanguageModel.open(config, ledger, terms=Terms(budget=budget))

    yield build
    ledger.close()


def ask_all(lm: LanguageModel, texts: list[str]) -> int:
    """Calls until the budget is spent; returns how many were answered."""

    def ask(place: int) -> None:
        with purpose(f"q{place}"):
            lm.lm(texts[place])

    answered = 0

    def tick(done: int, total: int) -> None:
        nonlocal answered
        answered = done

    with pytest.raises(Exception, match="budget is spent"):
        in_order(ask, range(len(texts)), lm.engine.config.concurrency, tick)
    return answered


def plain(text: str, usage: dict[str, int] | None = None) -> Fault:
    """An answer as a server of one's own gives it, without usage or with another one."""
    import json

    body: dict[str, Any] = {
        "id": "1", "object": "chat.completion", "created": 1, "model": "fake",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
    }  # fmt: skip
    return Fault(body=json.dumps(body | ({"usage": usage} if usage else {})).encode())


@pytest.mark.parametrize("model", ["openai/gpt-4o-mini", "openai/fake"])
def test_tokens_that_are_not_reported_are_counted(
    model: str, fake_lm: Callable[..., FakeLM], opened: Callable[..., LanguageModel], tmp_path: Path
) -> None:
    server = fake_lm(lambda messages: plain("the answer has six words here"))
    lm = opened(server, Budget(tokens=3000), model)
    assert 0 < ask_all(lm, [f"{place} {'what is this about ' * 20}" for place in range(60)]) < 30
    rows = list(read_rows(tmp_path / "calls.jsonl"))
    assert all(row["counted"] for row in rows)
    assert rows[0]["output_tokens"] == count_tokens("the answer has six words here", model) == 6
    assert 70 < rows[0]["input_tokens"] < 120
    assert (rows[0]["usd"] is None) == (model == "openai/fake")


def test_a_zero_beside_a_text_is_counted_and_a_report_is_taken(
    fake_lm: Callable[..., FakeLM], opened: Callable[..., LanguageModel], tmp_path: Path
) -> None:
    answers = [plain("well said", {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}),
               plain("well said", {"prompt_tokens": 31, "completion_tokens": 7, "total_tokens": 38})]  # fmt: skip
    lm = opened(fake_lm(lambda messages: answers.pop(0)), Budget())
    lm.lm("one two three"), lm.lm("four five six")
    zero, reported = read_rows(tmp_path / "calls.jsonl")
    assert zero["counted"] and zero["input_tokens"] > 2 and zero["output_tokens"] == 2
    assert (reported["counted"], reported["input_tokens"], reported["output_tokens"]) == (False, 31, 7)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_limit_of_tokens_is_kept_in_every_script(
    script: str, fake_lm: Callable[..., FakeLM], opened: Callable[..., LanguageModel], tmp_path: Path
) -> None:
    def answer(messages: list[dict[str, Any]]) -> Fault:
        """Charges what the dearest tokenizer would: a token for each byte."""
        read = sum(len(message["content"].encode()) for message in messages) + 20
        return plain("yes", {"prompt_tokens": read, "completion_tokens": 320, "total_tokens": read + 320})

    budget = Budget(tokens=12_000)
    lm = opened(fake_lm(answer), budget, max_tokens=320)
    assert ask_all(lm, [f"{place} {SCRIPTS[script] * 10}" for place in range(60)]) > 2
    assert 6_000 < budget.used["tokens"] <= 12_000


def test_reservations_are_waited_for_and_only_use_spends(
    fake_lm: Callable[..., FakeLM], opened: Callable[..., LanguageModel], tmp_path: Path
) -> None:
    budget = Budget(usd=0.02)
    lm = opened(fake_lm(), budget, "openai/gpt-4o", concurrency=8, max_tokens=600)
    most = price("openai/gpt-4o", 300, 600) or 0.0
    each = price("openai/gpt-4o", 100, 20) or 0.0
    assert 8 * most > 0.02 > 2 * most > 0  # eight side by side never fit by what they may use
    ask_all(lm, [f"question {place}" for place in range(100)])
    assert budget.used["usd"] == pytest.approx(each * len(list(read_rows(tmp_path / "calls.jsonl"))))
    assert 0.02 - most - each < budget.used["usd"] <= 0.02


def test_a_call_waits_for_what_others_have_reserved() -> None:
    budget, steps = Budget(tokens=1000), list[str]()

    def second() -> None:
        with budget.spend(tokens=900) as settle:
            steps.append("second begins")
            settle(900, 0.0)

    with budget.spend(tokens=600) as settle:
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.1)
        steps.append("first ends")
        settle(50, 0.0)
    thread.join(60)
    assert steps == ["first ends", "second begins"]
    assert budget.used["tokens"] == 950
    with pytest.raises(BudgetError, match="tokens: 950 of 1000") as spent, budget.spend(tokens=51):
        pass
    assert spent.value.budget is budget


def test_minutes_are_counted_while_a_call_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = Budget(calls=1, minutes=0.15 / 60)
    with budget.spend(tokens=1):
        start = time.monotonic()
        with pytest.raises(BudgetError, match="minutes"), budget.spend(tokens=1):
            pass
        assert time.monotonic() - start < 20  # a busy machine is slow


def test_minutes_of_an_earlier_process_count_and_pauses_do_not(
    fake_lm: Callable[..., FakeLM], opened: Callable[..., LanguageModel], tmp_path: Path
) -> None:
    first, again, other = (Budget(minutes=10, name=name) for name in ("compile a", "compile a", "compile b"))
    lm = opened(fake_lm(), Budget())
    first.count("before", 0, 0.0, minutes=7.5)  # it has worked for so long
    with lm.engine.within(first):
        lm.lm("question 0")
    (row,) = read_rows(tmp_path / "calls.jsonl")
    assert (row["within"], row["minutes"]) == ("compile a", pytest.approx(7.5, abs=0.1))
    for budget, worked in ((again, 7.5), (other, 0.0)):
        assert budget.minutes == pytest.approx(0, abs=0.1)
        with lm.engine.within(budget):
            lm.lm("question 0")
        assert budget.minutes == pytest.approx(worked, abs=0.1)
        assert budget.used["calls"] == 1


def test_what_fails_without_an_answer_keeps_its_reservation_and_a_refusal_costs_a_call() -> None:
    budget = Budget(tokens=10_000, usd=1.0)
    with pytest.raises(TransportError), budget.spend(tokens=900, usd=0.1):
        raise TransportError("gone")
    assert budget.used == {"calls": 1, "tokens": 900, "usd": 0.1}
    with pytest.raises(ServerError), budget.spend(tokens=900, usd=0.1):
        raise ServerError("busy", status=503)
    assert budget.used == {"calls": 2, "tokens": 900, "usd": 0.1}
    assert not any(budget.reserved.values())


def test_a_refused_prompt_of_an_earlier_process_counts_once(
    fake_lm: Callable[..., FakeLM], opened: Callable[..., LanguageModel]
) -> None:
    lm = opened(fake_lm(lambda messages: (400, "no") if "bad" in str(messages) else (200, "yes")), Budget())
    for _ in range(2):
        budget = Budget(calls=99, name="compile a")
        count_failed(budget, lm.engine.ledger)
        with lm.engine.within(budget):
            lm.lm("good")
            with pytest.raises(DSPyError):
                lm.lm("bad")
        assert budget.used["calls"] == 2


GONE = "http://127.0.0.1:9/v1"


@pytest.mark.parametrize("engine", ["litellm", "native"])
@pytest.mark.parametrize(
    ("fault", "billed"),
    [(Fault(wait=2), True), (Fault(drip=0.25), True), (Fault(drop=True), True), (Fault(headers={"content-length": "4000"}), True), (Fault(503), False),
     (None, False)], ids=["stalls", "drips", "drops", "half a body", "busy", "not there"],
)  # fmt: skip
def test_a_call_that_breaks_off_may_be_billed(
    fault: Fault | None, billed: bool, engine: str, fake_lm: Callable[..., FakeLM], opened: Callable[..., LanguageModel],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(deadline, "GRACE_S", 1.0)
    server = fake_lm(lambda messages: fault)
    if fault is None:
        server.url = GONE
    budget = Budget(tokens=100_000)
    lm = opened(server, budget, engine=engine, timeout_s=1)
    began = time.monotonic()
    with pytest.raises(DSPyError):
        lm.lm("what is it?")
    assert time.monotonic() - began < 8 or not (fault and fault.drip)  # it drips for 9.5 s
    assert budget.used["calls"] == 1 and (budget.used["tokens"] > 100) == billed
    assert bool(budget.used["tokens"]) == billed


def test_dollars_are_reserved_and_settled(
    fake_lm: Callable[..., FakeLM], settings: Callable[..., list[str]], tmp_path: Path
) -> None:
    """Dollars that a run may spend end it with code 3, and it has spent most of them."""
    more = {"lm.model": "openai/gpt-4o", "budget.usd": 0.02, "lm.concurrency": 8}
    run = Run(tmp_path / "run", load_config(None, settings(fake_lm().url, **more)), Progress(quiet=True))
    with pytest.raises(BudgetError, match="usd: .* of 0.02") as spent:
        run.until("generate")
    assert spent.value.exit_code == 3
    dollars = sum(row["usd"] for row in read_rows(tmp_path / "run" / "ledger" / "calls.jsonl"))
    assert 0.008 < dollars <= 0.02


def test_the_same_request_at_once_is_one_call(
    fake_lm: Callable[..., FakeLM], opened: Callable[..., LanguageModel], tmp_path: Path
) -> None:
    def slow(messages: list[dict[str, Any]]) -> tuple[int, str]:
        time.sleep(0.2)
        return 200, f"answer {len(server.requests)}"

    server = fake_lm(slow)
    lm = opened(server, Budget())
    lm.lm("what is it?")

    def ask(place: int) -> str:
        return str(lm.lm("what else is it?")[0])

    assert len({*in_order(ask, range(4), 4)}) == 1
    assert len(server.requests) == 2
    assert len({row["key"] for row in read_rows(tmp_path / "calls.jsonl")}) == 2


def test_answers_under_way_are_kept_when_an_error_ends_a_run(
    fake_lm: Callable[..., FakeLM], opened: Callable[..., LanguageModel], tmp_path: Path
) -> None:
    def answer(messages: list[dict[str, Any]]) -> tuple[int, str] | Fault:
        if "question 0" in str(messages):
            time.sleep(0.1)
            return Fault(401)
        time.sleep(0.8)
        return write_negative(messages)

    server = fake_lm(answer)
    lm = opened(server, Budget(), concurrency=4)

    def ask(place: int) -> object:
        return lm.lm(f"question {place}")

    with pytest.raises(Exception, match="refuses every call"):
        in_order(ask, range(40), 4)
    rows = [row for row in read_rows(tmp_path / "calls.jsonl") if row["error"] is None]
    assert len(rows) == len(server.requests) - 1  # all that was begun is kept
    assert len(server.requests) < 20  # and nothing is begun after the error
