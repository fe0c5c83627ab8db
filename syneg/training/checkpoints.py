"""Find the checkpoint that a training goes on from.

    last_whole(run/"models/hybrid-0/checkpoints") → "…/checkpoints/checkpoint-38"; None if the training begins anew

A crash or a full disk leaves a checkpoint whose files are cut, empty or missing. Such a checkpoint is removed. The
trainer notes the path of its best checkpoint, which is wrong once the run folder was moved or copied; the path is set
right. A checkpoint is also removed if its best one is gone, because the training could not end with the best weights.
"""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open

from syneg.core.errors import DataError
from syneg.core.storage import read_json, write_json

from .job import JOB

CHECKPOINTS = "checkpoints"  # a folder beside the model
STATE = "trainer_state.json"  # the trainer writes it last
_BEST = "best_model_checkpoint"
_NEEDED = ("optimizer.pt", "scheduler.pt", "rng_state*.pth", "**/*.safetensors")


def last_whole(folder: Path) -> str | None:
    """The path of the last checkpoint to go on from, or None. Removes the checkpoints that cannot be used."""
    found = sorted(folder.glob("checkpoint-*"), key=_step, reverse=True)
    whole = {path.name: path for path in found if _is_whole(path)}
    for path in found:
        best = _best_of(path, whole) if path.name in whole else None
        if best is not None:
            return str(path)
        shutil.rmtree(path)
    return None


def tidy(folder: Path) -> None:
    """Remove from the folder of a finished training what only an unfinished one needs. Its job holds training texts,
    and the model may be given away."""
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    (folder / JOB).unlink(missing_ok=True)


def is_ended(checkpoint: Path, max_steps: int) -> bool:
    """Whether no step is left: `max_steps` are done, or the training was stopped early."""
    state = read_json(checkpoint / STATE)
    control = state.get("stateful_callbacks", {}).get("TrainerControl", {}).get("args", {})
    return int(state["global_step"]) >= max_steps or bool(control.get("should_training_stop"))


def _step(checkpoint: Path) -> int:
    number = checkpoint.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else -1


def _best_of(checkpoint: Path, whole: dict[str, Path]) -> Path | None:
    """The best checkpoint that `checkpoint` names, with its path set right; None if it is not whole."""
    state = read_json(checkpoint / STATE)
    named = state.get(_BEST)
    if not named:  # no score was a number
        return checkpoint
    best = whole.get(Path(named).name)
    if best is not None and named != str(best):
        write_json(checkpoint / STATE, {**state, _BEST: str(best)})
    return best


def _is_whole(checkpoint: Path) -> bool:
    """Whether the files of a checkpoint are there and can be read to their end."""
    if not all(any(checkpoint.glob(pattern)) for pattern in _NEEDED) or _step(checkpoint) < 0:
        return False
    try:
        return isinstance(read_json(checkpoint / STATE), dict) and all(map(_is_readable, checkpoint.rglob("*.*")))
    except (DataError, OSError, SafetensorError):
        return False


def _is_readable(path: Path) -> bool:
    """Whether a file has its end. Raises SafetensorError or DataError for a file without it."""
    if path.suffix == ".safetensors":
        with safe_open(str(path), framework="pt"):
            return True
    if path.suffix == ".json":
        return read_json(path) is not None
    return path.suffix not in (".pt", ".pth", ".bin") or zipfile.is_zipfile(path)  # torch.save writes zip archives
