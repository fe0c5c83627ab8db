"""What the stages of a run share."""

from __future__ import annotations

from pathlib import Path

import pytest

from syneg.core.progress import Progress
from syneg.core.settings import load_config
from syneg.run.folder import RunFolder
from syneg.run.workspace import Workspace


@pytest.mark.parametrize(("trained", "written", "mined"), [(10, 20, 20), (20, 10, 20), (0, 10, 58), (10, 0, 58)])
def test_pairs_to_write_for_and_to_train_on_have_limits_of_their_own(
    trained: int, written: int, mined: int, tmp_path: Path, beir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(Progress, "say", lambda self, line: lines.append(line))
    overrides = [f"collection.dataset={beir}", f"train.pairs={trained}", f"generate.pairs={written}"]
    workspace = Workspace(RunFolder(tmp_path), load_config(None, overrides), Progress(quiet=True))
    assert len(workspace.pairs_to_write) == (written or 58)
    assert len(workspace.pairs) == (trained or 58)
    assert len(workspace.pairs_to_mine) == mined
    said = "\n".join(lines)
    assert (f"{trained} of 58 train pairs are trained on (--train-pairs 0 for all)" in said) == bool(trained)
    assert (f"{written} of 58 train pairs are given written negatives (--pairs 0 for all)" in said) == bool(written)


def test_results_of_another_collection_are_removed_or_said(
    tmp_path: Path, beir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(Progress, "say", lambda self, line: lines.append(line))

    def read() -> None:
        config = load_config(None, [f"collection.dataset={beir}"])
        _ = Workspace(RunFolder(tmp_path / "run"), config, Progress(quiet=True)).collection

    for name in ("runs", "models/mined-0"):
        (tmp_path / "run" / name).mkdir(parents=True)
    ranking = tmp_path / "run" / "runs" / "mined-0.test.trec"
    ranking.touch()
    read()
    read()
    assert ranking.exists() and "the collection has changed" not in "\n".join(lines)
    corpus = (beir / "corpus.jsonl").read_text()
    (beir / "corpus.jsonl").write_text(corpus.replace("slowly", "twice"))
    read()
    assert not ranking.exists()
    assert sum("the collection has changed: models that are not trained again" in line for line in lines) == 1


def test_bad_rows_are_a_file_only_where_there_are_any(
    tmp_path: Path, beir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read() -> bool:
        config = load_config(None, [f"collection.dataset={beir}", "collection.max_bad_rows=0.1"])
        folder = RunFolder(tmp_path / "run")
        _ = Workspace(folder, config, Progress(quiet=True)).collection
        return folder.bad_rows.exists()

    assert not read()
    whole = (beir / "corpus.jsonl").read_text()
    (beir / "corpus.jsonl").write_text(whole + '{"_id": "bad"}\n')
    assert read()
    (beir / "corpus.jsonl").write_text(whole)
    assert not read()


def test_only_what_is_used_is_said_of_pairs(tmp_path: Path, beir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(Progress, "say", lambda self, line: lines.append(line) if "train pairs are" in line else None)
    overrides = [f"collection.dataset={beir}", "train.pairs=10", "generate.pairs=20"]
    workspace = Workspace(RunFolder(tmp_path), load_config(None, overrides), Progress(quiet=True))
    assert len(workspace.train_split) == 58 and not lines
    assert len(workspace.pairs) == len(workspace.pairs) == 10
    assert lines == ["  10 of 58 train pairs are trained on (--train-pairs 0 for all)"]
    assert len(workspace.pairs_to_write) == len(workspace.pairs_to_write) == 20
    assert lines[1:] == ["  20 of 58 train pairs are given written negatives (--pairs 0 for all)"]
