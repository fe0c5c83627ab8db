"""Wrong names end a run in one line, before anything is fetched, mined, called or written."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import FakeLM

from syneg.cli.doctor import examine
from syneg.cli.main import _remedy
from syneg.core.errors import BackendError, ConfigError, DataError, SynegError
from syneg.core.progress import Progress
from syneg.core.settings import load_config
from syneg.run.checks import check
from syneg.run.pipeline import STAGES, Run

Settings = Callable[..., list[str]]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("generate.program=nosuch", "unknown program 'nosuch'"),
        ("train.arms=[\"hybrid@program=nosuch\"]", "unknown program 'nosuch'"),
        ("boundary.program=nosuch", "unknown program 'nosuch'"),
        ("generate.given=nosuch.jsonl", "no such file 'nosuch.jsonl'"),
        ("collection.dataset=nosuch.csv", "no such file or folder: 'nosuch.csv'"),
        ("collection.dataset=./nosuch", "no such file or folder"),
        ("collection.dataset=nosuch.ndjson", r"collection.dataset\)"),
        ("collection.dataset=nosuch.JSONL.gz", r"collection.dataset\)"),
        ("collection.dataset=nosuch.TSV", r"collection.dataset\)"),
        ("collection.dataset=nosuch.tab", r"collection.dataset\)"),
        ("encoder.model=./nosuch", "no such folder './nosuch'"),
        ("lm.model=local/nosuch.gguf", "no such model file 'nosuch.gguf'"),
        ("lm.model=nosuch/model", r"does not know the provider of 'nosuch/model' \(lm.model\); write provider/model"),
        ("lm.model=opnai/model", r"'opnai/model' \(lm.model\); did you mean 'openai'\?"),
        ("lm.model=local/qwen2.5-coder", r"did you mean 'local/qwen2.5-coder-1.5b'\?"),
        ("encoder.model=local/minlm", r"did you mean 'local/minilm'\?"),
        ("encoder.model=local/smollm2-135m", r"'local/smollm2-135m' is an LM, not an encoder.*\(encoder.model\)"),
        ("lm.model=local/minilm", r"'local/minilm' is an encoder, not an LM.*\(lm.model\)"),
        ("encoder.model=nosuch/encoder", r"its cache holds no model 'nosuch/encoder'.*\(encoder.model\)"),
        ("encoder.model=nosuch-encoder", r"its cache holds no model 'nosuch-encoder'.*\(encoder.model\)"),
        ("queries.examples=.", r"queries.examples is for a corpus without pairs.*leave out --queries"),
        ("queries.passages=50", r"queries.passages is for a corpus without pairs.*leave out --write-queries"),
        ("encoder.model=a/b/c", r"no folder and no model of the Hugging Face hub: 'a/b/c'"),
        ("encoder.model=.", r"the folder '.*' holds no model.*\(encoder.model\)"),
        ("collection.task=claim verificaton", r"unknown task.*did you mean 'claim verification'\?.*\(collection.task\)"),
        ("budget.usd=1", r"the price of 'openai/fake' is unknown, so --budget-usd.*\(lm.model\)"),
        ("judge.model=nosuch/model", r"\(judge.model\)"),
        ("reader.strong=nosuch/model", r"\(reader.strong\)"),
        ("boundary.model=nosuch/model", r"\(boundary.model\)"),
        ("reader.program=nosuch:Pick", r"cannot import the program 'nosuch:Pick'.*\(reader.program\)"),
        ("collection.corpus=.", r"' is a folder \(collection.corpus\); name a file in it"),
    ],
)  # fmt: skip
def test_a_wrong_name_is_said_before_anything_is_made(
    setting: str, message: str, tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    server = fake_lm()
    run = Run(tmp_path / "run", load_config(None, [*settings(server.url), setting]), Progress(quiet=True))
    with pytest.raises(SynegError, match=message):
        run.until("verdict")
    assert not (tmp_path / "run").exists()
    assert not server.requests


@pytest.mark.parametrize(
    ("setting", "near"),
    [
        ("collection.dataset=pairs.cvs", "pairs.csv"),
        ("collection.dataset=pair.csv", "pairs.csv"),
        ("collection.dataset=sets/bier", "sets/beir"),
        ("collection.corpus=dosc.jsonl", "docs.jsonl"),
        ("reader.given=dosc.jsonl", "docs.jsonl"),
    ],
)
def test_a_misspelled_file_is_told_the_name_beside_it(
    setting: str, near: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("pairs.csv", "docs.jsonl", "sets/beir/queries.jsonl"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    run = Run(tmp_path / "run", load_config(None, [*settings("http://127.0.0.1:9/v1"), setting]), Progress(quiet=True))
    with pytest.raises(DataError, match=rf"did you mean '{near}'\?"):
        run.until("mine")


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"budget.usd": 1}, "reader.model"),
        ({"budget.usd": 1, "reader.strong": "openai/own"}, "reader.strong"),
        ({"budget.usd": 1, "judge.use": "on"}, "judge.model"),
        ({"budget.usd": 1, "compile.optimizer": "search"}, "reflection.model"),
        ({"budget.usd": 1, "boundary.model": "openai/own", "boundary.queries": 20}, "boundary.model"),
        ({"compile.usd": 1, "compile.optimizer": "search"}, "reflection.model"),
    ],
)  # fmt: skip
def test_a_limit_in_dollars_needs_the_price_of_every_lm(
    more: dict[str, object], named: str, settings: Settings
) -> None:
    """The writer has a price; the LM that the setting names has none."""
    values = {"lm.model": "openai/gpt-4o-mini", "judge.use": "off", "reader.use": "off", **more}
    if named != "reader.strong":
        values[named] = "openai/own"
    if named.startswith("reader"):
        values |= {"reader.use": "on", "train.arms": '["verified"]', "generate.pairs": 4}
    config = load_config(None, settings("http://127.0.0.1:9/v1", **values))
    with pytest.raises(ConfigError, match=rf"price of 'openai/own' is unknown.*\({named}\)"):
        check(config, STAGES["verdict"].asks(config))
    free = load_config(None, settings("http://127.0.0.1:9/v1", **{**values, "budget.usd": 0, "compile.usd": 0}))
    check(free, STAGES["verdict"].asks(free))


def test_a_misspelled_encoder_is_said_where_the_hub_has_none(
    settings: Settings, hub: Callable[[bool], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = hub(True)
    monkeypatch.chdir(tmp_path)
    Path("encoder").mkdir()
    for name in ("nosuch/encoder", "nosuch-encoder"):
        run = Run(
            tmp_path / "run",
            load_config(None, settings("http://127.0.0.1:9/v1", **{"encoder.model": name})),
            Progress(quiet=True),
        )
        with pytest.raises(ConfigError, match=rf"no folder and no model of the Hugging Face hub: '{name}'"):
            run.until("mine")
    assert any("sentence-transformers/nosuch-encoder" in path for path in asked)
    with pytest.raises(ConfigError, match=r"; did you mean 'encoder'\? \(encoder.model\)"):
        check(load_config(None, settings("http://127.0.0.1:9/v1", **{"encoder.model": "encodr"})))
    assert not (tmp_path / "run").exists()


def test_an_estimate_names_an_unknown_provider(settings: Settings, tmp_path: Path) -> None:
    values = [*settings("http://127.0.0.1:9/v1"), "lm.model=nosuch/model"]
    with pytest.raises(ConfigError, match=r"\(lm.model\)"):
        Run(tmp_path / "run", load_config(None, values), Progress(quiet=True)).estimate()
    assert not (tmp_path / "run").exists()


def test_all_problems_are_said_at_once(settings: Settings) -> None:
    wrong = ["generate.program=nosuch", "encoder.model=./nosuch"]
    with pytest.raises(ConfigError, match=r"(?s)2 problems before the run.*no such folder.*unknown program"):
        check(load_config(None, [*settings("http://127.0.0.1:9/v1"), *wrong]), {"lm"})
    check(load_config(None, [*settings("http://127.0.0.1:9/v1"), "generate.program=nosuch"]))
    with pytest.raises(ConfigError, match=r"did you mean 'local/minilm'\? \(encoder.model\)"):
        check(load_config(None, [*settings("http://127.0.0.1:9/v1"), "encoder.model=local/minlm"]))


def test_a_full_disk_is_said_first(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr("syneg.run.checks.shutil.disk_usage", lambda path: usage._replace(free=2 * 10**8))
    with pytest.raises(ConfigError, match=r"0\.2 GB are free"):
        check(load_config(None, settings("http://127.0.0.1:9/v1")), {"lm"})


def test_a_missing_extra_is_said_first(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syneg.run.checks.importlib.util.find_spec", lambda name: None)
    local = [*settings("http://127.0.0.1:9/v1"), "lm.model=local/qwen2.5-coder-1.5b"]
    with pytest.raises(ConfigError, match=r"pip install 'syneg-dspy\[local\]'"):
        check(load_config(None, local), {"lm"})
    check(load_config(None, local))


def test_a_collection_that_cannot_be_read_leaves_no_folder(tmp_path: Path, settings: Settings) -> None:
    overrides = [*settings("http://127.0.0.1:9/v1"), "collection.dataset=no-such-id"]
    with pytest.raises(DataError, match="unknown dataset"):
        Run(tmp_path / "run", load_config(None, overrides), Progress(quiet=True)).until("mine")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("code", "advice"),
    [(errno.ENOSPC, "make room"), (errno.EROFS, "--run"), (errno.ENOTDIR, "check the path"), (errno.EIO, "again"),
     (errno.ENAMETOOLONG, "check the path"), (errno.ELOOP, "check the path")],
)  # fmt: skip
def test_an_error_of_the_system_comes_with_what_helps(code: int, advice: str) -> None:
    assert advice in _remedy(OSError(code, os.strerror(code)))


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("export", "--out"),
        ("init", "--out"),
        ("report", "--out"),
        ("run", "--run"),
        ("mine", "--run"),
        ("--debug", "--run"),
    ],
)
def test_a_place_that_cannot_be_written_is_changed_by_an_option_of_the_command(command: str, option: str) -> None:
    said = _remedy(OSError(errno.EROFS, os.strerror(errno.EROFS)), command)
    assert said.startswith("nothing can be written there; give ") and said.endswith(f"with {option}")


def test_a_cache_that_cannot_be_written_is_named(own_home: Path) -> None:
    def advice(path: Path) -> str:
        return _remedy(PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path)))

    assert "set SYNEG_HOME" in advice(own_home / "embeddings" / "5f0c" / ".lock")
    assert "--run" in advice(own_home.parent / "run" / "mined.jsonl")
    below_a_file = NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(own_home / "models"))
    assert "set SYNEG_HOME" in _remedy(below_a_file)


def test_the_doctor_finds_a_cache_below_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SYNEG_HOME", str(tmp_path / "file" / "home"))
    levels = {finding.name: finding.level for finding in examine()}
    assert levels["cache"] == "bad" and levels["run folders"] != "bad"


def test_usage_errors_are_one_line_after_the_usage(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "syneg", "mine", "--nosuch"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: No such option")


def test_without_a_network_the_hub_is_asked_once_for_an_embedded_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import huggingface_hub
    from huggingface_hub import HfApi

    from syneg.core.fetch import fetch

    asked: list[str] = []

    def unreachable(self: object, name: str, **_: object) -> None:
        asked.append(name)
        raise OSError("Connection refused")

    def download(*_: object, **__: object) -> None:
        raise AssertionError("it repeats each failed request for half a minute")

    monkeypatch.setenv("SYNEG_HOME", str(tmp_path))
    monkeypatch.setattr(HfApi, "repo_info", unreachable)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(BackendError, match=r"hub: huggingface.co cannot be reached; .*--from PATH") as error:
        fetch("minilm", source="hub")
    assert "\n" not in str(error.value)
    assert asked == ["sentence-transformers/all-MiniLM-L6-v2"]
