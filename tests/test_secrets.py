"""A key or password never reaches a file of the run, however the settings give it and wherever the server repeats it."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import dspy
import pytest
from conftest import FakeLM, Server

from syneg.core.config import Config, LMConfig
from syneg.core.errors import ConfigError, one_line
from syneg.core.secrets import masked, masked_values
from syneg.core.settings import load_config
from syneg.core.toml import to_toml
from syneg.llm.calls import purpose
from syneg.llm.ledger import Ledger
from syneg.llm.lms import LanguageModel


@pytest.fixture
def echo() -> Iterator[str]:
    """A server that refuses every call and repeats the headers in its error message, as some gateways do."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            names = ("authorization", "x-api-key", "x-corp")
            said = json.dumps({"error": {"message": f"wrong: {[self.headers.get(name) for name in names]}"}}).encode()
            self.send_response(400)
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *args: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


GIVEN: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "a key": ("", {"api_key": "sk-literal-1"}, ("sk-literal-1",)),
    "headers": (
        "", {"extra_headers": {"X-Api-Key": "gateway-2", "Authorization": "Bearer bearer-3"}}, ("gateway-2", "bearer-3")
    ),
    "a variable of any name": ("", {"extra_headers": {"X-Corp": "$CORP_LLM"}}, ("corp-value-4",)),
    "a login": ("me:hunter5@", {}, ("hunter5", "bWU6aHVudGVyNQ==")),
    "a login with an @": ("me:hunt@er6@", {}, ("er6@", "bWU6aHVudEBlcjY=")),
}  # fmt: skip


@pytest.mark.parametrize("engine", ["litellm", "native"])
@pytest.mark.parametrize("way", GIVEN)
def test_no_secret_of_the_settings_is_in_ledger_or_message(
    way: str, engine: str, echo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    login, extra, secrets = GIVEN[way]
    if engine == "native" and "extra_headers" in extra:
        pytest.skip("the native client takes no headers")
    monkeypatch.setenv("CORP_LLM", "corp-value-4")
    ledger = Ledger(tmp_path / "calls.jsonl")
    address = echo.replace("//", f"//{login}")
    config = LMConfig(model="openai/fake", api_base=address, retries=0, engine=engine, extra=extra)
    lm = LanguageModel.open(config, ledger)
    with (
        purpose("q"),
        dspy.context(lm=lm.lm, adapter=lm.adapter),
        pytest.raises(dspy.utils.exceptions.DSPyError) as error,
    ):
        dspy.Predict("question -> answer")(question="Which?")
    ledger.close()
    written = (tmp_path / "calls.jsonl").read_text() + one_line(error.value)
    assert "error" in written
    assert [secret for secret in secrets if secret in written] == []


@pytest.mark.parametrize("engine", ["litellm", "native"])
@pytest.mark.parametrize("login", ["me:hunt%40er6", "me:hunt@er6", "token-alone-7"])
def test_a_login_in_the_address_is_sent_and_never_written(
    login: str, engine: str, fake_lm: Callable[..., FakeLM], tmp_path: Path
) -> None:
    server = fake_lm(lambda messages: (200, '{"answer": "blue"}'))
    ledger = Ledger(tmp_path / "calls.jsonl")
    address = server.url.replace("//", f"//{login}@")
    lm = LanguageModel.open(LMConfig(model="openai/fake", api_base=address, retries=0, engine=engine), ledger)
    with purpose("q"), dspy.context(lm=lm.lm, adapter=lm.adapter):
        assert dspy.Predict("question -> answer")(question="Which?").answer == "blue"
    ledger.close()
    sent = base64.b64encode(b"me:hunt@er6" if "me:" in login else b"token-alone-7:").decode()
    assert server.headers[-1].get_all("Authorization") == [f"Basic {sent}"]
    assert masked(f"wrong {sent}") == "wrong ***"
    written = (tmp_path / "calls.jsonl").read_text()
    assert [secret for secret in ("er6", "token-alone", sent) if secret in written] == []


def test_a_password_may_hold_an_at_sign() -> None:
    assert masked("http://me:a@b@host/v1?x=c@d") == "http://***@host/v1?x=c@d"


def test_a_key_is_masked_as_an_address_carries_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted/secret+9=")
    assert masked("GET /v1/me/sk-planted%2Fsecret%2B9%3D: no such key sk-planted/secret+9=") == (
        "GET /v1/me/***: no such key ***"
    )


@pytest.mark.parametrize("around", ["{}", "me:{}", "api:{}", "{}:", "me:{}:x", "a:{}é"])
@pytest.mark.parametrize("coding", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_key_is_masked_in_a_basic_header(
    around: str, coding: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted?>secret~~9")
    sent = coding(around.format("sk-planted?>secret~~9").encode()).decode()
    assert masked(f"wrong header 'Basic {sent}' of 3") == "wrong header 'Basic ***' of 3"


@pytest.mark.parametrize("part", ["sk-proj-0123456789ab", "456789abcdefghi", "6789abcdefghijk~"])
def test_half_of_a_key_is_masked(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-proj-0123456789abcdefghijk~")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/home/me/project/key.json")
    assert masked(f"no such key: {part}… in /home/me/project/calls.jsonl") == (
        "no such key: ***… in /home/me/project/calls.jsonl"
    )
    assert masked("keys begin with sk-proj-01") == "keys begin with sk-proj-01"


def test_what_is_saved_keeps_references_and_no_secrets() -> None:
    kept = {"extra_headers": {"Authorization": "Basic $CORP"}, "api_key": "$KEY"}
    assert masked_values(kept) == kept
    assert masked_values({"api_keys": ["one-1", "two-2"]}) == {"api_keys": ["***", "***"]}


def test_a_table_may_be_set_on_the_command_line() -> None:
    config = load_config(None, ['lm.extra={top_p = 0.9, extra_headers = {X-Api-Key = "gateway-7"}}'])
    assert config.lm.extra == {"top_p": 0.9, "extra_headers": {"X-Api-Key": "gateway-7"}}
    assert "gateway-7" not in to_toml(config)
    assert isinstance(config, Config)
    with pytest.raises(ConfigError) as error:
        load_config(None, ['judge.max_tokens={api_key = "gateway-8"}'])
    assert "gateway-8" not in str(error.value)
