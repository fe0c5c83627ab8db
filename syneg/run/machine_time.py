"""Estimate the minutes that a run still computes on this machine: embedding the corpus, training and evaluating models.

    MachineTime(run, left).parts("verdict")
      → [Part("mine", minutes=Figure(.4, .6)), Part("train 2 models", …), Part("evaluate 3 models", …)]

Seconds are means of the trainings and evaluations in this run folder. If there are none, the encoder embeds a few
passages with a clock, and a training step is assumed to take three times as long as embedding its texts. No model is
downloaded: if the encoder is not on this machine, minutes are unknown.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from functools import cached_property

from syneg.core.config import TrainConfig
from syneg.core.counts import counted
from syneg.core.storage import read_json, read_rows
from syneg.data.texts import sample
from syneg.optimizers.sampler import BLOCKS, PAIRS
from syneg.training.sampling import ARMS
from syneg.verdict.records import BASE

from .arms import Arm
from .cross_time import CrossTime
from .figures import Figure, Part
from .parts import Parts
from .remaining import Remaining
from .sampler import PREFIX as SAMPLER
from .windows import needs_race, too_small

_PROBED = 32  # passages embedded to measure the speed
_BACKWARD = 3.0  # time of a training step, in forward passes
_START = 4.0  # seconds to load and save a model
_SEARCH = 2e-8  # seconds to score one passage for one query, metrics included
_DOUBT = 1.6  # factor from likely to at most
_SCORED = 5  # candidates that a compilation scores by probes
_RACED, _LAYER = 9, 0.5  # probes for the window, share of the trained layers
# new samplers in each further race of the sampler, of two blocks each; `_BOTH` more where both were written and read
_PLACES, _WRITTEN, _NEAR, _GRADED, _BOTH = 3, 9, 1, 2, 2


class MachineTime:
    """Minutes by stage for the settings of a workspace; `notes` name what is unknown."""

    def __init__(self, parts: Parts, left: Remaining) -> None:
        self._workspace, self._experiment, self._left = parts.workspace, parts.experiment, left
        self._expected = parts.sampler.expected
        self._config, self._cross = parts.workspace.config, CrossTime(parts, left)
        self.notes: list[str] = []

    def parts(self, stage: str) -> Iterator[Part]:
        """Yield what is left to compute up to and including `stage` (a key of STAGES), in the order of the path.

        The first part is mining, with 0 minutes if it is done.
        """
        if not self._left.encoder_is_here:
            self.notes.append(
                f"minutes of embedding and training are unknown: {self._config.encoder.model!r} is not on this machine "
                "yet"
            )
        yield self._part("mine", 0.0 if self._left.is_mined else self._embedding(self._passages + self._left.pairs))
        if self._left.encoder_is_here and needs_race(self._workspace):
            yield self._part("choose the margin", self._racing(_RACED))
        for name, passages in self._cross.scored(stage):
            yield self._part(name, None if self._cross.each is None else self._cross.each * passages)
        if stage in ("queries", "mine", "read", "calibrate"):
            return
        if self._config.compile.target == "sampler" and not self._workspace.folder.compiled(SAMPLER).exists():
            yield self._part("race the sampler", self._racing(self._probes_of_sampler))
        if self._config.compile.improves("writer") and not self._left.is_compiled:
            yield self._part("probes and confirmation", self._compiling())
        if stage in ("compile", "generate"):
            return
        runs = [(arm, seed) for arm in self._expected(self._left.arms) for seed in arm.config.train.seeds]
        untrained = [(arm, seed) for arm, seed in runs if not self._is_trained(arm, seed)]
        seconds = [self._training_of(arm) for arm, _ in untrained]
        yield self._part(f"train {counted(len(untrained), 'model')}", _sum(seconds))
        if stage == "train":
            return
        models = len(untrained) + sum(
            not self._is_evaluated(arm, seed) for arm, seed in runs if (arm, seed) not in untrained
        )
        base = 0.0 if self._experiment_has(BASE, self._base_weights) else self._ranking
        yield self._part(f"evaluate {counted(models, 'model')}", _sum([self._evaluation] * models + [base]))
        if stage == "verdict" and self._left.folds and (untrained or not self._workspace.manifest.key("folds")):
            each = [self._training_of(arm) for arm, _ in runs] + [self._evaluation] * (len(runs) + 1)
            yield self._part(f"train and evaluate {self._left.folds} folds", _sum(each * self._left.folds))

    # results on disk

    def _is_trained(self, arm: Arm, seed: int) -> bool:
        """Whether the model is on disk and its set of negatives is complete, so that it will not be trained again."""
        there = self._left.encoder_is_here and self._experiment.is_trained(arm, seed)
        return there and not (arm.wants_synthetic and self._left.set_of(arm.config.generate.program).left)

    def _is_evaluated(self, arm: Arm, seed: int) -> bool:
        name = arm.file_name(seed)
        return self._experiment_has(name, self._workspace.manifest.key(f"train {name}") or "")

    def _experiment_has(self, name: str, weights: str) -> bool:
        return self._left.encoder_is_here and self._experiment.is_evaluated(name, weights)

    @property
    def _base_weights(self) -> str:
        return self._workspace.encoder.fingerprint if self._left.encoder_is_here else ""

    @property
    def _passages(self) -> int:
        return len(self._workspace.collection.passages)

    @property
    def _held_out(self) -> int:
        return sum(len(ids) for split, ids in self._workspace.collection.splits.items() if split != "train")

    # seconds; None if unknown

    @cached_property
    def _each(self) -> float | None:
        """Seconds to embed one passage, measured now; None if the encoder is not on this machine."""
        if not self._left.encoder_is_here:
            return None
        drawn = sample(self._workspace.collection.passages, _PROBED, random.Random(self._config.seed))
        texts = [text for _, text in drawn]
        encoder = self._workspace.encoder
        encoder.forward(texts[:2], "passage")  # warm up
        start = time.perf_counter()
        encoder.forward(texts, "passage")
        return (time.perf_counter() - start) / max(1, len(texts))

    @property
    def _ranking(self) -> float:
        return _SEARCH * self._passages * self._held_out

    def _embedding(self, texts: int) -> float | None:
        return None if self._each is None else self._each * texts

    @cached_property
    def _measured(self) -> tuple[list[float], list[float]]:
        """Seconds per step of each training in this folder, and seconds of each evaluation of a tuned model."""
        steps = []
        for path in sorted((self._workspace.folder / "models").glob("*/training.json")):
            done = read_json(path)
            if done and done["steps"] and not done["resumed"]:
                steps.append(done["seconds"] / done["steps"])
        evaluations = [
            float(row["seconds"])
            for row in read_rows(self._workspace.folder.events)
            if row.get("event") == "done" and row.get("stage") == "evaluate" and row.get("text") != BASE
        ]
        return steps, evaluations

    @property
    def _evaluation(self) -> float | None:
        measured = self._measured[1]
        if measured:
            return sum(measured) / len(measured)
        embedding = self._embedding(self._passages + self._held_out)
        return None if embedding is None else _START + embedding + self._ranking

    def _training_of(self, arm: Arm) -> float | None:
        """Seconds to train one model of an arm; one that mines again embeds the corpus once more."""
        own = self._training(arm.config.train, arm.kind)
        return _sum([own, self._embedding(self._passages + self._left.pairs)]) if arm.remines else own

    def _training(self, config: TrainConfig, kind: str) -> float | None:
        """Seconds to train one model of an arm of `kind` (a key of `sampling.ARMS`)."""
        steps = max(1, math.ceil(self._left.pairs / config.batch_size)) * config.epochs
        measured = self._measured[0]
        if measured:
            return steps * sum(measured) / len(measured)
        if self._each is None:
            return None
        negatives = self._config.mix.negatives if ARMS[kind].own else 0
        dev = min(config.dev_passages, self._passages) + len(self._workspace.collection.splits["dev"])
        frozen = 0.5 if config.frozen_layers else 1.0
        texts = steps * config.batch_size * (2 + negatives)
        scored = config.evals + sum(alpha != 1.0 for alpha in config.alphas)
        return _START + self._each * (_BACKWARD * frozen * texts + scored * dev)

    @property
    def _probes_of_sampler(self) -> int:
        """Probes of the races that follow the window's; none where these have too few pairs or queries."""
        if too_small(self._workspace):
            return 0
        arms = self._left.arms
        written = any(arm.wants_synthetic for arm in arms) * _WRITTEN + any(arm.grounds for arm in arms) * _NEAR
        graded = any(arm.reads for arm in arms) * (_GRADED + bool(written) * _BOTH)
        return 2 * (_PLACES + written + graded)

    def _racing(self, probes: int) -> float | None:
        """Seconds of so many probes of a race: they train the last layers on cached output of the layers below."""
        probe, mix, batch = self._config.probe, self._config.mix, self._config.train.batch_size
        scored, rows = probe.passages + probe.queries, min(PAIRS, math.ceil(self._left.pairs / BLOCKS))
        texts = max(probe.steps * batch, probe.epochs * rows) * (2 + mix.negatives)
        return self._embedding(round(scored + probes * _LAYER * (scored + _BACKWARD * texts)))

    def _compiling(self) -> float | None:
        """Seconds of the candidates' probes, and of the trainings that confirm the best candidate."""
        config, probe = self._config.compile, self._config.probe
        if self._each is None:
            return None
        texts = probe.passages + probe.queries + _BACKWARD * probe.epochs * 4 * min(config.pairs, self._left.pairs)
        seconds = _SCORED * probe.seeds * self._each * texts
        if config.confirm:
            own, evaluation = self._training(self._config.train, "hybrid"), self._evaluation
            seconds += 2 * config.confirm_seeds * ((own or 0.0) + (evaluation or 0.0))
        return seconds

    def _part(self, name: str, seconds: float | None) -> Part:
        return Part(name, minutes=None if seconds is None else Figure(seconds / 60, _DOUBT * seconds / 60))


def _sum(seconds: list[float | None]) -> float | None:
    known = [each for each in seconds if each is not None]
    return sum(known) if len(known) == len(seconds) else None
