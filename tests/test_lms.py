from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest
from conftest import FakeLM

from syneg.core.config import LMConfig
from syneg.core.errors import BackendError, ConfigError, one_line
from syneg.core.storage import read_rows
from syneg.llm.calls import purpose
from syneg.llm.ledger import Ledger
from syneg.llm.lms import LanguageModel


class Ask(dspy.Signature):
    """Answer."""

    question: str = dspy.InputField()
    answer: str = dspy.OutputField(desc="one word")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Callable[[], Ledger]]:
    """Open the ledger of the test anew: ledger()."""
    opened: list[Ledger] = []

    def open_again() -> Ledger:
        opened.append(Ledger(tmp_path / "calls.jsonl"))
        return opened[-1]

    yield open_again
    for one in opened:
        one.close()


def ask(writer: LanguageModel, question: str, attempt: int = 0) -> tuple[str, Any]:
    with purpose("q1", attempt) as current, dspy.context(lm=writer.lm, adapter=writer.adapter):
        return dspy.Predict(Ask)(question=question).answer, current.calls[-1]


def config(url: str, **more: Any) -> LMConfig:
    return LMConfig(**{"model": "openai/fake", "api_base": url, "retries": 0, **more})


@pytest.mark.parametrize("adapter", ["json", "chat", "xml", "compact"])
def test_a_call_goes_through_litellm_and_is_replayed_from_the_ledger(
    adapter: str, fake_lm: Callable[..., FakeLM], tmp_path: Path, ledger: Callable[[], Ledger]
) -> None:
    texts = {"chat": "[[ ## answer ## ]]\nblue\n[[ ## completed ## ]]", "xml": "<answer>blue</answer>"}
    server = fake_lm(lambda messages: (200, texts.get(adapter, '{"answer": "blue"}')))
    writer = LanguageModel.open(config(server.url, adapter=adapter), ledger())
    answer, call = ask(writer, "Which colour?")
    assert (answer, call.input_tokens, call.output_tokens, call.usd, call.replayed) == (
        "blue",
        100,
        20,
        None,
        False,
    )
    again = LanguageModel.open(config(server.url, adapter=adapter), ledger())
    answer, call = ask(again, "Which colour?")
    assert (answer, call.replayed, len(server.requests)) == ("blue", True, 1)


def test_whatever_decides_an_answer_changes_the_key(
    fake_lm: Callable[..., FakeLM], tmp_path: Path, ledger: Callable[[], Ledger]
) -> None:
    one, two = fake_lm(lambda m: (200, '{"answer": "one"}')), fake_lm(lambda m: (200, '{"answer": "two"}'))
    path = tmp_path / "calls.jsonl"
    assert ask(LanguageModel.open(config(one.url), ledger()), "a")[0] == "one"
    assert ask(LanguageModel.open(config(two.url), ledger()), "a")[0] == "two"  # the same model name elsewhere
    assert not ask(LanguageModel.open(config(one.url), ledger()), "b")[1].replayed
    assert not ask(LanguageModel.open(config(one.url), ledger()), "a", attempt=1)[1].replayed
    assert not ask(LanguageModel.open(config(one.url, temperature=0.1), ledger()), "a")[1].replayed
    assert ask(LanguageModel.open(config(one.url), ledger()), "a")[1].replayed
    assert len(list(read_rows(path))) == 5


def test_a_failed_call_is_kept_and_not_replayed(
    fake_lm: Callable[..., FakeLM], tmp_path: Path, ledger: Callable[[], Ledger]
) -> None:
    answers = [(500, "broken"), (200, '{"answer": "well"}')]
    server = fake_lm(lambda messages: answers.pop(0))
    path = tmp_path / "calls.jsonl"
    with pytest.raises(dspy.utils.exceptions.LMError):
        ask(LanguageModel.open(config(server.url), ledger()), "a")
    assert ask(LanguageModel.open(config(server.url), ledger()), "a")[0] == "well"
    first, second = read_rows(path)
    assert "broken" in first["error"]
    assert second["error"] is None


def test_a_retryable_failure_is_tried_again(
    fake_lm: Callable[..., FakeLM], tmp_path: Path, ledger: Callable[[], Ledger]
) -> None:
    answers = [(503, "later"), (200, '{"answer": "well"}')]
    server = fake_lm(lambda messages: answers.pop(0))
    assert ask(LanguageModel.open(config(server.url, retries=1), ledger()), "a")[0] == "well"


def test_secrets_do_not_reach_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-0123456789")
    assert one_line(ValueError("bad key sk-0123456789\nsecond line")) == "ValueError: bad key *** second line"


@pytest.mark.parametrize("model", ["gpt", "nobody/model", "local/nope", "local/minilm"])
def test_models_that_cannot_be_are_refused_at_once(model: str, ledger: Callable[[], Ledger]) -> None:
    with pytest.raises(ConfigError, match="litellm does not know|did you mean|known:|is an encoder"):
        LanguageModel.open(LMConfig(model=model), ledger())


def test_a_missing_gguf_file(ledger: Callable[[], Ledger]) -> None:
    with pytest.raises(BackendError, match="no such model file"):
        LanguageModel.open(LMConfig(model="local/none.gguf"), ledger())


def test_the_compact_layout_ends_every_turn_with_the_request() -> None:
    from syneg.llm.adapters import CompactAdapter

    messages = CompactAdapter().format(Ask, [{"question": "1+1", "answer": "two"}], {"question": "Which?"})
    assert [(m["role"], m["content"]) for m in messages] == [
        ("system", "Answer."),
        ("user", "question: 1+1\nReply with JSON. answer: one word"),
        ("assistant", json.dumps({"answer": "two"})),
        ("user", "question: Which?\nReply with JSON. answer: one word"),
    ]


def test_a_model_that_takes_a_schema_is_sent_one(fake_lm: Callable[..., FakeLM], ledger: Callable[[], Ledger]) -> None:
    server = fake_lm(lambda messages: (200, '{"answer": "blue"}'))
    for model in (
        "openai/gpt-4o-mini",
        "openai/fake",
        "hosted_vllm/fake",
    ):  # own servers: found out with the first call
        writer = LanguageModel.open(config(server.url, model=model, adapter="json"), ledger())
        assert ask(writer, "Which colour?")[0] == "blue"
        sent = server.requests[-1].get("response_format", {})
        assert sent.get("type") == "json_schema"
        assert "answer" in json.dumps(sent)


def test_prices_are_those_of_litellm_and_unknown_is_not_free(
    fake_lm: Callable[..., FakeLM], ledger: Callable[[], Ledger]
) -> None:
    server = fake_lm(lambda messages: (200, '{"answer": "blue"}'))
    for model, usd in (("openai/gpt-4o-mini", (100 * 0.15 + 20 * 0.6) / 1e6), ("hosted_vllm/gpt-4o", None)):
        _, call = ask(LanguageModel.open(config(server.url, model=model, adapter="json"), ledger()), "Which?")
        assert call.usd == (pytest.approx(usd) if usd else None)


def test_prompts_and_answers_are_not_kept_in_memory(
    fake_lm: Callable[..., FakeLM], ledger: Callable[[], Ledger]
) -> None:
    from dspy.clients.base_lm import GLOBAL_HISTORY

    before = len(GLOBAL_HISTORY)
    writer = LanguageModel.open(LMConfig(model="openai/fake", api_base=fake_lm().url, retries=0), ledger())
    for lm in (writer.lm, writer.lm_for(0, 3)):
        lm("hi")
        assert lm.history == []
    assert len(GLOBAL_HISTORY) == before


@pytest.mark.parametrize("adapter", ["json", "compact"])
def test_the_schema_of_a_signature_is_built_once(
    adapter: str, fake_lm: Callable[..., FakeLM], ledger: Callable[[], Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    import pydantic

    server = fake_lm(lambda messages: (200, '{"answer": "blue"}'))
    writer = LanguageModel.open(config(server.url, adapter=adapter), ledger())
    built, create = [], pydantic.create_model
    monkeypatch.setattr(pydantic, "create_model", lambda name, **of: built.append(name) or create(name, **of))
    for question in ("Which?", "What?", "When?"):
        assert ask(writer, question)[0] == "blue"
    assert built.count("DSPyProgramOutputs") == 1
    sent = [request["response_format"] for request in server.requests]
    assert sent[0]["type"] == "json_schema"
    assert sent == sent[:1] * 3


@pytest.mark.parametrize("module", ["prices", "addresses", "lms"])
def test_loading_litellm_asks_the_network_for_no_prices(module: str, tmp_path: Path) -> None:
    code = f"import os, syneg.llm.{module}; print(os.environ.get('LITELLM_LOCAL_MODEL_COST_MAP'))"
    env = {name: value for name, value in os.environ.items() if name != "LITELLM_LOCAL_MODEL_COST_MAP"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr
