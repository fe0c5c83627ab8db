from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner
from conftest import FakeLM
from dspy.lm15 import Config as CallConfig
from dspy.lm15 import Message, Request

from syneg.cli.main import cli
from syneg.core.config import Config, LMConfig
from syneg.core.errors import ConfigError
from syneg.core.settings import load_config
from syneg.llm.addresses import origin_of, provider_of
from syneg.llm.api_keys import missing_key
from syneg.llm.endpoints import Endpoint
from syneg.run.lm_checks import check_keys
from syneg.run.pipeline import STAGES

_PROBE = """
import sys, click
from syneg.cli.main import cli
try:
    cli(sys.argv[1:], standalone_mode=False)
except Exception as error:
    print(error)
print("heavy:", *(name for name in ("torch", "dspy", "litellm", "transformers") if name in sys.modules))
"""


def test_a_missing_key_is_said_before_anything_heavy_is_loaded(tmp_path: Path, beir: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    command = ["run", "--lm", "openai/gpt-4o-mini", "--dataset", str(beir), "--run", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, *command],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=True,
    )
    assert "no key: OPENAI_API_KEY (for lm.model) is not set; export OPENAI_API_KEY" in done.stdout
    assert done.stdout.splitlines()[-1] == "heavy:"
    assert not (tmp_path / "run").exists()


def test_the_provider_openai_is_known_without_litellm(monkeypatch: pytest.MonkeyPatch) -> None:
    import litellm

    models = ("openai/gpt-4o-mini", "openai/org/model", "openai/ft:gpt-4o:a:b")
    assert {litellm.get_llm_provider(model)[1] for model in models} == {"openai"}
    with monkeypatch.context() as proxy:
        proxy.setenv("USE_LITELLM_PROXY", "true")
        assert provider_of(models[0]) == litellm.get_llm_provider(models[0])[1] == "litellm_proxy"
    monkeypatch.setitem(sys.modules, "litellm", None)
    assert {provider_of(model) for model in models} == {"openai"}


def test_a_dry_run_before_does_not_hide_a_missing_key(
    tmp_path: Path, beir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("OPENAI_")]:
        monkeypatch.delenv(name)
    (tmp_path / "run" / "ledger").mkdir(parents=True)
    (tmp_path / "run" / "ledger" / "calls.jsonl").touch()  # a dry run leaves it empty
    command = ["run", "--lm", "openai/gpt-4o-mini", "--dataset", str(beir), "--run", str(tmp_path / "run")]
    said = CliRunner().invoke(cli, command)
    assert "no key: OPENAI_API_KEY (for lm.model) is not set" in str(said.exception)


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({"lm.model": "openai/gpt-4o-mini"}, "OPENAI_API_KEY"),
        ({"lm.model": "openai/x", "lm.api_base": "http://host/v1"}, ""),
        ({"lm.model": "local/smollm2-135m", "judge.use": "on", "judge.model": "anthropic/claude"}, "ANTHROPIC_API_KEY"),
        (
            {"lm.model": "local/smollm2-135m", "judge.model": "anthropic/claude"},
            "",
        ),  # asked only if trusted to be worth it
        ({"lm.model": "openai/x", "generate.given": "rows.jsonl"}, ""),
        ({"lm.model": "openai/x", "executor.replay": "calls.jsonl"}, ""),
        ({"lm.model": "bedrock/x"}, ""),
    ],
)
def test_only_keys_that_are_needed_for_certain_are_asked_for(
    settings: dict[str, Any], missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    config = load_config(None, (), settings)
    if not missing:
        check_keys(config, STAGES["generate"].asks(config))
        return
    with pytest.raises(ConfigError, match=missing):
        check_keys(config, STAGES["generate"].asks(config))
    mined = config.model_copy(update={"train": config.train.model_copy(update={"arms": ("mined",)})})
    check_keys(mined, STAGES["train"].asks(mined))
    monkeypatch.setenv(missing, "sk-planted")
    check_keys(config, STAGES["generate"].asks(config))


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({"compile.target": "sampler", "train.arms": ("mined",)}, ""),
        ({"compile.target": "sampler", "train.arms": ("mined",), "compile.optimizer": "search"}, ""),
        ({"compile.target": "sampler"}, "lm.model"),  # the arm hybrid needs written negatives
        ({"compile.target": "queries", "train.arms": ("mined",)}, "lm.model"),
        ({"compile.target": "reader", "reader.model": "openai/x", "lm.model": "anthropic/y"}, "reader.model"),
        ({"compile.target": "reader", "reader.model": "local/smollm2-135m", "reflection.model": "local/smollm2-135m"}, ""),
    ],
)  # fmt: skip
def test_compiling_asks_for_the_keys_of_its_target_only(
    settings: dict[str, Any], missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    config = load_config(None, (), {"lm.model": "openai/gpt-4o-mini", **settings})
    found = ""
    try:
        check_keys(config, STAGES["compile"].asks(config))
    except ConfigError as error:
        found = str(error)
    assert f"(for {missing})" in found if missing else not found


def test_a_server_by_the_environment_may_need_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://me:hunter2@host:8000/v1")
    assert missing_key(LMConfig(model="openai/x")) == ""
    assert origin_of(LMConfig(model="openai/x")) == "http://***@host:8000/v1 (from OPENAI_BASE_URL)"
    assert origin_of(LMConfig(model="groq/x")) == "the provider's own address"
    assert origin_of(Config().lm).startswith("embedded")


def test_the_doctor_shows_where_each_lm_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    flags = ["--lm", "openai/x", "--api-base", "http://me:hunter2@host:8000/v1", "--judge-lm", "anthropic/claude"]
    said = CliRunner().invoke(cli, ["doctor", *flags])
    assert said.exit_code == 1
    assert "openai/x, http://***@host:8000/v1 (api_base)" in said.output
    assert "anthropic/claude, the provider's own address; ANTHROPIC_API_KEY is not set" in said.output
    assert "hunter2" not in said.output
    assert "1 problems" not in said.output


def test_the_doctor_shows_the_lms_of_near_misses_and_of_lists_in_doubt() -> None:
    named = [
        f"--set={setting}=openai/{name}" for setting, name in (("boundary.model", "near"), ("reader.strong", "big"))
    ]
    said = " ".join(CliRunner().invoke(cli, ["doctor", *named]).output.split())
    assert "LM: boundary openai/near" in said and "LM: strong reader openai/big" in said
    wrong = CliRunner().invoke(cli, ["doctor", "--set=reader.strong=opnai/big"]).output
    assert "(reader.strong); did you mean 'openai'?" in wrong


def test_the_doctor_finds_an_unknown_provider() -> None:
    said = CliRunner().invoke(cli, ["doctor", "--lm", "opnai/x"])
    assert said.exit_code == 1
    assert "LM: writer" in said.output and "(lm.model); did you mean 'openai'?" in said.output


class Embedded:
    """Stands in for the child that serves an embedded LM."""

    started: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, gguf: Path, **options: Any) -> None:
        Embedded.started.append(options)
        self.alive, self.url = True, Embedded.address

    address = ""

    def share_prefix(self) -> None: ...

    def stop(self) -> None: ...


def test_an_embedded_server_that_died_is_started_again_with_its_context(
    fake_lm: Callable[..., FakeLM], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = fake_lm()
    monkeypatch.setattr("syneg.llm.endpoints.LocalServer", Embedded)
    monkeypatch.setattr(Embedded, "address", server.url.removesuffix("/v1"))
    Embedded.started.clear()
    config = LMConfig(model="local/smollm2-135m", extra={"num_ctx": 8192}, concurrency=2)
    endpoint = Endpoint(config, tmp_path / "x.gguf")
    request = Request(model="local/smollm2-135m", messages=(Message.user("hi"),), config=CallConfig(max_tokens=9))
    endpoint.complete(request)
    assert Embedded.started[0]["context"] == 8192
    assert "num_ctx" not in server.requests[0]
    endpoint._server.alive = False  # type: ignore[union-attr]
    endpoint.complete(request)
    assert len(Embedded.started) == 2
    assert len(server.requests) == 2
    endpoint.close()


@pytest.mark.parametrize(
    ("stage", "settings", "asked"),
    [
        ("mine", {}, set()),
        ("mine", {"collection.dataset": "", "collection.corpus": "docs.jsonl"}, {"lm"}),
        ("read", {}, {"reader"}),
        ("read", {"reader.cross_encoder": "some/model"}, set()),
        ("generate", {}, {"lm"}),
        ("train", {"train.arms": ("mined",)}, set()),
        ("train", {"train.arms": ("mined", "verified")}, {"reader"}),
        ("train", {"train.arms": ("mined", "verified"), "reader.given": "grades.jsonl"}, set()),
        ("train", {"train.arms": ("mined", "verified"), "reader.model": "local/smollm2-135m"}, set()),
        ("train", {"train.arms": ("mined", "verified"), "reader.use": "off"}, set()),
    ],
)
def test_a_stage_asks_only_the_lms_that_it_is_sure_to_call(
    stage: str, settings: dict[str, Any], asked: set[str]
) -> None:
    config = load_config(None, (), {"lm.model": "openai/gpt-4o-mini", **settings})
    assert STAGES[stage].asks(config) == asked
