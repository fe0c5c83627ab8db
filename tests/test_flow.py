from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeLM, Fault, write_negative
from dspy.lm15 import AuthError, InvalidRequestError, RateLimitError, ServerError
from dspy.utils.exceptions import LMError

from syneg.core.config import LMConfig
from syneg.core.errors import BackendError, BudgetError, ConfigError, StoppedError
from syneg.core.progress import Progress
from syneg.core.settings import load_config
from syneg.core.storage import read_rows
from syneg.core.threads import in_order
from syneg.llm import deadline
from syneg.llm.budget import Budget
from syneg.llm.calls import purpose
from syneg.llm.engine import Terms
from syneg.llm.flow import Flow
from syneg.llm.ledger import Ledger
from syneg.llm.lms import LanguageModel
from syneg.llm.retry_after import seconds_in
from syneg.run.pipeline import Run


class Clock:
    """Time that passes only by waiting."""

    def __init__(self) -> None:
        self.now, self.waits = 0.0, list[float]()

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def flow(clock: Clock, **settings: Any) -> Flow:
    return Flow(LMConfig(model="openai/fake", **settings), clock=lambda: clock.now, sleep=clock.sleep)


def failing(*errors: Exception) -> Callable[[], str]:
    """Raises these one after another, then answers."""
    left = list(errors)

    def work() -> str:
        if left:
            raise left.pop(0)
        return "well"

    return work


def test_calls_and_tokens_a_minute_are_kept_by_spacing() -> None:
    clock = Clock()
    by_calls = flow(clock, max_rpm=60)
    for _ in range(5):
        by_calls.call(lambda: None, most_tokens=10)
    assert clock.now == pytest.approx(4.0)  # the first at once
    clock = Clock()
    by_tokens = flow(clock, max_rpm=6000, max_tpm=6000)
    for _ in range(3):
        by_tokens.call(lambda: None, most_tokens=1000)
    assert clock.now == pytest.approx(20.0)


def test_a_wait_that_the_endpoint_asks_for_is_kept_and_holds_for_all() -> None:
    clock = Clock()
    one = flow(clock, retries=1)
    assert one.call(failing(RateLimitError("slow down", retry_after=7)), most_tokens=1) == "well"
    assert clock.now == pytest.approx(7.0)
    with pytest.raises(BackendError, match="asks to be left alone for 20 minutes"):
        flow(Clock(), retries=1).call(failing(RateLimitError("no", retry_after=1200)), most_tokens=1)


def test_backoff_grows_with_jitter() -> None:
    longest = [0.0] * 5
    for _ in range(60):
        clock = Clock()
        flow(clock, retries=5).call(failing(*[ServerError("oh")] * 5), most_tokens=1)
        assert all(wait <= 2.0**attempt for attempt, wait in enumerate(clock.waits))
        longest = [max(pair) for pair in zip(longest, clock.waits, strict=True)]
    assert all(wait > 0.5 * 2.0**attempt for attempt, wait in enumerate(longest))


def test_a_refusal_for_rate_halves_what_is_under_way_and_success_brings_it_back() -> None:
    one = flow(Clock(), concurrency=8, retries=1)
    one.call(failing(RateLimitError("oh")), most_tokens=1)
    assert one.width == 4
    for _ in range(40):
        one.call(lambda: None, most_tokens=1)
    assert one.width == 8


def test_a_call_that_is_ended_while_it_waits_gives_its_place_back() -> None:
    clock, waits = Clock(), list[float]()

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 1:
            raise StoppedError("the run is ending")
        clock.sleep(seconds)

    one = Flow(LMConfig(model="openai/fake", concurrency=1, max_rpm=60), clock=lambda: clock.now, sleep=sleep)
    one.call(lambda: None, most_tokens=1)
    with pytest.raises(StoppedError):
        one.call(lambda: None, most_tokens=1)
    second = threading.Thread(target=lambda: one.call(lambda: None, most_tokens=1), daemon=True)
    second.start()
    second.join(60)
    assert not second.is_alive()


def test_a_burst_of_refusals_halves_once() -> None:
    one = Flow(LMConfig(model="openai/fake", concurrency=32, retries=1), sleep=lambda seconds: None)
    together, refused = threading.Barrier(32), threading.local()

    def work() -> None:
        if not hasattr(refused, "once"):
            refused.once = True
            together.wait(60)
            raise RateLimitError("oh")

    threads = [threading.Thread(target=lambda: one.call(work, most_tokens=1)) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert 16 <= one.width <= 20


def test_a_call_gives_back_the_share_of_tokens_that_it_did_not_use() -> None:
    clock = Clock()
    one = flow(clock, max_tpm=6000)
    for _ in range(3):
        one.call(lambda: 100, most_tokens=1000, used=lambda tokens: tokens)
    assert clock.now == pytest.approx(2.0)  # two calls of 100 tokens before the third; 20 s if each kept its 1000


@pytest.mark.parametrize("engine", ["litellm", "native"])
def test_retry_after_spaces_real_requests_in_seconds_and_as_a_date(
    engine: str, fake_lm: Callable[..., FakeLM], tmp_path: Path
) -> None:
    times = list[float]()

    def answer(messages: list[dict[str, Any]]) -> Fault | tuple[int, str]:
        times.append(time.time())
        if len(times) == 2:
            return Fault(429, headers={"retry-after": "0.6"})
        if len(times) == 3:
            return Fault(429, headers={"retry-after": format_datetime(later(), usegmt=True)})
        return 200, "well"

    def later() -> datetime:
        return datetime.fromtimestamp(times[2] + 2, UTC)

    config = LMConfig(model="openai/fake", api_base=fake_lm(answer).url, engine=engine, retries=2)
    ledger = Ledger(tmp_path / "calls.jsonl")
    writer = LanguageModel.open(config, ledger)
    writer.lm("warm up")
    assert writer.lm("hello")[0] == "well"
    ledger.close()
    assert times[2] - times[1] >= 0.6
    assert later().replace(microsecond=0).timestamp() <= times[3] <= later().timestamp() + 20  # a busy machine is slow


def test_a_date_is_read_against_the_clock_of_the_server() -> None:
    headers = {"date": "Thu, 26 Nov 2020 12:00:00 GMT", "retry-after": "Thu, 26 Nov 2020 12:00:20 GMT"}
    assert seconds_in(headers) == 20
    assert seconds_in({**headers, "retry-after-ms": "1500"}) == 1.5
    assert seconds_in({"retry-after": "soon"}) is None
    assert seconds_in({"retry-after": "-3"}) is None


def test_a_wait_holds_for_calls_of_other_threads(fake_lm: Callable[..., FakeLM], tmp_path: Path) -> None:
    times, first = list[float](), [Fault(429, headers={"retry-after": "2"})]

    def answer(messages: list[dict[str, Any]]) -> Fault | tuple[int, str]:
        times.append(time.monotonic())
        return first.pop() if first else (200, "well")

    config = LMConfig(model="openai/fake", api_base=fake_lm(answer).url, retries=2)
    ledger = Ledger(tmp_path / "calls.jsonl")
    writer = LanguageModel.open(config, ledger)
    one = threading.Thread(target=lambda: writer.lm("first"))
    one.start()
    while not times or (not writer.engine.flow._not_before and time.monotonic() < times[0] + 1.5):
        time.sleep(0.01)  # the refusal is on its way
    writer.lm("second")
    one.join(60)
    assert min(times[1:]) - times[0] >= 1.9
    ledger.close()


def test_an_endpoint_that_fails_again_and_again_is_down_for_all() -> None:
    one = flow(Clock(), retries=0, breaker=3)
    for error in (ServerError("oh"), *[InvalidRequestError("too long")] * 9, ServerError("oh")):
        with pytest.raises(type(error)):  # a prompt that is refused says nothing about the endpoint
            one.call(failing(error), most_tokens=1)
    with pytest.raises(BackendError, match="failed 3 times in a row, last: .*oh"):
        one.call(failing(ServerError("oh")), most_tokens=1)
    with pytest.raises(BackendError, match="failed 3 times"):
        one.call(lambda: "never asked", most_tokens=1)
    with pytest.raises(BackendError, match="refuses every call"):
        flow(Clock(), retries=9).call(failing(AuthError("key")), most_tokens=1)


def test_calls_that_wait_for_a_place_learn_that_the_endpoint_is_down() -> None:
    one = Flow(LMConfig(model="openai/fake", concurrency=1, retries=0, breaker=1))
    begun, gate, found = threading.Event(), threading.Event(), list[str]()

    def slow() -> None:
        begun.set()
        gate.wait(60)
        raise ServerError("oh")

    def ask(work: Callable[[], None]) -> None:
        try:
            one.call(work, most_tokens=1)
        except BackendError as error:
            found.append(str(error))

    threads = [threading.Thread(target=ask, args=(work,)) for work in (slow, lambda: None)]
    for thread in threads:
        thread.start()
        begun.wait(60)  # the first call has the place
    time.sleep(0.05)
    gate.set()
    for thread in threads:
        thread.join(60)
    assert len(found) == 2
    assert all("failed 1 times in a row" in text for text in found)


def test_calls_that_fail_at_the_same_time_give_the_reason_of_the_first() -> None:
    one = Flow(LMConfig(model="openai/fake", concurrency=4, retries=0, breaker=1))
    all_open, found = threading.Barrier(4), list[str]()

    def work() -> None:
        all_open.wait(60)
        raise ServerError("oh")

    def ask() -> None:
        with pytest.raises(BackendError) as caught:
            one.call(work, most_tokens=1)
        found.append(str(caught.value))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 4
    assert all("failed 1 times in a row" in text for text in found)


GOOD = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "{}"}, "finish_reason": "stop"}],
    "id": "1", "object": "chat.completion", "created": 1, "model": "fake", "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}  # fmt: skip
FAULTS = {
    "429 with Retry-After": Fault(429, headers={"retry-after": "0.05"}),
    "429": Fault(429),
    "500": Fault(500),
    "503": Fault(503),
    "dropped connection": Fault(drop=True),
    "cut answer": Fault(body=json.dumps(GOOD).encode()[:60]),
    "no JSON": Fault(body=b"<html>busy</html>"),
    "wrong schema": Fault(body=json.dumps({**GOOD, "choices": "none"}).encode()),
    "no choices": Fault(body=json.dumps({**GOOD, "choices": []}).encode()),
    "huge answer": Fault(
        body=json.dumps(
            {
                **GOOD,
                "choices": [
                    {
                        "index": 0,
                        "finish_reason": "stop",
                        "message": {
                            "role": "assistant",
                            "content": json.dumps({"hard_negative": "the socket is merged " * 40_000}),
                        },
                    }
                ],
            }
        ).encode()
    ),
    "slow answer": Fault(503, wait=0.4),
}
DRIPS = {"an answer byte by byte": Fault(body=json.dumps(GOOD).encode(), drip=0.1)}  # fmt: skip


@pytest.mark.parametrize("name", {**FAULTS, **DRIPS})
def test_each_fault_once_does_not_lose_a_pair(
    name: str, fake_lm: Callable[..., FakeLM], settings: Callable[..., list[str]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    left = [{**FAULTS, **DRIPS}[name]]
    server = fake_lm(lambda messages: left.pop() if left else write_negative(messages))
    more = {"lm.timeout_s": 1} if name in DRIPS else {}
    monkeypatch.setattr(deadline, "GRACE_S", 1.0)
    run = opened(server, settings, tmp_path, **{"generate.pairs": 6, "lm.retries": 3, **more})
    found = run.until("generate")
    rows = list(read_rows(tmp_path / "run" / "negatives.jsonl"))
    assert len({row["query_id"] for row in rows}) == 6
    assert found["accepted"] == 6
    assert all(row["accepted"] or row["reason"] for row in rows)
    calls = read_rows(tmp_path / "run" / "ledger" / "calls.jsonl")
    assert any("no whole answer after 2 s" in (row["error"] or "") for row in calls) == (name in DRIPS)


def opened(server: FakeLM, settings: Callable[..., list[str]], tmp_path: Path, **more: Any) -> Run:
    return Run(tmp_path / "run", load_config(None, settings(server.url, **more)), Progress(quiet=True))


def test_hundreds_of_calls_with_a_fifth_of_faults_end_within_budget(
    fake_lm: Callable[..., FakeLM], tmp_path: Path
) -> None:
    draw, lock, kinds = random.Random(0), threading.Lock(), Counter[str]()

    def answer(messages: list[dict[str, Any]]) -> tuple[int, str] | Fault:
        with lock:
            name = draw.choice(list(FAULTS)) if draw.random() < 0.2 else ""
            kinds[name] += 1
        return FAULTS[name] if name else (200, "well")

    server = fake_lm(answer)
    config = LMConfig(model="openai/fake", api_base=server.url, concurrency=64, retries=6, breaker=50, timeout_s=120)
    ledger = Ledger(tmp_path / "calls.jsonl")
    budget = Budget(calls=600, tokens=400_000)
    writer = LanguageModel.open(config, ledger, terms=Terms(budget=budget))

    def ask(place: int) -> str:
        with purpose(f"q{place}"):
            try:
                return str(writer.lm(f"question {place}")[0])
            except (LMError, ValueError) as error:
                return f"failed: {error}"

    said = dict(enumerate(in_order(ask, range(400), 64)))
    ledger.close()
    rows = list(read_rows(tmp_path / "calls.jsonl"))
    answered = Counter(row["query_id"] for row in rows if row["error"] is None)
    recorded = {row["query_id"] for row in rows if row["error"]}
    assert len(said) == 400 and {*kinds} == {"", *FAULTS}
    assert kinds[""] == sum(text == "well" for text in said.values())
    assert all(count == 1 for count in answered.values())  # nothing is asked again once it was answered
    assert all(f"q{place}" in (answered if text == "well" else {*answered, *recorded}) for place, text in said.items())
    assert len(answered) > 380  # no choices, cut, huge: what cannot be read is no answer, and is not asked again
    assert len(rows) == sum(kinds.values()) == budget.used["calls"] <= 600
    otherwise = Counter(text[:60] or "nothing" for text in said.values() if text != "well")
    for title, table in (("the server gave", kinds), ("calls that ended with something else", otherwise)):  # pytest -rP
        print(f"\n{title}")
        for name, count in table.most_common():
            print(f"{count:5d}  {name or 'a good answer'}")


def test_a_budget_stops_the_command_with_code_3_and_the_next_goes_on(
    fake_lm: Callable[..., FakeLM], settings: Callable[..., list[str]], tmp_path: Path
) -> None:
    server = fake_lm(write_negative)
    more = {"generate.pairs": 12, "lm.concurrency": 8}
    with pytest.raises(BudgetError, match="calls: 5 of 5.*same command again") as stopped:
        opened(server, settings, tmp_path, **more, **{"budget.calls": 5}).until("generate")
    assert stopped.value.exit_code == 3
    events = list(read_rows(tmp_path / "run" / "events.jsonl"))
    assert {"event": "stopped", "stage": "generate"}.items() <= events[-1].items()
    assert [e["stage"] for e in events if e["event"] == "done"][:2] == ["collection", "encoder"]
    assert len(server.requests) == 5
    assert opened(server, settings, tmp_path, **more, **{"budget.calls": 7}).until("generate")["accepted"] == 12
    assert len(server.requests) == 12


def test_dollars_cannot_be_limited_where_the_price_is_not_known(
    fake_lm: Callable[..., FakeLM], settings: Callable[..., list[str]], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="price of 'openai/fake' is unknown"):
        opened(fake_lm(), settings, tmp_path, **{"budget.usd": 1.0}).until("generate")
