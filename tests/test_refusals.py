from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pytest
from conftest import FakeLM, Fault, write_negative

from syneg.core.errors import BackendError, BudgetError, ConfigError
from syneg.core.progress import Progress
from syneg.core.records import HardNegative
from syneg.core.settings import load_config
from syneg.core.storage import read_rows
from syneg.negatives.gates import REFUSED
from syneg.run.pipeline import Run

FILTER = b'{"error": {"message": "The response was filtered due to the content management policy.", "code": "content_filter"}}'
REFUSALS = {
    "content filter": Fault(400, body=FILTER),
    "firewall": Fault(403, body=b'{"error": {"message": "Input flagged by moderation"}}'),
    "too long": Fault(400, body=b'{"error": {"message": "too many tokens", "code": "context_length_exceeded"}}'),
    "unprocessable": Fault(422),
}


def run_of(server: FakeLM, settings: Callable[..., list[str]], folder: Path, **more: Any) -> Run:
    values = settings(server.url, **{"lm.concurrency": 1, "generate.pairs": 30, **more})
    return Run(folder, load_config(None, values), Progress(quiet=True))


@pytest.mark.parametrize("name", REFUSALS)
def test_refused_prompts_are_rows_and_end_nothing(
    name: str, fake_lm: Callable[..., FakeLM], settings: Callable[..., list[str]], tmp_path: Path
) -> None:
    """The first twelve pairs are refused, one by one, before anything was answered."""
    refused = list[str]()

    def answer(messages: list[dict[str, Any]]) -> tuple[int, str] | Fault:
        text = messages[-1]["content"]
        if text == "Hello.":
            return 200, "Hello."
        if text in refused or len(refused) < 12:
            refused.append(text)
            return REFUSALS[name]
        return write_negative(messages)

    server = fake_lm(answer)
    found = run_of(server, settings, tmp_path / "run").until("generate")
    rows = list(read_rows(tmp_path / "run" / "negatives.jsonl"))
    assert found["accepted"] == 18
    assert Counter(row["reason"] for row in rows if not row["accepted"]) == {REFUSED: 12}
    assert all(row["reasoning"] for row in rows if row["reason"] == REFUSED)
    assert len(refused) == len(set(refused)) == 12  # each is asked once


@pytest.mark.parametrize(
    ("status", "words"), [(401, "refuses every call"), (403, "refuses every"), (400, "refuses every")]
)
def test_an_endpoint_that_refuses_everything_ends_a_run_at_once(
    status: int, words: str, fake_lm: Callable[..., FakeLM], settings: Callable[..., list[str]], tmp_path: Path
) -> None:
    server = fake_lm(lambda messages: Fault(status))
    with pytest.raises(BackendError, match=words):
        run_of(server, settings, tmp_path / "run").until("generate")
    assert len(server.requests) <= 2


def test_a_refused_prompt_is_not_asked_again_by_the_next_run(
    fake_lm: Callable[..., FakeLM], settings: Callable[..., list[str]], tmp_path: Path
) -> None:
    first = list[str]()

    def answer(messages: list[dict[str, Any]]) -> tuple[int, str] | Fault:
        text = messages[-1]["content"]
        first.append(text)
        return REFUSALS["firewall"] if text in first[1:2] else write_negative(messages)

    server = fake_lm(answer)
    with pytest.raises(BudgetError):
        run_of(server, settings, tmp_path / "run", **{"budget.calls": 5}).until("generate")
    run_of(server, settings, tmp_path / "run").until("generate")
    assert Counter(first)[first[1]] == 1
    assert len(first) == 30


def test_compile_goes_on_after_a_refused_pair(
    fake_lm: Callable[..., FakeLM], settings: Callable[..., list[str]], tmp_path: Path
) -> None:
    first = list[str]()

    def answer(messages: list[dict[str, Any]]) -> tuple[int, str] | Fault:
        if "better_instruction" in str(messages):
            return 200, json.dumps({"better_instruction": f"Write about another thing, way {len(first)}."})
        text = messages[-1]["content"]
        first.append(text)
        return REFUSALS["content filter"] if text in first[1:2] else write_negative(messages)

    more = {
        "compile.optimizer": "search",
        "compile.confirm": False,
        "compile.proposals": 2,
        "compile.pairs": 8,
    }
    found = run_of(fake_lm(answer), settings, tmp_path / "run", **more).until("compile")
    assert len(found["candidates"]) > 1


@pytest.mark.parametrize("optimizer", ["search", "gepa", "simba", "copro"])
@pytest.mark.parametrize("status", [401, 500])
def test_a_reflection_lm_that_is_dead_is_an_error(
    status: int, optimizer: str, fake_lm: Callable[..., FakeLM], settings: Callable[..., list[str]], tmp_path: Path
) -> None:
    def answer(messages: list[dict[str, Any]]) -> tuple[int, str] | Fault:
        return (
            write_negative(messages)
            if messages[0]["content"].startswith("Your input fields are")
            and ("`hard_negative`" in str(messages[0]))
            and "instruction" not in str(messages[0]).replace("an instruction", "")
            else Fault(status)
        )

    more = {
        "compile.optimizer": optimizer,
        "compile.confirm": False,
        "compile.proposals": 2,
        "compile.pairs": 8,
    }
    with pytest.raises(BackendError, match="refuses every call|never gave an answer|in a row"):
        run_of(fake_lm(answer), settings, tmp_path / "run", **more).until("compile")
    assert not (tmp_path / "run" / "compiled.json").exists()


@pytest.mark.parametrize("optimizer", ["search", "gepa", "simba"])
def test_the_budget_of_the_command_ends_a_compilation_and_the_next_goes_on(
    optimizer: str, fake_lm: Callable[..., FakeLM], settings: Callable[..., list[str]], tmp_path: Path
) -> None:
    def answer(messages: list[dict[str, Any]]) -> tuple[int, str]:
        if "`hard_negative`" in str(messages[0]) and "instruction" not in str(messages[0]).replace(
            "an instruction", ""
        ):
            return write_negative(messages)
        return 200, json.dumps({"better_instruction": f"Write about another thing, way {len(server.requests)}."})

    server = fake_lm(answer)
    more = {
        "compile.optimizer": optimizer,
        "compile.confirm": False,
        "compile.proposals": 2,
        "compile.pairs": 8,
    }
    for calls in (3, 9):
        with pytest.raises(BudgetError, match=f"calls: {calls} of {calls}"):
            run_of(server, settings, tmp_path / "run", **more, **{"budget.calls": calls}).until("compile")
        assert not (tmp_path / "run" / "compiled.json").exists()
    assert len(server.requests) == 12


@pytest.mark.parametrize("status", [401, 0])
def test_plan_ends_as_its_calls_end(
    status: int, fake_lm: Callable[..., FakeLM], settings: Callable[..., list[str]], tmp_path: Path
) -> None:
    server = fake_lm(lambda messages: Fault(status) if status else (200, "no domains"))
    budget = {} if status else {"budget.calls": 1}
    error, words = (BackendError, "refuses every call") if status else (BudgetError, "calls: 1 of 1")
    with pytest.raises(error, match=words):
        run_of(server, settings, tmp_path / "run", **{"generate.plan": True, **budget}).until("generate")


class Odd(dspy.Module):
    """A program of a user's own: what it does is set by `Odd.way`."""

    way = ""

    def forward(
        self, *, query: str, positive: str, task: str, attributes: Any, candidates: Any = ()
    ) -> dspy.Prediction:
        if self.way == "division":
            return dspy.Prediction(negatives=[1 / 0])
        if self.way == "own exception":
            raise type("OwnError", (Exception,), {})("the tokenizer of my own is gone")
        if self.way == "stop":
            next(iter(()))
        values: Any = {"list": {"domain": ["a", "b"]}, "number": {3: 4.5}, "none": None, "odd": ["domain"]}[self.way]
        return dspy.Prediction(
            negatives=[HardNegative("the socket is merged twice and slowly", "odd", attributes=values)]
        )


@pytest.mark.parametrize("way", ["division", "own exception", "stop", "list", "number", "none", "odd"])
def test_what_a_users_program_does_is_a_row_or_one_line(
    way: str, fake_lm: Callable[..., FakeLM], settings: Callable[..., list[str]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(Odd, "way", way)
    run = run_of(fake_lm(), settings, tmp_path / "run", **{"generate.program": f"{__name__}:Odd", "generate.pairs": 4})
    if way == "odd":
        with pytest.raises(ConfigError, match="the program Odd returned"):
            run.until("generate")
        return
    run.until("generate")
    rows = list(read_rows(tmp_path / "run" / "negatives.jsonl"))
    assert len({row["query_id"] for row in rows}) == 4
    assert all(isinstance(value, str) for row in rows for value in row["attributes"].values())


def test_deeply_nested_json_is_a_row(
    fake_lm: Callable[..., FakeLM], settings: Callable[..., list[str]], tmp_path: Path
) -> None:
    answers = ['{"hard_negative": ' + "[" * 5000, '{"a":' * 5000]

    def answer(messages: list[dict[str, Any]]) -> tuple[int, str]:
        return (200, answers.pop()) if answers else write_negative(messages)

    assert (
        run_of(fake_lm(answer), settings, tmp_path / "run", **{"generate.pairs": 4}).until("generate")["accepted"] > 2
    )
