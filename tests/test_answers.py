"""Answers of every shape that endpoints give, through both engines, and what the ledger keeps of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pytest
from conftest import FakeLM, Fault

from syneg.core.config import LMConfig
from syneg.core.storage import read_rows
from syneg.llm.answers import separated
from syneg.llm.calls import purpose
from syneg.llm.ledger import Ledger
from syneg.llm.lms import LanguageModel

BLUE = '{"answer": "blue"}'
THOUGHT = 'The user wants a colour. {"answer": "red"} would be wrong.'


class Ask(dspy.Signature):
    """Answer."""

    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


def ask(path: Path, url: str, **settings: Any) -> str:
    ledger = Ledger(path)
    lm = LanguageModel.open(LMConfig(**{"model": "openai/fake", "api_base": url, "retries": 0, **settings}), ledger)
    try:
        with purpose("q1"), dspy.context(lm=lm.lm, adapter=lm.adapter):
            return str(dspy.Predict(Ask)(question="Which?").answer)
    finally:
        ledger.close()


READ = {
    "reasoning_content": {"content": BLUE, "reasoning_content": THOUGHT},
    "reasoning": {"content": BLUE, "reasoning": THOUGHT},
    "tags in the text": {"content": f"<think>\n{THOUGHT}\n</think>\n\n{BLUE}"},
    "no opening tag": {"content": f"{THOUGHT}\n</think>\n\n{BLUE}"},
    "two blocks, upper case": {"content": f"<THINK>{THOUGHT}</THINK><think>Blue, then.</think>{BLUE}"},
    "Magistral": {"content": f"[THINK]{THOUGHT}[/THINK]{BLUE}"},
    "harmony": {
        "content": f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>{BLUE}<|return|>"
    },
    "a list of parts": {"content": [{"type": "text", "text": '{"answer": '}, {"type": "text", "text": '"blue"}'}]},
    "a list with thinking": {
        "content": [{"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]}, {"type": "text", "text": BLUE}]
    },
    "an answer in the thinking": {"content": None, "reasoning_content": f"{THOUGHT}\n{BLUE}"},
    "a tag of another family": {"content": f"<seed:think>{THOUGHT}</seed:think>{BLUE}"},
    "marks of a template": {"content": f"<|START_THINKING|>{THOUGHT}<|END_THINKING|><|START_RESPONSE|>{BLUE}<|END_RESPONSE|>"},
    "one text in brackets": {"content": '{"answer": ["blue"]}'},
    "one text in an object": {"content": '{"answer": {"text": "blue"}}'},
    "wrapped once": {"content": '{"output": {"answer": "blue"}}'},
    "wrapped as a text": {"content": json.dumps({"output": BLUE})},
    "a list of one object": {"content": '[{"answer": "blue"}]'},
    "JSON in a text of JSON": {"content": json.dumps(BLUE)},
    "braces before it": {"content": f"Set {{x}} is:\n{BLUE}\nI hope it helps."},
    "the schema before it": {"content": '{"properties": {"answer": {"type": "string"}}}\n' + BLUE},
    "said twice": {"content": f"{BLUE}\n{BLUE}"},
    "an object as content": {"content": {"answer": "blue"}},
    "a part as content": {"content": {"type": "text", "text": BLUE}},
    "a call of a tool": {"content": None, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "json", "arguments": BLUE}}]},
    "a call of a function": {"content": "", "function_call": {"name": "answer", "arguments": BLUE}},
    "tags with the name of a field": {"content": f"<reasoning>{THOUGHT}</reasoning>\n{BLUE}"},
    "a bracket forgotten": {"content": BLUE[:-1]},
    "citations": {"content": BLUE, "annotations": [{"type": "url_citation", "url_citation": {"url": "http://a", "title": "a", "start_index": 0, "end_index": 1}}]},
    "a refusal that is none": {"content": BLUE, "refusal": None, "tool_calls": None},
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # of the OpenAI client, of a list as content
@pytest.mark.parametrize("engine", ["litellm", "native"])
@pytest.mark.parametrize("shape", READ)
def test_the_text_is_read_whatever_stands_beside_it(
    shape: str, engine: str, fake_lm: Callable[..., FakeLM], tmp_path: Path
) -> None:
    server = fake_lm(lambda messages: (200, READ[shape]))
    path = tmp_path / "calls.jsonl"
    assert ask(path, server.url, engine=engine) == "blue"
    assert ask(path, server.url, engine=engine) == "blue"
    (row,) = read_rows(path)
    assert len(server.requests) == 1
    assert "blue" in row["answer"]
    assert ("red" in row.get("thinking", "")) is ("red" in json.dumps(READ[shape]))


LOST: dict[str, tuple[dict[str, Any], str, str]] = {
    "all thought": ({"content": "", "reasoning_content": "Hm, hm."}, "length", r"all 512 tokens.*raise lm\.max_tokens"),
    "an open tag": ({"content": "<think>Hm, hm."}, "length", r"all 512 tokens.*raise lm\.max_tokens"),
    "thought only": ({"content": None, "reasoning_content": "Hm."}, "stop", "the answer has thinking and no text"),
    "a refusal": ({"content": None, "refusal": "I cannot do that."}, "stop", "the LM refused: I cannot do that"),
    "a tool call": (
        {"content": None, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]},
        "tool_calls", "the LM called the tool look",
    ),
    "filtered": ({"content": ""}, "content_filter", "content filter"),
    "nothing": ({"content": ""}, "stop", "the answer is empty"),
}  # fmt: skip


@pytest.mark.parametrize("engine", ["litellm", "native"])
@pytest.mark.parametrize("shape", LOST)
def test_an_empty_answer_is_a_failed_call_that_says_what_helps(
    shape: str, engine: str, fake_lm: Callable[..., FakeLM], tmp_path: Path
) -> None:
    message, finish, why = LOST[shape]
    server = fake_lm(lambda messages: (200, message, finish))
    path = tmp_path / "calls.jsonl"
    with pytest.raises(dspy.utils.exceptions.DSPyError, match=why):
        ask(path, server.url, engine=engine, max_tokens=64)
    row = next(read_rows(path))
    assert (row["answer"], row["output_tokens"]) == ("", 20)
    assert row["error"]
    server.answer = lambda messages: (200, BLUE)
    if finish != "length":
        assert ask(path, server.url, engine=engine, max_tokens=64) == "blue"


@pytest.mark.parametrize(
    ("text", "said", "thought"),
    [
        ("plain", "plain", []),
        ("a < b </b> [x]", "a < b </b> [x]", []),
        ("  kept as it is ", "  kept as it is ", []),
        ("<think></think>\n\nsaid", "said", [""]),
        ("<thought>why</thought>said", "said", ["why"]),
        ("<|begin_of_thought|>why<|end_of_thought|><|begin_of_solution|>said<|end_of_solution|>", "said", ["why"]),
        ("<unused94>thought\nwhy<unused95>said<end_of_turn>\n", "said", ["why"]),
        ("<|channel>thought\nwhy<channel|>said", "said", ["why"]),
        ("said<|im_end|>", "said", []),
        ("the tag </s> is left alone, and <|end|> too.", "the tag </s> is left alone, and <|end|> too.", []),
        ('{"a": "use <think>b</think> tags"}', '{"a": "use <think>b</think> tags"}', []),
        ('<think>why</think>{"a": "the </think> tag"}', '{"a": "the </think> tag"}', ["why"]),
        ('Hm {"a": "b"} no</think>{"a": "<think> c </think>"}', '{"a": "<think> c </think>"}', ['Hm {"a": "b"} no']),
        ('{"a": "b"}<think>why</think>', '{"a": "b"}', ["why"]),
        ("[[ ## a ## ]]\nuse <think>b</think> tags", "[[ ## a ## ]]\nuse <think>b</think> tags", []),
        ("[[ ## a ## ]]?</think>[[ ## a ## ]]\nthe <think> tag", "[[ ## a ## ]]\nthe <think> tag", ["[[ ## a ## ]]?"]),
        ("<think>a <think>b</think> c</think>said", "said", ["a <think>b", "c"]),
        ('<analysis>why</analysis> {"a": "b"}', '{"a": "b"}', ["why"]),
        ("<reasoning>why</reasoning><text>said</text>", "<reasoning>why</reasoning><text>said</text>", []),
    ],
)
def test_only_thinking_is_taken_out(text: str, said: str, thought: list[str]) -> None:
    assert separated(text) == (said, thought)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('{"answer": ["blue", "red"]}', "answer is a list, not one text"),
        ('{"answer": {"a": "blue", "b": "red"}}', "answer is an object, not one text"),
        ('{"answer": null}', "answer is missing"),
        ('{"answer": "blue"} or {"answer": "red"}', "2 objects have answer, and they differ"),
        ('[{"answer": "blue"}, {"answer": "red"}]', "2 objects have answer, and they differ"),
        ('{"a": {"answer": "blue"}, "b": {"answer": "red"}}', "answer is missing"),
        ('{"properties": {"answer": {"type": "string"}}}', "answer is missing"),
        ('{"answer": [null]}', "answer is a list, not one text"),
        ('{"other": "blue"}', "answer is missing"),
        ('{"answer": "blue is a colour that the', "the answer ends inside its JSON; raise lm.max_tokens"),
        ('{"list": [{"answer": "blue"}, {"answer": "a \\" re', "the answer ends inside its JSON"),
    ],
)
def test_what_is_no_text_or_not_whole_is_no_answer(
    content: str, why: str, fake_lm: Callable[..., FakeLM], tmp_path: Path
) -> None:
    server = fake_lm(lambda messages: (200, content))
    with pytest.raises(dspy.utils.exceptions.DSPyError, match=why):
        ask(tmp_path / "calls.jsonl", server.url)


@pytest.mark.parametrize(
    ("adapter", "said", "read"),
    [
        ("json", '{"Answer": "blue"}', "blue"),
        ("compact", '{" answer ": "blue"}', "blue"),
        ("json", '{"Answer": "red", "answer": "blue"}', "blue"),
        ("json", '{"ANSWER": "say \\"answer\\": x"}', 'say "answer": x'),
        ("xml", "<answer>R&D &amp; x < 3 or <= 4</answer>", "R&D & x < 3 or <= 4"),
    ],
)
def test_small_slips_of_form_are_read(
    adapter: str, said: str, read: str, fake_lm: Callable[..., FakeLM], tmp_path: Path
) -> None:
    server = fake_lm(lambda messages: (200, said))
    assert ask(tmp_path / "calls.jsonl", server.url, adapter=adapter) == read
    assert len(server.requests) == 1


@pytest.mark.parametrize("text", ['{"answer": "[1, 2] is a list"}', '{"answer": "[see note] close it"}'])
def test_a_text_with_brackets_stays(text: str, fake_lm: Callable[..., FakeLM], tmp_path: Path) -> None:
    server = fake_lm(lambda messages: (200, text))
    assert ask(tmp_path / "calls.jsonl", server.url) == json.loads(text)["answer"]


@pytest.mark.parametrize("engine", ["litellm", "native"])
@pytest.mark.parametrize("finish", ["length", "max_tokens", "MAX_TOKENS"])
def test_a_cut_answer_is_asked_for_again_however_the_cut_is_called(
    finish: str, engine: str, fake_lm: Callable[..., FakeLM], tmp_path: Path
) -> None:
    server = fake_lm()
    server.answer = lambda messages: (200, BLUE) if len(server.requests) > 1 else (200, '{"answer": "blue and', finish)
    assert ask(tmp_path / "calls.jsonl", server.url, engine=engine, max_tokens=64) == "blue"
    cut, whole = read_rows(tmp_path / "calls.jsonl")
    assert (cut["finish_reason"], whole["finish_reason"]) == ("length", "stop")


INSTEAD: dict[str, tuple[dict[str, Any], str]] = {
    "an error": ({"error": {"message": "the model is overloaded", "code": 503}}, "the model is overloaded"),
    "an error with empty choices": ({"choices": [], "error": {"message": "no such model"}}, "no such model"),
    "an error with a name": ({"error": {"message": "no such model", "code": "model_not_found"}}, "no such model"),
}


@pytest.mark.parametrize("engine", ["litellm", "native"])
@pytest.mark.parametrize("form", INSTEAD)
def test_an_error_that_comes_with_status_200_is_told(
    form: str, engine: str, fake_lm: Callable[..., FakeLM], tmp_path: Path
) -> None:
    body, why = INSTEAD[form]
    server = fake_lm(lambda messages: Fault(200, json.dumps(body).encode()))
    with pytest.raises(dspy.utils.exceptions.DSPyError, match=why):
        ask(tmp_path / "calls.jsonl", server.url, engine=engine)
    assert why in next(read_rows(tmp_path / "calls.jsonl"))["error"]


@pytest.mark.parametrize(
    "body", [{"error": "no such model"}, {"detail": "no such model"}, {"choices": None, "message": "no such model"}]
)
def test_a_reply_without_an_answer_is_a_failed_call_of_the_native_client(
    body: dict[str, Any], fake_lm: Callable[..., FakeLM], tmp_path: Path
) -> None:
    server = fake_lm(lambda messages: Fault(200, json.dumps(body).encode()))
    with pytest.raises(dspy.utils.exceptions.DSPyError, match="the endpoint sent no answer: no such model"):
        ask(tmp_path / "calls.jsonl", server.url, engine="native")
    server.answer = lambda messages: (200, BLUE)
    assert ask(tmp_path / "calls.jsonl", server.url, engine="native") == "blue"
