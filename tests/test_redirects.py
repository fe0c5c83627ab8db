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


@pytest.mark.parametrize("status", [301, 307])
@pytest.mark.parametrize(
    ("model", "engine"), [(model, "litellm") for model in MODELS] + [("openai/own", "native")], ids=lambda name: name
)
def test_a_redirect_is_not_followed(
    model: str,
    engine: str,
    status: int,
    fake_lm: Callable[..., FakeLM],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-planted-anthropic")
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
