"""After a power failure only what was synced is on disk: a file that says that others are whole is written after them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from syneg.core.progress import Progress
from syneg.core.settings import load_config
from syneg.core.storage import replace_folder, write_json
from syneg.retrieval.embeddings import EmbeddingStore
from syneg.run.pipeline import Run
from syneg.training import trainer


class Disk:
    """Which files and folders are on disk as they are now."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._kept: set[tuple[int, int]] = set()
        synced = os.fsync

        def fsync(file: int) -> None:
            synced(file)
            self._kept.add(_state(os.fstat(file)))

        patch.setattr(os, "fsync", fsync)

    def lacks(self, folder: Path) -> list[str]:
        """What a power failure would take of `folder`."""
        found = (folder, *folder.rglob("*"))
        return [str(p.relative_to(folder)) for p in found if _state(p.stat()) not in self._kept]


def _state(facts: os.stat_result) -> tuple[int, int]:
    return facts.st_ino, facts.st_mtime_ns


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_models_are_on_disk_before_the_file_that_says_so(
    disk: Disk, settings: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, found = tmp_path / "run", dict[str, list[str]]()

    def noted(model: Path) -> Callable[[Path, Any], None]:
        def write(path: Path, value: Any) -> None:
            found[path.name] = [name for name in disk.lacks(model) if not name.startswith("checkpoints")]
            write_json(path, value)

        return write

    monkeypatch.setattr(trainer, "write_json", noted(folder / "models" / "mined-0"))
    monkeypatch.setattr("syneg.run.made.write_json", noted(folder / "best"))
    few = {"train.arms": '["mined"]', "train.epochs": 1, "train.evals": 1}
    Run(folder, load_config(None, settings("http://127.0.0.1:9/v1", **few)), Progress(quiet=True)).until("verdict")
    assert found == {"training.json": [], "verdict.json": []}


def test_a_folder_is_replaced_as_a_whole(disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, seen, move = tmp_path / "best", [], Path.replace
    names = {"old": {"a", "b"}, "new": {"a", "c"}}

    def moved(path: Path, to: Path) -> Path:
        seen.append({file.name for file in target.iterdir()} if target.exists() else None)
        assert path == target or not disk.lacks(path)
        return move(path, to)

    monkeypatch.setattr(Path, "replace", moved)
    for kind in ("old", "new"):
        draft = tmp_path / ".draft"
        draft.mkdir()
        for name in names[kind]:
            (draft / name).write_text(kind)
        replace_folder(draft, target)
    assert seen == [None, names["old"], None]
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    assert {file.name for file in target.iterdir()} == names["new"]


def test_a_key_never_stands_for_an_embedding_that_was_lost(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = Path.replace
    lost = list[str]()
    monkeypatch.setattr(Path, "replace", lambda path, to: (lost.extend(disk.lacks(path)), move(path, to))[1])
    EmbeddingStore(tmp_path / "space").add(["a"], np.ones((1, 2)))
    assert not lost
