from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import FakeLM, Fault, write_negative

from syneg.cli.backends import lms_of, probe
from syneg.cli.doctor import examine
from syneg.cli.main import cli
from syneg.core.config import LMConfig
from syneg.core.errors import ConfigError
from syneg.core.progress import Progress
from syneg.core.settings import load_config
from syneg.core.storage import read_rows
from syneg.llm.endpoints import native_client
from syneg.run.pipeline import Run

RIGHT = json.dumps({"colour": "green", "wheels": 4, "animals": ["horse", "mule"]})


@pytest.mark.parametrize(
    ("model", "answer", "schema", "right"),
    [
        ("openai/gpt-4o-mini", RIGHT, "enforced", True),
        ("openai/fake", RIGHT, "taken", True),
        ("openai/fake", RIGHT.replace("4", "9"), "taken", False),
        ("openai/fake", "It is green.", "broken", False),
    ],
)
def test_one_typed_call_shows_what_a_backend_does(
    model: str, answer: str, schema: str, right: bool, fake_lm: Callable[..., FakeLM], tmp_path: Path
) -> None:
    server = fake_lm(lambda messages: (200, answer))
    found = probe(LMConfig(model=model, api_base=server.url, retries=0), tmp_path)
    assert (found.answers, found.schema, found.right) == (True, schema, right)
    assert found.tokens_per_s > 0
    assert found.price == ("$0.15 in, $0.60 out" if "mini" in model else "unknown")


def test_a_backend_that_does_not_answer_says_why(fake_lm: Callable[..., FakeLM], tmp_path: Path) -> None:
    server = fake_lm(lambda messages: (401, "wrong key"))
    found = probe(LMConfig(model="openai/fake", api_base=server.url), tmp_path)
    assert not found.answers
    assert "wrong key" in found.error
    assert len(server.requests) == 1


def test_each_role_with_an_lm_of_its_own_is_asked(fake_lm: Callable[..., FakeLM]) -> None:
    server = fake_lm(lambda messages: (200, RIGHT))
    flags = ["--lm", "openai/fake", "--judge-lm", "openai/judge", "--api-base", server.url]
    said = CliRunner().invoke(cli, ["backends", *flags])
    assert said.exit_code == 0, said.output
    assert "writer: openai/fake at http://127.0.0.1" in said.output
    assert "judge: openai/judge" in said.output
    assert "sk-planted" not in said.output
    assert list(lms_of(load_config(None, (), {"lm.model": "a", "judge.model": "a"}))) == ["writer"]


def test_the_doctor_finds_a_stolen_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED_API_KEY", "sk-0123456789")
    well = examine([str(tmp_path)])
    assert not [one for one in well if one.level == "bad"]
    assert any("PLANTED_API_KEY" in one.text for one in well)
    assert not any("sk-0123456789" in one.text for one in well)
    (tmp_path / "litellm_init.pth").write_text("import os")
    monkeypatch.setattr("syneg.cli.doctor.version", lambda name: "1.82.8" if name == "litellm" else "1.0")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    found = examine([str(tmp_path)])
    assert sum(one.level == "bad" for one in found) == 2
    assert next(one for one in found if one.name == "threads").level == "slow"


def opened(url: str, settings: Callable[..., list[str]], folder: Path, **more: Any) -> Run:
    return Run(folder, load_config(None, settings(url, **more)), Progress(quiet=True))


def test_nothing_is_estimated_where_no_lm_is_called(settings: Callable[..., list[str]], tmp_path: Path) -> None:
    given = tmp_path / "given.jsonl"
    given.write_text(json.dumps({"query_id": "q1", "text": "the socket is merged twice"}))
    found = opened("http://127.0.0.1:9", settings, tmp_path / "run", **{"generate.given": given}).estimate()
    assert found["parts"][-1]["calls"]["most"] == 0
    assert "no LM would be called" in found["table"]


def test_the_native_client_writes_the_same_and_keeps_the_same_rules(
    tmp_path: Path, settings: Callable[..., list[str]], fake_lm: Callable[..., FakeLM]
) -> None:
    asked = set[str]()

    def answer(messages: list[dict[str, Any]]) -> tuple[Any, ...] | Fault:
        said = str(messages)
        if len(said) % 4 == 0 and said not in asked:
            asked.add(said)
            return Fault(429, headers={"retry-after": "0"})
        return write_negative(messages)

    server = fake_lm(answer)
    found = {}
    for engine in ("litellm", "native"):
        asked.clear()
        overrides = settings(server.url, **{"lm.engine": engine, "lm.retries": 2, "generate.pairs": 16})
        Run(tmp_path / engine, load_config(None, overrides), Progress(quiet=True)).until("generate")
        found[engine] = [(row["text"], row["calls"]) for row in read_rows(tmp_path / engine / "negatives.jsonl")]
        assert asked
    assert found["native"] == found["litellm"]
    with pytest.raises(ConfigError, match="native client does not know 'watsonx/x'"):
        native_client(LMConfig(model="watsonx/x", engine="native"))


def test_verbose_prints_each_call_and_a_stage_its_dollars(
    tmp_path: Path,
    settings: Callable[..., list[str]],
    fake_lm: Callable[..., FakeLM],
    capsys: pytest.CaptureFixture[str],
) -> None:
    overrides = settings(fake_lm().url, **{"generate.pairs": 4})
    progress = Progress(verbose=True)
    Run(tmp_path / "run", load_config(None, overrides), progress).until("generate")
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("100 tokens in, 20 out, stop") == 4
    row = {
        "query_id": "q",
        "attempt": 0,
        "model": "m",
        "error": None,
        "input_tokens": 1,
        "output_tokens": 1,
        "finish_reason": "stop",
    }
    progress.call({**row, "usd": 1.5, "seconds": 0.1})
    progress.call({**row, "usd": None, "seconds": 0.1})
    with progress.stage("generate", "pairs") as line:
        line(1, 9)
    assert "$1.50" in capsys.readouterr().err
