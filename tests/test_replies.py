"""Replies that a client cannot read: what is in them is kept, with both engines and from a batch file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
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
    server = fake_lm(lambda messages: Fault(status, json.dumps(ERRORS[form]).encode()))
    with pytest.raises(Exception, match="out of gas"):
        ask(tmp_path / "calls.jsonl", server.url, engine=engine)
    row = next(read_rows(tmp_path / "calls.jsonl"))
    assert "out of gas" in row["error"]
    assert len(server.requests) == 1 + (status == 400)  # status 200 refuses no request
    assert row["error"].startswith("ServerError") is (status in (200, 503))


PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title><script>var a = 1;</script></head><body>to <b>go on</b></body></html>"
STRANGE = {
    "a list": (b'["a"]', "a JSON list, not a chat completion: 'a'"),
    "an empty list": (b"[]", "a JSON list, not a chat completion"),
    "a string": (b'"hello"', "a JSON string, not a chat completion: 'hello'"),
    "null": (b"null", "null, not a chat completion"),
    "a number": (b"7", "a number, not a chat completion: '7'"),
    "a page": (PAGE, "an HTML page, not a chat completion: 'Sign in to go on'"),
    "a page of its type": (PAGE, "an HTML page, not a chat completion: 'Sign in to go on'"),
    "a text": (b"upstream\nwent away", "a text that is no JSON, not a chat completion: 'upstream went away'"),
    "a stream": (b'data: {"choices": []}\n\ndata: [DONE]', "a stream, not a chat completion: 'data: {"),
    "another encoding": ("café".encode("latin-1"), "a text that is no JSON, not a chat completion: 'caf"),
    "nothing": (b"", "an empty body, not a chat completion"),
    "another protocol": (b'{"response": "x"}', "JSON without choices[0].message, not a chat completion: "),
}


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # of the OpenAI client
@pytest.mark.parametrize(("engine", "model"), [("litellm", "openai"), ("litellm", "hosted_vllm"), ("native", "openai")])
@pytest.mark.parametrize("form", STRANGE)
def test_a_reply_that_is_no_chat_completion_is_described_with_its_address(
    form: str, engine: str, model: str, fake_lm: Callable[..., FakeLM], tmp_path: Path
) -> None:
    body, told = STRANGE[form]
    kind = "text/html" if form == "a page of its type" else "application/json"  # decides for the OpenAI client
    server = fake_lm(lambda messages: Fault(200, body, {"content-type": kind}))
    with pytest.raises(dspy.utils.exceptions.DSPyError):
        ask(tmp_path / "calls.jsonl", server.url, engine=engine, model=f"{model}/own")
    (row,) = read_rows(tmp_path / "calls.jsonl")
    assert row["error"].startswith(f"ServerError: {server.url} sent {told}")
    assert row["error"].partition(" (")[0].endswith("; check the address")
    assert "Traceback" not in row["error"]


@pytest.mark.parametrize("body", [b"7", b'"busy"', b"busy", PAGE])
@pytest.mark.parametrize(("engine", "model"), [("litellm", "openai"), ("litellm", "hosted_vllm"), ("native", "openai")])
def test_a_reply_with_an_error_of_http_is_told_as_that(
    engine: str, model: str, body: bytes, fake_lm: Callable[..., FakeLM], tmp_path: Path
) -> None:
    server = fake_lm(lambda messages: Fault(503, body))
    with pytest.raises(dspy.utils.exceptions.DSPyError):
        ask(tmp_path / "calls.jsonl", server.url, engine=engine, model=f"{model}/own")
    (row,) = read_rows(tmp_path / "calls.jsonl")
    assert "chat completion" not in row["error"]
    assert "503" in row["error"]


def test_a_refusal_in_a_text_teaches_the_native_client(fake_lm: Callable[..., FakeLM], tmp_path: Path) -> None:
    server = fake_lm()

    def answer(messages: Any) -> Any:
        if "response_format" in server.requests[-1]:
            return Fault(400, b'{"detail": "Unknown parameter: response_format"}')
        return 200, BLUE

    server.answer = answer
    assert ask(tmp_path / "calls.jsonl", server.url, engine="native") == "blue"


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # of the OpenAI client
@pytest.mark.parametrize("model", ["openai/own", "hosted_vllm/own"])
def test_beside_callbacks_of_litellm_an_answer_is_read_and_paid_for_once(
    model: str, fake_lm: Callable[..., FakeLM], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import litellm

    monkeypatch.setattr(litellm, "success_callback", [lambda *_: None])
    server = fake_lm(lambda messages: Fault(200, json.dumps(body({"content": BLUE}, "120 tokens")).encode()))
    assert ask(tmp_path / "calls.jsonl", server.url, model=model) == "blue"
    assert len(server.requests) == 1


def test_the_text_of_an_error() -> None:
    assert [said(each) for each in ({}, None, [], {"error": {}, "detail": "a"}, {"code": 7})] == [
        "", "", "", "a", "{'code': 7}",
    ]  # fmt: skip
