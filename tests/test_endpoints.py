"""What endpoints refuse, where calls go, and what is sent with them: real HTTP requests, through litellm and natively."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import dspy
import pytest
from conftest import FakeLM, Fault

from syneg.cli.backends import lms_of, probe
from syneg.core.config import LMConfig
from syneg.core.errors import ConfigError, one_line
from syneg.core.progress import Progress
from syneg.core.settings import load_config
from syneg.core.storage import read_rows
from syneg.core.toml import to_toml
from syneg.llm.calls import purpose
from syneg.llm.engine import Terms
from syneg.llm.ledger import Ledger
from syneg.llm.lms import LanguageModel
from syneg.llm.role_settings import judge_settings, reflection_settings
from syneg.llm.roles import Roles
from syneg.llm.room import room_for

BLUE = '{"answer": "blue"}'


class Ask(dspy.Signature):
    """Answer."""

    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """ask(url, question, **settings): what an LM answers; `ask.said` are the lines about the endpoint."""
    opened: list[Any] = []
    lines: list[str] = []

    def call(config: LMConfig, question: str = "Which?", terms: Terms | None = None) -> str:
        ledger = Ledger(tmp_path / "calls.jsonl")
        opened.append(ledger)
        lm = LanguageModel.open(config, ledger, terms=terms or Terms(say=lines.append))
        answers = []
        with purpose("q1"), dspy.context(lm=lm.lm, adapter=lm.adapter):
            for again in ("", " Again?"):
                answers.append(str(dspy.Predict(Ask)(question=question + again).answer))
        assert len(set(answers)) == 1
        return answers[0]

    call.said = lines  # type: ignore[attr-defined]
    yield call
    for ledger in opened:
        ledger.close()


def refusing(server: FakeLM, refuses: Callable[[dict[str, Any]], tuple[int, str] | None]) -> FakeLM:
    """The server, refusing by the body of a request."""

    def answer(messages: list[dict[str, Any]]) -> tuple[Any, ...]:
        return refuses(server.requests[-1]) or (200, BLUE)

    server.answer = answer
    return server


def no_system(body: dict[str, Any]) -> tuple[int, str] | None:
    return (400, "System role not supported") if body["messages"][0]["role"] == "system" else None


def no_system_template(body: dict[str, Any]) -> tuple[int, str] | None:
    roles = [message["role"] for message in body["messages"]]
    return (500, "Jinja: Conversation roles must alternate user/assistant/user/…") if "system" in roles else None


def no_format(body: dict[str, Any]) -> tuple[int, str] | None:
    return (400, "Unknown parameter: response_format") if "response_format" in body else None


def schema_or_text(body: dict[str, Any]) -> tuple[int, str] | None:
    kind = body.get("response_format", {}).get("type", "text")
    return (400, "'response_format.type' must be 'json_object' or 'text'") if kind == "json_schema" else None


def no_completion_tokens(body: dict[str, Any]) -> tuple[int, str] | None:
    wrong = "max_completion_tokens" in body
    return (400, "Unrecognized request argument supplied: max_completion_tokens") if wrong else None


def no_max_tokens(body: dict[str, Any]) -> tuple[int, str] | None:
    said = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    return (400, said) if "max_tokens" in body else None


def no_limit(body: dict[str, Any]) -> tuple[int, str] | None:
    return next(((422, f"{k}: extra inputs are not permitted") for k in body if k.startswith("max_")), None)


def no_temperature(body: dict[str, Any]) -> tuple[int, str] | None:
    wrong = body.get("temperature", 1) != 1
    return (400, "Unsupported value: 'temperature' does not support 0.7. Only the default (1) is supported.") if wrong else None  # fmt: skip


def nothing_at_all(body: dict[str, Any]) -> tuple[int, str] | None:
    return no_system(body) or no_format(body) or no_limit(body) or no_temperature(body)


REFUSALS = {
    no_system: 1, no_system_template: 1, no_format: 2, schema_or_text: 1, no_max_tokens: 1, no_limit: 2, no_temperature: 1,
    nothing_at_all: 6,
}  # fmt: skip


@pytest.mark.parametrize("model", ["openai/own", "hosted_vllm/own"])
@pytest.mark.parametrize("refuses", REFUSALS, ids=lambda f: f.__name__)
def test_what_an_endpoint_refuses_is_left_out_from_then_on(
    refuses: Callable[[dict[str, Any]], tuple[int, str] | None],
    model: str,
    fake_lm: Callable[..., FakeLM],
    ask: Callable[..., str],
) -> None:
    server = refusing(fake_lm(), refuses)
    assert ask(LMConfig(model=model, api_base=server.url, retries=0, adapter="json")) == "blue"
    once = len(server.requests) - (refuses is no_system_template and model == "openai/own")  # litellm tries other roles
    assert once == 2 + REFUSALS[refuses]  # two answers, and each refusal once
    last = server.requests[-1]
    assert "Respond with a JSON object" in json.dumps(last["messages"])
    assert "Answer." in json.dumps(last["messages"])
    said: list[str] = ask.said  # type: ignore[attr-defined]
    assert 1 <= len(said) <= REFUSALS[refuses]
    assert all(f"{model} " in line and "\n" not in line for line in said)


def test_the_native_client_falls_back_too(fake_lm: Callable[..., FakeLM], ask: Callable[..., str]) -> None:
    server = refusing(fake_lm(), nothing_at_all)
    assert ask(LMConfig(model="openai/own", api_base=server.url, retries=0, engine="native", adapter="json")) == "blue"
    assert len(server.requests) == 8


def test_a_server_of_ones_own_is_sent_max_tokens(fake_lm: Callable[..., FakeLM], ask: Callable[..., str]) -> None:
    server = refusing(fake_lm(), no_completion_tokens)
    for engine in ("litellm", "native"):
        ask(LMConfig(model="openai/own", api_base=server.url, retries=0, engine=engine, temperature=0.1))
    ask(LMConfig(model="hosted_vllm/own", api_base=server.url, retries=0))
    assert all(body["max_tokens"] == 760 for body in server.requests)
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    "said",
    ["The prompt was filtered: content policy.", "max_tokens is too large: 9000. This model supports at most 4096"],
)
def test_a_request_refused_for_another_reason_is_not_sent_again(
    said: str, fake_lm: Callable[..., FakeLM], ask: Callable[..., str]
) -> None:
    server = fake_lm(lambda messages: (400, said))
    with pytest.raises(dspy.utils.exceptions.DSPyError):
        ask(LMConfig(model="openai/own", api_base=server.url, retries=0))
    asked = [request for request in server.requests if "Which?" in str(request["messages"])]
    assert len(asked) == 1  # besides one harmless request, which tells a refused text from an endpoint that refuses all
    assert len(server.requests) == 2


def test_an_answer_that_was_cut_is_asked_for_once_more_with_more_room(
    fake_lm: Callable[..., FakeLM], ask: Callable[..., str], tmp_path: Path
) -> None:
    server = fake_lm()
    thought = {"content": "", "reasoning_content": "Hm."}

    def answer(messages: list[dict[str, Any]]) -> tuple[Any, ...]:
        room = server.requests[-1]["max_tokens"]
        return (200, BLUE) if room > need else (200, thought if need == 700 else '{"answer": "bl', "length")

    server.answer = answer
    for need, asked in ((700, [100, 800]), (150, [100, 200])):
        config = LMConfig(model="openai/own", api_base=server.url, retries=0, max_tokens=100, temperature=need / 1000)
        server.requests.clear()
        assert ask(config) == "blue"
        assert [body["max_tokens"] for body in server.requests] == asked * 2
        server.requests.clear()
        assert ask(config) == "blue"  # from the ledger, the answer that was cut too
        assert not server.requests


def test_a_reflection_that_was_cut_is_no_answer(
    fake_lm: Callable[..., FakeLM], ask: Callable[..., str], tmp_path: Path
) -> None:
    terms = Terms("reflection", repeats=True, whole=True)
    for message, finish, why in (
        ({"content": '{"answer": "Write about'}, "length", "cut after 400 tokens; raise reflection.max_tokens"),
        ({"content": '{"answer": "a"}\n```\nWrite'}, "stop", "inside a code fence"),
        ({"content": "<think>Perhaps"}, "stop", "the answer has thinking and no text"),
    ):
        server = fake_lm(lambda messages, message=message, finish=finish: (200, message, finish))
        with pytest.raises(dspy.utils.exceptions.DSPyError, match=why):
            ask(LMConfig(model="openai/own", api_base=server.url, retries=0, max_tokens=200), terms=terms)
    assert all(row["error"] for row in read_rows(tmp_path / "calls.jsonl"))


def test_the_room_follows_from_the_length_asked_for() -> None:
    assert room_for(LMConfig(model="openai/own"), 200) == 3 * 200 + 160
    assert room_for(LMConfig(model="openai/own"), 200, 3) == 3 * 760
    assert room_for(LMConfig(model="openai/own", max_tokens=50), 200, 3) == 150
    assert room_for(LMConfig(model="openai/gpt-5-mini", max_tokens=50), 200, 3) == 16000
    assert room_for(LMConfig(model="openai/gpt-3.5-turbo"), 200, 30) == 4096


@pytest.mark.parametrize("negatives", [1, 3, 40])
def test_reasoning_models_are_asked_as_they_take_it(
    negatives: int, fake_lm: Callable[..., FakeLM], tmp_path: Path
) -> None:
    server = fake_lm(lambda messages: (200, BLUE))
    ledger = Ledger(tmp_path / "calls.jsonl")
    lm = LanguageModel.open(LMConfig(model="openai/gpt-5-mini", api_base=server.url, retries=0), ledger)
    with purpose("q"), dspy.context(lm=lm.lm_for(1, negatives), adapter=lm.adapter):
        assert dspy.Predict(Ask)(question="Which?").answer == "blue"
    ledger.close()
    (body,) = server.requests
    assert body["max_completion_tokens"] == max(16000, 760 * negatives)  # the least of these models, or room for all
    assert "temperature" not in body
    assert "max_tokens" not in body


EXTRA = {"top_p": 0.9, "min_p": 0.1, "seed": 7, "reasoning_effort": "low", "extra_headers": {"X-Route": "a", "X-Token": "$PLANTED"}}  # fmt: skip


def with_headers(server: FakeLM) -> list[dict[str, str]]:
    """The headers of each request to the server from now on, by lower-case name."""
    seen: list[dict[str, str]] = []
    handler: type[BaseHTTPRequestHandler] = server.server.RequestHandlerClass  # type: ignore[assignment]
    before = handler.do_POST  # type: ignore[attr-defined]

    def do_POST(self: BaseHTTPRequestHandler) -> None:
        seen.append({name.lower(): value for name, value in self.headers.items()} | {"path": self.path})
        before(self)

    handler.do_POST = do_POST  # type: ignore[attr-defined]
    return seen


def test_further_parameters_are_sent_and_are_part_of_the_key(
    fake_lm: Callable[..., FakeLM], ask: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED", "planted-route-token")
    server = fake_lm(lambda messages: (200, BLUE))
    headers = with_headers(server)
    for model in ("openai/own", "hosted_vllm/own"):
        config = LMConfig(model=model, api_base=server.url, retries=0, extra=EXTRA)
        ask(config)
        body = server.requests[-1]
        assert {name: body[name] for name in ("top_p", "min_p", "seed", "reasoning_effort")} == {
            name: EXTRA[name] for name in ("top_p", "min_p", "seed", "reasoning_effort")
        }
        assert (headers[-1]["x-route"], headers[-1]["x-token"]) == ("a", "planted-route-token")
    before = len(server.requests)
    ask(config)
    assert len(server.requests) == before
    monkeypatch.setenv("PLANTED", "another-token-of-the-same")  # a key that was changed decides no answer
    ask(config)
    assert len(server.requests) == before
    ask(config.model_copy(update={"extra": {**EXTRA, "top_p": 0.8}}))
    assert len(server.requests) == before + 2
    assert "planted-route-token" not in (tmp_path / "calls.jsonl").read_text()


def test_further_parameters_reach_the_native_client(fake_lm: Callable[..., FakeLM], ask: Callable[..., str]) -> None:
    server = fake_lm(lambda messages: (200, BLUE))
    ask(LMConfig(model="openai/own", api_base=server.url, engine="native", extra={"top_p": 0.9, "min_p": 0.1}))
    assert (server.requests[-1]["top_p"], server.requests[-1]["min_p"]) == (0.9, 0.1)
    with pytest.raises(ConfigError, match=r"lm\.extra\.extra_headers; set lm\.engine=litellm"):
        ask(LMConfig(model="openai/own", api_base=server.url, engine="native", extra={"extra_headers": {"a": "b"}}))


def test_settings_that_have_a_name_of_their_own_are_not_taken_twice(ask: Callable[..., str]) -> None:
    with pytest.raises(ConfigError, match=r"lm\.extra\.temperature has a setting of its own; set lm\.temperature"):
        ask(LMConfig(model="openai/own", extra={"temperature": 0}))
    with pytest.raises(ConfigError, match=r"names \$NOT_THERE, which is not set"):
        ask(LMConfig(model="openai/own", api_base="http://$NOT_THERE/v1"))


@pytest.mark.parametrize(
    ("variable", "model"),
    [
        ("OPENAI_BASE_URL", "openai/own"),
        ("OPENAI_API_BASE", "openai/own"),
        ("HOSTED_VLLM_API_BASE", "hosted_vllm/own"),
        ("LM_STUDIO_API_BASE", "lm_studio/own"),
        ("DEEPSEEK_API_BASE", "deepseek/deepseek-chat"),
    ],
)
def test_an_address_from_the_environment_is_part_of_the_key(
    variable: str,
    model: str,
    fake_lm: Callable[..., FakeLM],
    ask: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    for name in ("one", "two", "one"):
        server = fake_lm(lambda messages, name=name: (200, json.dumps({"answer": name})))
        monkeypatch.setenv(variable, server.url)
        for engine in ("litellm", "native") if model.startswith("openai/") else ("litellm",):
            assert ask(LMConfig(model=model, retries=0, engine=engine)) == name  # and no key is missed
    assert len({row["model"] for row in read_rows(tmp_path / "calls.jsonl")}) == 3


def test_an_address_and_a_key_stay_with_their_provider(fake_lm: Callable[..., FakeLM]) -> None:
    values = [
        "lm.model=openai/own",
        "lm.api_base=http://mine/v1",
        "lm.max_rpm=9",
        "lm.extra.top_p=0.5",
        "lm.concurrency=7",
    ]
    config = load_config(None, [*values, "judge.model=anthropic/claude-haiku-4-5"], {"reflection.model": "openai/big"})
    judge, reflection = judge_settings(config), reflection_settings(config)
    assert (judge.api_base, judge.max_rpm, judge.extra, judge.concurrency) == (None, 0, {}, 7)
    assert (judge.temperature, reflection.temperature) == (0, 1)
    assert (reflection.api_base, reflection.max_rpm, reflection.extra) == ("http://mine/v1", 9, {"top_p": 0.5})
    own = load_config(None, [*values, "reflection.model=openai/big", "reflection.api_base=", "judge.max_tokens=9"])
    assert reflection_settings(own).api_base == ""
    assert (judge_settings(own).model, judge_settings(own).max_tokens) == ("openai/own", 9)
    assert list(lms_of(config)) == ["writer", "judge", "reflection"]
    old = load_config(None, ["lm.model=openai/own", "compile.reflection=openai/big", "compile.reflection_tokens=900"])
    assert (old.reflection.model, old.reflection.max_tokens) == ("openai/big", 900)


def test_each_role_calls_its_own_server(
    fake_lm: Callable[..., FakeLM], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-planted-secret")
    writer, judge = fake_lm(lambda messages: (200, BLUE)), fake_lm(lambda messages: (200, BLUE))
    sent = with_headers(writer)
    values = [
        "lm.model=openai/own",
        f"lm.api_base={writer.url}",
        "judge.model=hosted_vllm/judge",
        f"judge.api_base={judge.url}",
    ]
    roles = Roles(tmp_path, load_config(None, values), Progress(quiet=True))
    for lm in (roles.writer, roles.judge_lm, roles.reflection):
        with purpose("q"), dspy.context(lm=lm.lm, adapter=lm.adapter):
            dspy.Predict(Ask)(question="Which?")
    roles.close()
    assert [body["model"] for body in writer.requests] == ["own", "own"]
    assert [body["model"] for body in judge.requests] == ["judge"]
    assert "sk-ant" not in str(sent)


def test_a_secret_in_an_address_reaches_no_file(fake_lm: Callable[..., FakeLM], tmp_path: Path) -> None:
    url = fake_lm(lambda messages: (200, BLUE)).url.replace("://", "://user:hunter2secret@")
    config = load_config(
        None, ["lm.model=openai/own", f"lm.api_base={url}?api_key=sk-hidden", "lm.extra.extra_headers.X-Key=sk-hidden"]
    )
    found = probe(config.lm.model_copy(update={"api_base": url}), tmp_path)
    assert found.answers, found.error
    kept = "".join(path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()) + to_toml(config)
    kept += "\n".join(found.lines())
    assert "hunter2secret" not in kept
    assert "sk-hidden" not in kept
    (tmp_path / "config.toml").write_text(to_toml(config))
    again = load_config(tmp_path / "config.toml")
    with pytest.raises(
        ConfigError, match=r"the secret in lm\.api_base was masked when it was saved; give lm\.api_base again"
    ):
        probe(again.lm, tmp_path)


def test_secrets_by_every_usual_name_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    names = (
        "WATSONX_APIKEY",
        "AWS_BEARER_TOKEN_BEDROCK",
        "LITELLM_MASTER_PASSWORD",
        "AWS_SECRET_ACCESS_KEY",
        "MY_KEY_2",
    )
    for name in (*names, "HF_TOKEN", "DB_PASSWD", "AZURE_CREDENTIALS"):
        monkeypatch.setenv(name, f"planted-{name.lower()}")
    said = one_line(ValueError(" ".join(os.environ[name] for name in names) + " http://u:p4ssword@host/?token=t0ken"))
    assert said == "ValueError: *** *** *** *** *** http://***@host/?token=***"


def test_the_embedded_servers_client_goes_past_proxies(
    fake_lm: Callable[..., FakeLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dspy.lm15 import request_from_openai_chat

    from syneg.llm.endpoints import LiteLLMClient

    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    server = fake_lm(lambda messages: (200, BLUE))
    client = LiteLLMClient(LMConfig(model="local/any", api_base=server.url, timeout_s=5), embedded=True)
    asked = request_from_openai_chat({"model": "local/any", "messages": [{"role": "user", "content": "x"}]})
    assert client.complete(asked).text == BLUE


def test_faults_of_the_server_are_not_taken_for_refusals(
    fake_lm: Callable[..., FakeLM], ask: Callable[..., str]
) -> None:
    server = fake_lm(lambda messages: Fault(429, body=b'{"error": {"message": "system role: only 3 calls a minute"}}'))
    with pytest.raises(dspy.utils.exceptions.DSPyError):
        ask(LMConfig(model="openai/own", api_base=server.url, retries=0))
    assert len(server.requests) == 1
