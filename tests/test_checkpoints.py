"""A training that was cut off goes on from a whole checkpoint, wherever its folder lies now, and ends as if it had not been."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from test_training import bert, job, weights  # noqa: F401 a fixture
from transformers import TrainerState

from syneg.core.storage import read_json
from syneg.training import trainer
from syneg.training.checkpoints import last_whole
from syneg.training.job import Job
from syneg.training.trainer import train

SETTINGS = {
    "all steps": {"epochs": 2.5, "evals": 5},
    "stopped early": {"epochs": 5, "evals": 10, "patience": 2},
}
"""With such a rate the first evaluation is the best one."""


def long(path: str, kind: str = "all steps", seed: int = 0) -> Job:
    return job(path, seed, learning_rate=0.5, alphas=[0.5, 1.0], **SETTINGS[kind])


def cut_off(whole: Job, folder: Path, monkeypatch: pytest.MonkeyPatch, step: int = 0) -> None:
    """Begin to train, and stop at `step`; 0 = after all steps, where the weights are mixed."""

    def at_the_end(*args: object) -> None:
        raise KeyboardInterrupt

    def at_step(self: object, args: object, state: TrainerState, *more: object, **others: object) -> None:
        if state.global_step == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if step:
            patch.setattr(trainer._Report, "on_step_end", at_step)
        else:
            patch.setattr(trainer, "interpolate", at_the_end)
        with pytest.raises(KeyboardInterrupt):
            train(whole, folder)


@pytest.mark.parametrize(
    ("kind", "step"), [("all steps", 0), ("all steps", 7), ("stopped early", 0), ("stopped early", 5)]
)
def test_a_training_that_was_cut_off_ends_as_if_it_had_not_been(
    kind: str,
    step: int,
    bert: str,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = train(long(bert, kind), tmp_path / "whole")
    assert whole.dev[0][1] > whole.dev[-1][1]
    cut_off(long(bert, kind), tmp_path / "m", monkeypatch, step)
    shutil.copytree(tmp_path / "m", tmp_path / "n")
    shutil.rmtree(tmp_path / "m")
    cut_off(long(bert, kind, seed=9), tmp_path / "m", monkeypatch)  # another training is where this one was
    kept = read_json(Path(last_whole(tmp_path / "n" / "checkpoints") or "") / "course.json")
    done = train(long(bert, kind), tmp_path / "n")
    assert done.resumed and done.steps == whole.steps
    assert done.dev == whole.dev and done.alphas == whole.alphas
    assert done.losses == whole.losses and done.shares == whole.shares
    assert done.seconds > kept["seconds"] > 0
    first, again = weights(tmp_path / "whole"), weights(tmp_path / "n")
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.fixture(scope="module")
def checkpoints(bert: str, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """The best and the last one of a training."""
    folder = tmp_path_factory.mktemp("cut")
    with pytest.MonkeyPatch.context() as patch:
        cut_off(long(bert), folder, patch)
    return folder / "checkpoints"


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "rng_state.pth", "scheduler.pt"])
@pytest.mark.parametrize("damage", ["cut", "empty", "gone"])
def test_a_damaged_checkpoint_is_not_gone_on_from(name: str, damage: str, checkpoints: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoints, tmp_path / "checkpoints"))
    best = Path(read_json(Path(last_whole(folder) or "") / "trainer_state.json")["best_model_checkpoint"])
    last = Path(last_whole(folder) or "")
    assert best != last
    path = next(last.rglob(name))
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if damage == "cut" else b"")
    assert last_whole(folder) == str(best)
    assert not last.exists()


def test_without_its_best_weights_a_training_begins_anew(checkpoints: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoints, tmp_path / "checkpoints"))
    last = Path(last_whole(folder) or "")
    best = Path(read_json(last / "trainer_state.json")["best_model_checkpoint"])
    (best / "model.safetensors").write_bytes(b"")
    assert last_whole(folder) is None
    assert not best.exists() and not last.exists()
