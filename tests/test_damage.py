"""A result in the run folder that is not as it was written is made again, and the run says so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeLM

from syneg.core.errors import DataError
from syneg.core.progress import Progress
from syneg.core.settings import load_config
from syneg.core.storage import read_json, write_json, write_text
from syneg.run.manifest import Manifest
from syneg.run.pipeline import Run

RESULTS = ("mined.jsonl", "negatives.jsonl", "evaluation/base.json", "evaluation/mined-0.json")


def cut(path: Path) -> None:
    """Leave whole lines only, which can be read: fewer rows of JSON lines, and no row of other files."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: len(lines) // 2]))


def spoilt(path: Path) -> None:
    path.write_bytes(b"\x00\x17\xff{" * 20)


@pytest.mark.parametrize("damage", [cut, spoilt])
def test_damaged_results_are_made_again(
    damage: Callable[[Path], None], tmp_path: Path, settings: Callable[..., list[str]], fake_lm: Callable[..., FakeLM],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    server, folder = fake_lm(), tmp_path / "run"
    few = {"generate.pairs": 8, "train.epochs": 1, "train.evals": 1, "mine.margin": 0.95}

    def run() -> dict[str, Any]:
        return Run(folder, load_config(None, settings(server.url, **few)), Progress()).until("verdict")

    whole = run()
    before = {name: (folder / name).read_bytes() for name in RESULTS}
    calls = len(server.requests)
    for name in RESULTS:
        damage(folder / name)
    damage(folder / "models" / "mined-0" / "model.safetensors")
    (folder / "models" / "hybrid-0" / "modules.json").unlink()
    capsys.readouterr()
    again = run()
    said = " ".join(capsys.readouterr().err.split())
    assert {name: (folder / name).read_bytes() for name in RESULTS} == before
    assert again["arms"].keys() == whole["arms"].keys()
    assert all(again["arms"][arm]["test"] == whole["arms"][arm]["test"] for arm in whole["arms"])
    assert len(server.requests) == calls
    for name in RESULTS[:3]:
        assert f"{folder / name} is not as it was written; it is made again" in said
    for name in ("mined-0", "hybrid-0"):
        assert f"{name} has files that are not as they were written: it is trained again" in said


def test_damaged_rows_are_made_again(
    tmp_path: Path, settings: Callable[..., list[str]], fake_lm: Callable[..., FakeLM]
) -> None:
    config = load_config(None, settings(fake_lm().url, **{"train.arms": json.dumps(["mined"]), "train.epochs": 1}))
    rows = tmp_path / "rows" / "mined-0.jsonl"
    Run(tmp_path, config, Progress(quiet=True)).until("train")
    before, model = rows.read_bytes(), (tmp_path / "models" / "mined-0" / "training.json").read_bytes()
    cut(rows)
    Run(tmp_path, config, Progress(quiet=True)).until("train")
    assert rows.read_bytes() == before
    assert (tmp_path / "models" / "mined-0" / "training.json").read_bytes() == model


def test_a_changed_file_is_kept_aside(tmp_path: Path) -> None:
    said: list[str] = []
    path = tmp_path / "mined.jsonl"

    def made() -> bool:
        return Manifest(tmp_path, said.append).make("mine", "key", path, lambda: write_text(path, "one\ntwo\n"))

    assert made() and not made()
    write_text(path, "one\n")
    assert made() and not made()
    assert (tmp_path / "mined.changed").read_text() == "one\n" and path.read_text() == "one\ntwo\n"
    assert said[1] == f"mine: {path} is not as it was written; it is made again, and kept as mined.changed"


def test_a_folder_of_an_earlier_version_has_no_marks(tmp_path: Path) -> None:
    path = tmp_path / "mined.jsonl"
    Manifest(tmp_path).make("mine", "key", path, lambda: write_text(path, "one\n"))
    facts = read_json(tmp_path / "manifest.json")
    write_json(tmp_path / "manifest.json", {"stages": facts["stages"]})
    assert Manifest(tmp_path).has("mine", "key", path)
    write_json(tmp_path / "manifest.json", facts)
    write_text(path, "two\n")
    assert not Manifest(tmp_path).has("mine", "key", path)


@pytest.mark.parametrize("text", ["[]", "1", '"x"', "{}", '{"stages": []}', '{"stages": {}, "marks": 3}', ""])
def test_a_file_that_is_no_manifest_is_told(text: str, tmp_path: Path) -> None:
    write_text(tmp_path / "manifest.json", text)
    with pytest.raises(DataError, match=r"not .*manifest.json\); delete the file to make"):
        Manifest(tmp_path)


def test_files_beside_a_model_do_not_change_it(tmp_path: Path) -> None:
    model, manifest = tmp_path / "model", Manifest(tmp_path)
    write_text(model / "config.json", "{}")
    manifest.mark("train mined-0", model)
    write_text(model / "notes.txt", "mine")
    assert manifest.is_as_written("train mined-0", model)
    write_text(model / "config.json", "{ }")
    assert not manifest.is_as_written("train mined-0", model)
    shutil.rmtree(model)
    assert not manifest.is_as_written("train mined-0", model)
