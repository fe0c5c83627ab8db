"""What is open when a signal ends a run is paid for: its answers are waited for and kept. A second signal leaves at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeLM, write_negative
from dspy.utils.exceptions import DSPyError
from started import Started

from syneg.core.config import LMConfig
from syneg.core.errors import StoppedError
from syneg.core.storage import read_rows
from syneg.core.threads import in_order
from syneg.llm.ledger import Ledger
from syneg.llm.lms import LanguageModel
from syneg.llm.open_calls import Finishing

Settings = Callable[..., list[str]]


def started(server: FakeLM, settings: Settings, cwd: Path) -> Started:
    """A `generate` whose calls are open: the last ones are answered late."""
    overrides = settings(server.url, **{"lm.concurrency": 4})
    process = Started(["generate", "--run", "r", *(x for o in overrides for x in ("--set", o))], cwd)
    while len(server.requests) < 8 and process.running:
        time.sleep(0.02)
    return process


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
def test_answers_to_open_calls_are_kept(
    number: int, code: int, tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    def answer(messages: list[dict[str, Any]]) -> tuple[int, str]:
        time.sleep(2.0 if len(server.requests) > 4 else 0.1)
        return write_negative(messages)

    server = fake_lm(answer)
    process = started(server, settings, tmp_path)
    time.sleep(0.2)
    process.send(number)
    assert process.wait(60) == code
    rows = list(read_rows(tmp_path / "r" / "ledger" / "calls.jsonl"))
    assert len(rows) == len(server.requests) and not any(row["error"] for row in rows)
    assert "open LM calls paid for: waiting for the answers (again: leave at once)" in " ".join(process.stderr.split())
    assert "Nothing is lost; resume with: syneg-dspy generate --run r" in process.stderr


def test_a_second_signal_leaves_at_once_and_says_what_is_lost(
    tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    def answer(messages: list[dict[str, Any]]) -> tuple[int, str]:
        if len(server.requests) > 4:
            waiting.wait(60)
        return write_negative(messages)

    waiting = threading.Event()
    server = fake_lm(answer)
    process = started(server, settings, tmp_path)
    process.send(signal.SIGINT)
    while "waiting for the answers" not in process.stderr and process.running:
        time.sleep(0.02)
    process.send(signal.SIGINT)
    try:
        assert process.wait(20) == 130
    finally:
        waiting.set()
    assert "Interrupted. 4 open LM calls given up; resume with: syneg-dspy generate --run r" in process.stderr
    assert "Traceback" not in process.stderr


@pytest.fixture
def opened(fake_lm: Callable[..., FakeLM], tmp_path: Path) -> Any:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background may ignore it

    def answer(messages: list[dict[str, Any]]) -> tuple[int, str]:
        if "together" in str(messages):
            together.wait(30)
        if "interrupt" in str(messages):
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)
        return write_negative(messages)

    together = threading.Barrier(4)
    ledger = Ledger(tmp_path / "calls.jsonl")
    server = fake_lm(answer)

    def build(**more: Any) -> LanguageModel:
        return LanguageModel.open(LMConfig(model="openai/fake", api_base=server.url, retries=0, **more), ledger)

    yield build
    with Finishing(lambda line: None):
        pass  # what follows in this process is another run
    ledger.close()
    signal.signal(signal.SIGINT, before)


def test_a_call_of_the_main_thread_is_finished_first(opened: Callable[..., LanguageModel], tmp_path: Path) -> None:
    lm = opened()
    said, before = list[str](), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Finishing(said.append):
        lm.lm("interrupt")
    assert [row["error"] for row in read_rows(tmp_path / "calls.jsonl")] == [None]
    assert said == ["  1 open LM call paid for: waiting for the answers (again: leave at once)"]
    assert signal.getsignal(signal.SIGINT) is before
    with Finishing(said.append):
        lm.lm("the next run goes on")
    assert len(list(read_rows(tmp_path / "calls.jsonl"))) == 2


def test_no_call_starts_while_others_are_finished(opened: Callable[..., LanguageModel], tmp_path: Path) -> None:
    lm, errors = opened(), list[BaseException]()

    def ask(place: int) -> None:
        try:
            lm.lm(f"together {place}{', interrupt' if place == 0 else ''}")
            lm.lm("no more")
        except DSPyError as error:
            errors.append(error.__cause__ or error)

    with pytest.raises(KeyboardInterrupt), Finishing(lambda line: None):
        in_order(ask, range(4), 4)
    time.sleep(0.1)
    assert len(list(read_rows(tmp_path / "calls.jsonl"))) == 4
    assert [type(error) for error in errors] == [StoppedError] * 4


def test_a_call_that_waits_for_its_turn_does_not_start(opened: Callable[..., LanguageModel], tmp_path: Path) -> None:
    lm = opened(max_rpm=40)  # a call each 1.5 s, in threads that are not ours, as those of DSPy
    lm.lm("it is connected now")
    with ThreadPoolExecutor(2) as pool, pytest.raises(KeyboardInterrupt), Finishing(lambda line: None):
        jobs = [pool.submit(lm.lm, f"question {place}") for place in (1, 2)]
        wait(jobs, return_when=FIRST_COMPLETED)
        os.kill(os.getpid(), signal.SIGINT)
    assert len(list(read_rows(tmp_path / "calls.jsonl"))) == 2


@pytest.mark.parametrize("command", [["mine", "--run", "r"], ["--help"]], ids=lambda command: command[0])
def test_a_command_whose_output_nobody_reads(
    command: list[str], tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    """`syneg-dspy mine 2>&1 | head -1`: the work is done, and the command ends as others do."""
    given = [part for one in settings(fake_lm().url) for part in ("--set", one)] if "mine" in command else []
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "syneg", *command, *given], cwd=tmp_path, stdout=writer, stderr=writer
    )
    os.close(writer)
    os.close(reader)
    assert process.wait(120) == 141
    if given:
        events = [row["event"] for row in read_rows(tmp_path / "r" / "events.jsonl")]
        assert events[-1] == "done" and "stopped" not in events
        assert list(read_rows(tmp_path / "r" / "mined.jsonl"))
