"""Replies that a client cannot read: what is in them is kept, with both engines and from a batch file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeLM, Fault
from test_answers import BLUE, ask

from syneg.core.storage import read_rows
from syneg.llm.batch_files import _answered
from syneg.llm.replies import said

USAGES: dict[str, tuple[Any, int | None, int | None]] = {  # usage, and what of it counts
    "texts": ({"prompt_tokens": "100", "completion_tokens": "20"}, 100, 20),
    "fractions": ({"prompt_tokens": 99.5, "completion_tokens": 20.0}, 100, 20),
    "below zero": ({"prompt_tokens": -1, "completion_tokens": 20}, None, 20),
    "words": ({"prompt_tokens": "many", "completion_tokens": 20}, None, 20),
    "null": ({"prompt_tokens": None, "completion_tokens": None}, None, None),
    "a list": ([100, 20], None, None),
    "a text": ("120 tokens", None, None),
    "true": (True, None, None),
    "details of another form": (
        {"prompt_tokens": 100, "completion_tokens": 20, "completion_tokens_details": {"reasoning_tokens": "7"}}, 100, 20,
    ),
}  # fmt: skip


def body(message: dict[str, Any], usage: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", **message}, "finish_reason": "stop"}], "usage": usage}


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # of the OpenAI client
@pytest.mark.parametrize("engine", ["litellm", "native"])
@pytest.mark.parametrize("form", USAGES)
def test_no_usage_loses_the_answer_that_it_came_with(
    form: str, engine: str, fake_lm: Callable[..., FakeLM], tmp_path: Path
) -> None:
    usage, read, written = USAGES[form]
    server = fake_lm(lambda messages: Fault(200, json.dumps(body({"content": BLUE}, usage)).encode()))
    assert ask(tmp_path / "calls.jsonl", server.url, engine=engine) == "blue"
    assert len(server.requests) == 1
    (row,) = read_rows(tmp_path / "calls.jsonl")
    assert row["counted"] is (read is None or written is None)
    assert row["input_tokens"] == read if read else row["input_tokens"] > 20
    assert row["output_tokens"] == written if written else 0 < row["output_tokens"] < 20


@pytest.mark.parametrize("form", USAGES)
def test_no_usage_loses_an_answer_of_a_batch(form: str) -> None:
    usage, read, written = USAGES[form]
    line = {"response": {"status_code": 200, "body": body({"content": BLUE}, usage)}}
    row = _answered(line, {"key": "k"}, "openai/gpt-4o-mini")  # type: ignore[typeddict-item]
    assert (row["answer"], row["input_tokens"], row["output_tokens"]) == (BLUE, read or 0, written or 0)


ERRORS = {
    "error": {"error": "out of gas"},
    "detail": {"detail": "out of gas"},
    "a list of details": {"detail": [{"loc": ["body"], "msg": "out of gas"}]},
    "message": {"object": "error", "message": "out of gas", "code": 40301},
    "a list": [{"error": {"message": "out of gas"}}],
}


@pytest.mark.parametrize("engine", ["litellm", "native"])
@pytest.mark.parametrize("status", [200, 400, 429, 503])
@pytest.mark.parametrize("form", ERRORS)
def test_an_error_is_told_wherever_its_text_stands(
    form: str, status: int, engine: str, fake_lm: Callable[..., FakeLM], tmp_path: Path
) -> None:
    if (form, status, engine) == ("a list", 200, "litellm"):
        pytest.skip("the OpenAI client makes answers of it")
    server = fake_lm(lambda messages: Fault(status, json.dumps(ERRORS[form]).encode()))
    with pytest.raises(Exception, match="out of gas"):
        ask(tmp_path / "calls.jsonl", server.url, engine=engine)
    row = next(read_rows(tmp_path / "calls.jsonl"))
    assert "out of gas" in row["error"]
    assert len(server.requests) == 1 + (status == 400)  # status 200 refuses no request
    assert row["error"].startswith("ServerError") is (status in (200, 503))


def test_a_refusal_in_a_text_teaches_the_native_client(fake_lm: Callable[..., FakeLM], tmp_path: Path) -> None:
    server = fake_lm()

    def answer(messages: Any) -> Any:
        if "response_format" in server.requests[-1]:
            return Fault(400, b'{"detail": "Unknown parameter: response_format"}')
        return 200, BLUE

    server.answer = answer
    assert ask(tmp_path / "calls.jsonl", server.url, engine="native") == "blue"


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # of the OpenAI client
def test_beside_callbacks_of_litellm_the_native_client_reads_what_litellm_cannot(
    fake_lm: Callable[..., FakeLM], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import litellm

    monkeypatch.setattr(litellm, "success_callback", [lambda *_: None])
    server = fake_lm(lambda messages: Fault(200, json.dumps(body({"content": BLUE}, "120 tokens")).encode()))
    assert ask(tmp_path / "calls.jsonl", server.url) == "blue"
    assert len(server.requests) == 2


def test_the_text_of_an_error() -> None:
    assert [said(each) for each in ({}, None, [], {"error": {}, "detail": "a"}, {"code": 7})] == [
        "", "", "", "a", "{'code': 7}",
    ]  # fmt: skip
