"""An endpoint that redirects, by every client: nothing goes to another host, and the endpoint is asked once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import FakeLM, Fault
from dspy.utils.exceptions import DSPyError

from syneg.core.config import LMConfig
from syneg.core.errors import BackendError
from syneg.llm.budget import Budget
from syneg.llm.engine import Terms
from syneg.llm.ledger import Ledger
from syneg.llm.lms import LanguageModel

MODELS = ("openai/own", "hosted_vllm/own", "anthropic/claude-haiku-4-5", "ollama_chat/own", "lm_studio/own")
OTHERS = ("azure/own", "gemini/gemini-2.0-flash", "cohere_chat/command-r", "nvidia_nim/own", "azure_text/own",
          "bedrock/converse/anthropic.claude-3-haiku-20240307-v1:0")  # fmt: skip


@pytest.mark.parametrize("status", [301, 307])
@pytest.mark.parametrize(
    ("model", "engine"),
    [(model, "litellm") for model in (*MODELS, *OTHERS)] + [("openai/own", "native")],
    ids=lambda name: name,
)
def test_a_redirect_is_not_followed(
    model: str,
    engine: str,
    status: int,
    fake_lm: Callable[..., FakeLM],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ANTHROPIC", "AZURE", "GEMINI", "COHERE", "NVIDIA_NIM"):
        monkeypatch.setenv(f"{name}_API_KEY", "sk-planted")
    for name in ("AZURE_API_VERSION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "2024-02-01")
    monkeypatch.setenv("AWS_REGION_NAME", "us-east-1")
    other = fake_lm()
    there = f"{other.url}/chat/completions?token=planted-token"
    server = fake_lm(lambda messages: Fault(status, body=b"", headers={"location": there}))
    budget = Budget(tokens=100_000)
    config = LMConfig(model=model, api_base=server.url, engine=engine, retries=3)
    with contextlib.closing(Ledger(tmp_path / "calls.jsonl")) as ledger:
        lm = LanguageModel.open(config, ledger, terms=Terms(budget=budget))
        with pytest.raises(Exception, match="redirects to") as caught:
            lm.lm("what is it?")
    error = caught.value.__cause__ or caught.value
    assert isinstance(error, BackendError)
    assert f"redirects to '{other.url}/chat/completions?token=***'; set api_base to the address" in str(error)
    assert (len(server.requests), len(other.headers)) == (1, 0)
    assert (budget.used["calls"], budget.used["tokens"]) == (1, 0)


@pytest.mark.parametrize("model", [*MODELS, "openai/gpt-4o-mini"])
def test_the_key_reaches_an_address_of_ones_own(
    model: str, fake_lm: Callable[..., FakeLM], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LM_STUDIO_API_KEY", "sk-of-lm-studio")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-planted-anthropic")
    keys = {"openai/own": "sk-planted-secret-key", "lm_studio/own": "sk-of-lm-studio"}
    server = fake_lm(lambda messages: (200, "well"))
    ledger = Ledger(tmp_path / "calls.jsonl")
    for extra, key in (({}, keys.get(model, "")), ({"api_key": "sk-from-the-settings"}, "sk-from-the-settings")):
        config = LMConfig(model=model, api_base=server.url, retries=0, extra=extra, temperature=len(extra) / 10)
        lm = LanguageModel.open(config, ledger)
        with contextlib.suppress(DSPyError):  # some read answers of another form
            assert str(lm.lm("what is it?")[0]) == "well"
        assert key in str(server.headers[-1])
    assert len(server.requests) == 2
    ledger.close()


@pytest.mark.parametrize("model", ["openai/own", "nvidia_nim/own", "azure/own", "gemini/gemini-2.0-flash"])
def test_a_client_retries_no_error_by_itself(
    model: str, fake_lm: Callable[..., FakeLM], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AZURE", "GEMINI", "NVIDIA_NIM"):
        monkeypatch.setenv(f"{name}_API_KEY", "sk-planted")
    monkeypatch.setenv("AZURE_API_VERSION", "2024-02-01")
    server, budget = fake_lm(lambda messages: Fault(503)), Budget(tokens=100_000)
    with contextlib.closing(Ledger(tmp_path / "calls.jsonl")) as ledger:
        config = LMConfig(model=model, api_base=server.url, retries=0)
        lm = LanguageModel.open(config, ledger, terms=Terms(budget=budget))
        with pytest.raises(Exception, match="out of order"):
            lm.lm("what is it?")
    assert (len(server.requests), budget.used["calls"]) == (1, 1)
