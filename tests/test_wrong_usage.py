"""What a user types wrongly on the command line, and what a program prints beside a result."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import FakeLM

from syneg.cli.main import cli

PRINTS = """
import dspy
from syneg.programs import SinglePrompt

class Prints(SinglePrompt):
    def forward(self, **ask):
        print("said by the program")
        return super().forward(**ask)

class Leaves(SinglePrompt):
    def forward(self, **ask):
        raise SystemExit(0)
"""


def said(args: list[str]) -> tuple[int, str]:
    found = CliRunner().invoke(cli, args)
    return found.exit_code, f"{found.output}{found.exception or ''}"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["rnu"], "no such command 'rnu'; did you mean 'run'?"),
        (["xyz"], "no such command 'xyz'; known: "),
        (["generat"], "did you mean 'generate'?"),
        (["write_queries"], "did you mean 'write-queries'?"),
        (["run", "--api-key", "sk-planted"], "no setting holds a key; export the provider's variable"),
        (["mine", "--run", ""], "is empty"),
        (["mine", "--config", ""], "is empty"),
        (["mine", "--run", __file__], "is a file"),
        (["report", "rnus"], "no such run folder: 'rnus'; did you mean 'runs'?"),
        (
            ["generate", "--batch", "import", "results.jsnol"],
            "no such file 'results.jsnol' (--batch import); did you mean",
        ),
        (["read", "--batch", "export", "runs"], "'runs' is a folder (--batch export); name a file in it"),
        (
            ["read", "--batch", "export", "beir/notes.txt"],
            "'beir/notes.txt' holds other lines than requests (--batch exp",
        ),
        (["run", "--queries", "results.jsonl"], "queries.examples is for a corpus without pairs"),
        (["report", "results.jsonl"], "'results.jsonl' is a file; name the folder of a run"),
        (["inspect", "runs"], "'runs' is no run folder; name one of the runs in it: runs/first, runs/second"),
        (["report", "beir"], "'beir' is no run folder: it has no config.toml"),
        (["mine", "--run", "beir"], "'beir' holds queries.jsonl and is no run folder; give a folder for the run alone"),
        (["mine", "--run", "."], "'.' holds runs and is no run folder; give a folder for the run alone"),
        (["inspect", "x"], "no such run folder: 'x'; check the path"),
        (["push", "rnus", "--to", "me/x"], "no such run folder: 'rnus'; did you mean 'runs'?"),
        (["export", "rnus", "--to", "beir"], "no such run folder: 'rnus'; did you mean 'runs'?"),
    ],
)
def test_wrong_usage_is_told_with_a_way_out(
    args: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    Path("results.jsonl").touch()
    for name in ("runs/first/config.toml", "runs/second/config.toml", "beir/queries.jsonl"):
        Path(name).parent.mkdir(parents=True)
        Path(name).touch()
    Path("beir/notes.txt").write_text("mine\n")
    code, text = said(args)
    assert code and says in text, text
    assert "api-base" not in text and [path.name for path in tmp_path.glob("*.json*")] == ["results.jsonl"]
    assert sorted(path.name for path in Path("beir").iterdir()) == ["notes.txt", "queries.jsonl"]
    assert Path("beir/notes.txt").read_text() == "mine\n"


@pytest.fixture
def generated(
    tmp_path: Path, fake_lm: Callable[..., FakeLM], settings: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], tuple[str, str]]:
    (tmp_path / "prints_and_leaves.py").write_text(PRINTS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)

    def build(name: str) -> tuple[str, str]:
        values = settings(fake_lm().url, **{"generate.program": f"prints_and_leaves:{name}", "generate.pairs": 2})
        args = ["generate", "--json", *(part for line in values for part in ("--set", line))]
        found = CliRunner().invoke(cli, args, catch_exceptions=False)
        assert found.exit_code == 0, found.output
        return found.stdout, found.stderr

    return build


def test_what_a_program_prints_does_not_reach_the_json(generated: Callable[[str], tuple[str, str]]) -> None:
    out, err = generated("Prints")
    assert json.loads(out)["accepted"] == 2
    assert "said by the program" in err


def test_a_program_that_leaves_is_a_failed_attempt_and_is_told(generated: Callable[[str], tuple[str, str]]) -> None:
    out, err = generated("Leaves")
    assert json.loads(out)["accepted"] == 0
    assert "unparseable answer 4, such as 'SystemExit: 0'" in " ".join(err.split())
