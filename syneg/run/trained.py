"""Train and evaluate the arms of a workspace for every seed. Models and evaluations on disk are reused.

    TrainedArms(workspace, negatives, readings).results → {"base": [{"test": SplitResult(…), …}], "hybrid": […], …}

A model's key is a hash of its instances, its settings, the encoder and the seed. Arms with equal keys are trained
separately. All arms share embeddings, the output of frozen layers, mined and synthetic negatives, and the dev set.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from syneg.core.errors import DataError
from syneg.core.records import Training, fingerprint
from syneg.core.storage import read_json, write_json, write_rows
from syneg.retrieval.encoder import Encoder
from syneg.retrieval.evaluation import SplitResult
from syneg.retrieval.metrics import MAIN_METRIC, mean, write_trec
from syneg.training.checkpoints import tidy
from syneg.training.job import Job, Start
from syneg.verdict.records import BASE, Generation, generation_of

from .arms import EQUAL, Arm, arms
from .equal_calls import calls_of, within
from .export import rows_stage, trained_rows
from .folds import SharedSets, wants_folds
from .keys import stage_key
from .near_readings import Near
from .negative_sets import NegativeSet, NegativeSets
from .readings import Readings
from .sampler import SamplerChoice
from .trial import FirstPart, FromLM, Trials, weighed
from .workspace import Workspace

_ROUNDING = 1e-9  # a mean of ones


class TrainedArms:
    """The arms of one run: their training and their evaluation."""

    def __init__(
        self,
        workspace: Workspace,
        negatives: NegativeSets | SharedSets,
        readings: Readings,
        planned: Sequence[Arm] | None = None,
        sampler: SamplerChoice | None = None,
    ) -> None:
        """`planned` defaults to the arms of the settings. `sampler` gives them the compiled settings."""
        self._workspace, self._sets, self._readings = workspace, negatives, readings
        self._sampler = sampler
        self.planned = list(planned or arms(workspace.config))
        self._trials = Trials(workspace, readings)

    @cached_property
    def arms(self) -> list[Arm]:
        """The planned arms that can be trained, with compiled settings, and the arm that a compiled sampler chose.

        An arm is left out, with a message, if it uses synthetic negatives and the gates accepted none, if it uses
        grades and the reader is not trusted, if its teacher is refused, or if by the compiled sampler no synthetic
        negatives enter. Raises DataError if no arm is left.
        """
        usable = []
        for arm in self.planned:
            if reason := self._missing(arm):
                self._workspace.progress.say(f"  {arm.name} is left out: {reason}")
            else:
                usable.append(arm)
        if not usable:
            raise DataError(
                self._missing(self.planned[0]), where=str(self._workspace.folder.negatives()),
                todo="read the file; try another --lm or --program, more --pairs, or other gates",
            )  # fmt: skip
        return usable if self._sampler is None else self._sampler.plan(usable)

    def _missing(self, arm: Arm) -> str:
        """Return the reason why `arm` cannot be trained; "" if it can."""
        if arm.reads and (refusal := self._readings.reader.refusal()):
            return refusal
        if arm.teacher and (refusal := self._trials.teachers.refusal(arm.teacher)):
            return refusal
        if not arm.wants_synthetic or self._written(arm).accepted:
            return ""
        only_near = arm.filling.grounded and not arm.filling.synthetic
        if only_near and any(draft.negative.text for draft in self._written(arm).drafts):
            return ""
        counts = ", ".join(f"{reason} {n}" for reason, n in self._written(arm).facts.reasons.items())
        return f"the gates accepted no synthetic negative ({counts})"

    @property
    def left_out(self) -> list[str]:
        """Names of the planned arms that cannot be trained."""
        trained = {arm.name for arm in self.arms}
        return [arm.name for arm in self.planned if arm.name not in trained]

    def _written(self, arm: Arm) -> NegativeSet:
        return self._sets.of(arm.config.generate.program)

    @cached_property
    def generation(self) -> Generation | None:
        """Counts of the negatives by the run's program; None if no arm uses synthetic negatives.

        Makes the sets of all arms first, so that a failing LM stops the run before any training.
        """
        for arm in self.planned:
            self._trials.check(arm.config.train)
        if any(arm.reads for arm in self.planned) and not self._readings.reader.refusal():
            _ = self._readings.grades
        written = [self._written(arm) for arm in self.planned if arm.wants_synthetic]
        for arm in self.planned:
            _ = self._near(arm) if arm.grounds else None
        if not written:
            return None
        own = self._workspace.manifest.facts.get("negatives", {}).get("negatives")
        return generation_of(own) if own else written[0].facts

    @cached_property
    def near_misses(self) -> NegativeSet | None:
        """The near-misses of the boundary test; None if none can be made, and if no arm needs an LM and
        `boundary.program` is auto."""
        programs = [arm.config.generate.program for arm in self.planned if arm.wants_synthetic]
        if not programs and self._workspace.config.boundary.program == "auto":
            return None
        return self._sets.near_misses(programs)

    def job(self, arm: Arm, seed: int) -> Job:
        """Fill the training rows of an arm for one seed; return the job of training on them."""
        allowed = self._allowed(arm)
        accepted = self._written(arm).accepted if arm.wants_synthetic and arm.filling.synthetic else {}
        shares = {
            q: [(draft.negative, draft.verdict.figures.get("margin", 0.0)) for draft in own]
            for q, own in accepted.items() if allowed is None or q in allowed
        }  # fmt: skip
        near = self._near(arm) if arm.grounds else Near({}, {})
        doc_ids = {q: own for q, own in near.doc_ids.items() if allowed is None or q in allowed}
        by_lm = FromLM(weighed(shares, arm.config.mix), doc_ids, near.grades, allowed)
        first = self._first_part(arm, seed) if arm.remines else None
        return self._trials.job(arm.kind, arm.config, by_lm, seed, first)

    def _near(self, arm: Arm) -> Near:
        """The real passages near the texts of an arm, accepted or not, as far as they are graded with their grades."""
        return self._readings.near.of(arm.config.generate.program, self._written(arm).drafts)

    def _first_part(self, arm: Arm, seed: int) -> FirstPart:
        """Train an arm up to the epoch after which it mines again, and mine with that model."""
        part = arm.first_part
        name = part.file_name(seed)
        folder, _ = self.trained(part, seed)
        start = Start(str(folder), self._workspace.manifest.key(f"train {name}") or "")
        return FirstPart(start, self.job(part, seed).epochs, self._trials.mined_again(start, part.config, name))

    def trained(self, arm: Arm, seed: int) -> tuple[Path, Training]:
        """Train an arm unless its model is on disk; return the folder of the model and the record of its training."""
        job, folder = self._begun(arm, seed)
        if (folder / "training.json").exists():
            tidy(folder)  # a kill may have come before it
        else:
            self._trials.train(job, folder, arm.file_name(seed))
        self._workspace.manifest.mark(f"train {arm.file_name(seed)}", folder)
        return folder, Training.of(read_json(folder / "training.json"))

    def _begun(self, arm: Arm, seed: int) -> tuple[Job, Path]:
        """Return the job of an arm and its model folder.

        A model from other inputs, or with files that are not as they were written, is removed (with a message).
        """
        workspace, name = self._workspace, arm.file_name(seed)
        folder, stage, manifest = workspace.folder.model(name), f"train {name}", workspace.manifest
        job = self.job(arm, seed)
        key = job.key(workspace.encoder)
        same = manifest.key(stage) == key
        if not same or not manifest.is_as_written(stage, folder):
            if (folder / "training.json").exists():
                why = (
                    "has files that are not as they were written" if same else "was trained with other rows or settings"
                )
                workspace.progress.say(f"  {name} {why}: it is trained again")
            for old in (stage, rows_stage(name), f"evaluate {name}", f"boundary {name}"):
                manifest.drop(old)  # first: a kill leaves no part of a model under its key
            shutil.rmtree(folder, ignore_errors=True)
            manifest.done(stage, key)
            workspace.folder.rows(name).unlink(missing_ok=True)
            settings = {**manifest.facts.get("trained_with", {}), name: self._settings_of(arm)}
            manifest.note(trained_with=settings)
        manifest.settle(stage, kept=(folder / "training.json").exists(), kind="model")
        rows = workspace.folder.rows(name)
        if not rows.exists() or not manifest.is_as_written(rows_stage(name), rows):
            earlier = self.job(arm.first_part, seed).epochs if arm.remines else ()
            write_rows(rows, trained_rows([*earlier, *job.epochs]))
            manifest.done(rows_stage(name), key, rows)
        return job, folder

    def is_trained(self, arm: Arm, seed: int) -> bool:
        """Whether a model of the arm, trained with these settings, is on disk. Its rows are not compared."""
        name, manifest = arm.file_name(seed), self._workspace.manifest
        folder = self._workspace.folder.model(name)
        there = (folder / "training.json").exists() and manifest.is_as_written(f"train {name}", folder)
        return there and manifest.facts.get("trained_with", {}).get(name) == self._settings_of(arm)

    def _settings_of(self, arm: Arm) -> str:
        workspace = self._workspace
        same = {"seeds", "arms"} | ({"remine"} if not arm.remines else set())  # they do not change this model
        return fingerprint(
            workspace.collection.fingerprint, workspace.encoder.fingerprint, workspace.encoder.prompts,
            arm.config.train.model_dump(exclude=same), arm.config.mine.model_dump(),
            arm.config.mix.model_dump(exclude=set() if arm.kind == "hybrid" else {"base"}),
        )  # fmt: skip

    def is_evaluated(self, name: str, weights: str) -> bool:
        """Whether the evaluation of the model `name` with these weights is on disk."""
        path = self._workspace.folder.evaluation(name)
        return self._workspace.manifest.has(f"evaluate {name}", self._evaluation_key(weights), path)

    def result(self, arm: Arm, seed: int) -> dict[str, SplitResult]:
        """Train the model if needed, evaluate it on the whole corpus; return split → rankings and metrics."""
        folder, _ = self.trained(arm, seed)
        name = arm.file_name(seed)
        weights = self._workspace.manifest.key(f"train {name}") or ""
        return self._evaluated(name, weights, lambda: self._trials.load(folder, arm.config))

    @cached_property
    def base_result(self) -> dict[str, SplitResult]:
        """The evaluation of the untuned encoder: split → rankings and metrics."""
        base = self._workspace.encoder
        return self._evaluated(BASE, base.fingerprint, lambda: base)

    def say_ceiling(self) -> None:
        """Say, before any training, if the untuned encoder is perfect on dev or test."""
        splits = {split: mean(result.values[MAIN_METRIC]) for split, result in self.base_result.items()}
        perfect = [split for split in ("dev", "test") if splits.get(split, 0.0) > 1 - _ROUNDING]
        if perfect:
            rest = (
                "; the folds test the other queries, too"
                if wants_folds(self._workspace)
                else ": nothing can be gained there; harder queries or a larger corpus would tell more"
            )
            self._workspace.progress.say(
                f"  the untuned encoder ranks every query of {' and '.join(perfect)} perfectly{rest}"
            )

    @cached_property
    def results(self) -> dict[str, list[dict[str, SplitResult]]]:
        """Evaluations of all arms: arm → one result per seed. The untuned base has one result."""
        # call LMs before any training, so that a failing LM stops the run early
        _ = (self.generation, self.arms, self.near_misses)
        results = {BASE: [self.base_result]}
        if self._workspace.cluster is not None:
            self._trials.train_elsewhere(
                {
                    arm.file_name(seed): self._begun(arm, seed)
                    for arm in self.arms for seed in arm.config.train.seeds
                    if not arm.remines  # its second part needs the model of the first one, which lies here
                }
            )  # fmt: skip
        return results | {arm.name: [self.result(arm, seed) for seed in arm.config.train.seeds] for arm in self.arms}

    def _evaluated(self, name: str, weights: str, load: Callable[[], Encoder]) -> dict[str, SplitResult]:
        workspace = self._workspace
        path, key = workspace.folder.evaluation(name), self._evaluation_key(weights)

        def work() -> None:
            with workspace.progress.stage("evaluate", f"passages by {name}") as line:
                results = self._trials.elsewhere.pop(name, None) or self._trials.evaluate(load(), progress=line)
                for split, result in results.items():
                    write_trec(workspace.folder.trec(name, split), result.ranking, f"syneg-{name}")
                write_json(path, {split: {"ranking": r.ranking, "values": r.values} for split, r in results.items()})
                line.note = name

        workspace.manifest.make(f"evaluate {name}", key, path, work, "" if name == BASE else "evaluation")
        return {split: SplitResult(**data) for split, data in read_json(path).items()}

    def _evaluation_key(self, weights: str) -> str:
        workspace = self._workspace
        return stage_key(
            "evaluate", workspace.config, workspace.collection.fingerprint, weights, workspace.encoder.prompts
        )

    def _calls(self, arm: Arm) -> Counter[str]:
        """Count the LM calls behind the rows of an arm, by train query."""
        return calls_of(arm, self._written(arm).drafts if arm.wants_synthetic else (), self._readings)

    def _allowed(self, arm: Arm) -> frozenset[str] | None:
        """Return the train queries whose LM calls fit into `arm.calls`; None if the arm has no limit."""
        if arm.calls is None:
            return None
        equals = (self._calls(other) for other in self.arms if other.calls == EQUAL)
        return within(arm.calls, self._calls(arm), equals, self._workspace.pairs)
