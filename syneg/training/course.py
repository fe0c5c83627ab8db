"""Summaries of a training for training.json: the loss over the steps, and the part that each source had in it.

Course(["in-batch", "dense"]).shares()               → [{"in-batch": .6, "dense": .4}, …], one for each step
loss_curve([4.0, 2.0, 1.0, 0.0], last=9, points=2)   → [(7, 3.0), (9, 0.5)]
shares_by_third([{"dense": .4}, {"dense": .2}, …])   → [{"dense": .38}, {"dense": .31}, {"dense": .22}]
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import TrainerState, TrainingArguments

from syneg.core.errors import BackendError
from syneg.core.records import Instance
from syneg.core.storage import read_json, write_json

from .sampling import PADDING, SYNTHETIC

_FILE = "course.json"


class Course:
    """The steps of a training so far: `losses`, and in `mass` the gradient on negatives (sources,) by source.

    `begun` is the time of the monotonic clock when the training began. A checkpoint keeps all this, so that a training
    that goes on has the course of all its steps.
    """

    def __init__(self, sources: Sequence[str]) -> None:
        self.sources = list(sources)
        self.losses: list[Tensor] = []
        self.mass: list[Tensor] = []
        self.begun = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the training began, with those before the checkpoint that it goes on from."""
        return time.monotonic() - self.begun

    def shares(self) -> list[dict[str, float]]:
        """For each step, source → its share of the gradient on negatives. Padding has none."""
        shares = [(mass / mass.sum().clamp_min(1e-12)).tolist() for mass in self.mass]
        steps = [dict(zip(self.sources, step, strict=True)) for step in shares]
        return [{name: value for name, value in step.items() if name != PADDING} for step in steps]

    def check(self, state: TrainerState, arguments: TrainingArguments) -> None:
        """Raise BackendError if the last loss is no number: the weights are none either, and never become numbers."""
        if self.losses and not math.isfinite(float(self.losses[-1])):
            raise BackendError(
                f"the loss is no number by step {state.global_step} of {state.max_steps}",
                where=Path(str(arguments.output_dir)).parent.name,
                todo=f"lower train.learning_rate, now {arguments.learning_rate:g}",
            )

    def save(self, checkpoint: Path) -> None:
        """Write course.json into a checkpoint."""
        losses, mass = [float(loss) for loss in self.losses], [mass.tolist() for mass in self.mass]
        write_json(checkpoint / _FILE, {"losses": losses, "mass": mass, "seconds": self.seconds})

    def go_on(self, checkpoint: Path) -> None:
        """Take up the steps of a checkpoint. One of an earlier version has no course.json."""
        kept = read_json(checkpoint / _FILE)
        if kept:
            self.losses = [torch.tensor(loss) for loss in kept["losses"]]
            self.mass = [torch.tensor(mass) for mass in kept["mass"]]
            self.begun -= kept["seconds"]


def synthetic_share(rows: Sequence[Instance]) -> float:
    """Share (0 to 1) of the negatives of `rows` that are synthetic; padding does not count."""
    sources = Counter(source for row in rows for source in row.sources)
    return sources[SYNTHETIC] / max(1, sources.total() - sources[PADDING])


def shares_by_third(shares: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """Mean gradient share of each source over the first, second and last third of the steps.

    `shares` has one mapping source → share for each step. With under three steps, fewer parts are returned.
    """
    parts = [part for part in np.array_split(np.arange(len(shares)), 3) if len(part)]
    sources = sorted({source for share in shares for source in share})
    return [{s: round(float(np.mean([shares[i].get(s, 0.0) for i in part])), 4) for s in sources} for part in parts]


def loss_curve(losses: Sequence[float], last: int, points: int = 40) -> list[tuple[int, float]]:
    """Divide the steps up to step `last` into at most `points` equal parts; return (last step, mean loss) of each.

    >>> loss_curve([4.0, 2.0, 1.0, 0.0], last=9, points=2)
    [(7, 3.0), (9, 0.5)]
    """
    parts = np.array_split(np.arange(len(losses)), min(points, len(losses))) if losses else []
    first = last - len(losses) + 1  # a checkpoint of an earlier version has no losses
    return [(first + int(part[-1]), round(float(np.mean([losses[i] for i in part])), 5)) for part in parts]
