"""What a run folder does not hold yet, for these settings, found without calling an LM or computing a stage.

    left = Remaining(run, rates)
    left.set_of("multi_attribute") → SetLeft(stem="negatives", name="multi_attribute", pairs=40, left=12, made=False, …)

Answers in the ledger are found by running the program of a sample of pairs while only the ledger answers. Where the
encoder or the LM's weights are not on this machine, nothing of theirs can have been made.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import dspy

from syneg.core.config import Config
from syneg.core.errors import SynegError
from syneg.core.fetch import is_here
from syneg.core.records import MinedNegative, Pair
from syneg.core.storage import read_json
from syneg.data.tasks import Task, task_for
from syneg.llm.calls import purpose, reraise_fatal
from syneg.llm.lms import LanguageModel
from syneg.llm.roles import reader_settings
from syneg.negatives.assignment import Assignment, plan_domains
from syneg.negatives.calibration import Calibration, TrustedJudge
from syneg.negatives.strength import Strength, known_strength
from syneg.programs import load_program

from .arms import Arm
from .compile_writer import is_writer_compiled
from .compiled import Outcome
from .experiment import Experiment
from .folds import pairs_of_folds, wants_folds
from .judge import known_calibration
from .negative_sets import (
    NEAR_MISSES,
    NEGATIVES,
    SMALL_PROGRAM,
    STRONG_PROGRAM,
    NegativeSets,
    fold_stem,
    near_miss_settings,
    other_program,
    use_of,
)  # fmt: skip
from .rates import Rates
from .reader import Measured
from .readings import READING, Readings
from .workspace import Workspace

_LOOKED_UP = 32  # pairs


@dataclass(frozen=True)
class SetLeft:
    """A set of negatives by one program: for how many pairs it is, and for how many of them the LM would be asked."""

    stem: str
    name: str
    config: Config
    pairs: int
    left: int
    made: bool = False

    @property
    def use(self) -> str:
        """What the ledger calls these calls."""
        return use_of(self.name)


class Planned(Protocol):
    """A run, as far as an estimate looks at it."""

    @property
    def workspace(self) -> Workspace: ...

    @property
    def negatives(self) -> NegativeSets: ...

    @property
    def experiment(self) -> Experiment: ...

    @property
    def readings(self) -> Readings: ...


class Remaining:
    """Looks into the folder of a run; each answer is looked up once."""

    def __init__(self, path: Planned, rates: Rates) -> None:
        self._workspace, self._sets, self._rates = path.workspace, path.negatives, rates
        self._readings, self._config = path.readings, path.workspace.config
        self.arms: list[Arm] = path.experiment.planned

    # what is on this machine

    @cached_property
    def encoder_is_here(self) -> bool:
        """Whether the encoder can be loaded without fetching it."""
        name = self._config.encoder.model
        if name.startswith("local/") or Path(name).expanduser().is_dir():
            return is_here(name) or not name.startswith("local/")
        from huggingface_hub import try_to_load_from_cache

        return isinstance(try_to_load_from_cache(name, "config.json", revision=self._config.encoder.revision), str)

    @cached_property
    def _writer(self) -> LanguageModel | None:
        """The writer's LM, opened; None where its weights would have to be fetched."""
        here = self._config.executor.replay or is_here(self._config.lm.model)
        return self._workspace.roles.writer if here else None

    @cached_property
    def is_mined(self) -> bool:
        """Whether the mined negatives are there."""
        return self.encoder_is_here and self._workspace.is_mined

    @cached_property
    def pairs(self) -> int:
        """Pairs that are trained on."""
        return len(self._workspace.pairs)

    def queries(self, split: str) -> int:
        """Queries of a split."""
        return len(self._workspace.collection.splits[split])

    # what LMs have said

    @cached_property
    def strength(self) -> Strength | None:
        """The measured strength of the writer; None where it was never measured."""
        return known_strength(self._writer) if self._writer else None

    @property
    def needs_strength(self) -> bool:
        """Whether a setting goes by it."""
        programs = {self._config.generate.program, *(arm.config.generate.program for arm in self.arms)}
        return "auto" in programs or self._config.judge.use == "auto"

    @property
    def is_strong(self) -> bool:
        """What was measured, else the rule of thumb: embedded LMs are small."""
        return self.strength.strong if self.strength else not self._config.lm.model.startswith("local/")

    @property
    def judges(self) -> bool:
        """Whether a judge would read negatives, as far as is known."""
        use = self._config.judge.use
        wanted = use == "on" or (use == "auto" and self.is_strong)
        return wanted and (self.calibration is None or self.calibration.trusted)

    @cached_property
    def calibration(self) -> Calibration | None:
        """The calibration of the judge; None if it was never made."""
        return known_calibration(self._workspace) if self.is_mined and self._writer else None

    @cached_property
    def task(self) -> Task | None:
        """The task, with the domains that the LM named where `generate.plan` asks it to; None where it has not yet."""
        task = task_for(self._config)
        if not self._config.generate.plan or self._config.generate.domains:
            return task
        if self._writer is None:
            return None
        with self._writer.engine.uncalled():
            try:
                passages = list(self._workspace.collection.passages.values())
                return plan_domains(task, passages, self._writer, self._config.seed)
            except SynegError:
                return None

    # the reader

    @property
    def _reader_is_here(self) -> bool:
        models = [reader_settings(self._config).model, *filter(None, [self._config.reader.strong])]
        return self.is_mined and all(map(is_here, models))

    @cached_property
    def measured_reader(self) -> Measured | None:
        """How the reader did; None where it was not measured with these settings."""
        return self._readings.reader.measured if self._reader_is_here and self._readings.reader.is_measured else None

    @property
    def queries_to_read(self) -> int:
        """Train queries whose passages the reader has not graded."""
        made = self._reader_is_here and self._readings.is_made
        done = self._rates.calls(READING, reader_settings(self._config).model)
        if self.folds and any(arm.reads for arm in self.arms):
            made = made and self._workspace.manifest.key("folds") is not None
            most = self._config.reader.pairs or len(self._workspace.collection.queries)
            return 0 if made else max(0, min(most, len(pairs_of_folds(self._workspace)[0])) - done)
        return 0 if made else max(0, self._readings.queries - done)

    @property
    def is_reader_compiled(self) -> bool:
        """Whether the compiled reader that the settings ask for is there."""
        return self._reader_is_here and self._readings.reader.is_compiled

    @property
    def deciding_queries(self) -> int:
        """Queries that decide between two readers."""
        return self._readings.reader.plan.queries

    # sets of negatives

    def set_of(self, program: str) -> SetLeft:
        """The set for the train pairs by the program of an arm."""
        name = self.set_name(self._config.generate.program if program == "auto" else program)
        return self._looked_up(self._sets.stem_of(program), name, self._workspace.pairs_to_write, self._config)

    def near_misses(self) -> list[SetLeft]:
        """The near-misses of the boundary test; [] where there are none to write."""
        programs = [arm.config.generate.program for arm in self.arms if arm.wants_synthetic]
        chosen, count = self._config.boundary.program, self._workspace.boundary_queries
        if not count or (not programs and chosen == "auto"):
            return []
        name = other_program(sorted({self.set_name(program) for program in programs})) if chosen == "auto" else chosen
        pairs, config = self._sets.held_out()[:count], near_miss_settings(self._config)
        return [self._looked_up(NEAR_MISSES, name, pairs, config)] if name else []

    def fold_sets(self, sets: Sequence[SetLeft]) -> list[SetLeft]:
        """What cross-fitting writes beside the `sets` of the run."""
        if not self.folds:
            return []
        count, manifest = len(pairs_of_folds(self._workspace)[1]), self._workspace.manifest
        folded = []
        for whole in sets:
            stem, more = fold_stem(whole.name), count - whole.pairs
            made = whole.made and manifest.key(stem) is not None
            folded.append(SetLeft(stem, whole.name, whole.config, more, 0 if made else more, made))
        return folded

    @cached_property
    def folds(self) -> int:
        """Folds that cross-fitting trains in; 0 where there is none."""
        return self._config.evaluate.folds if wants_folds(self._workspace, self.arms) else 0

    def set_name(self, program: str) -> str:
        """The program that `auto` stands for, as far as is known."""
        auto = STRONG_PROGRAM if self.is_strong else SMALL_PROGRAM
        return auto if program == "auto" else program

    @cached_property
    def is_compiled(self) -> bool:
        """Whether the compilation that the settings ask for is there."""
        if self._writer is None or not self.is_mined:
            return False
        if self.task is None or self._judge_is_open:
            return False
        name = self.set_name(self._config.generate.program)
        assignment = Assignment((), {}, self.task, self._config, name, load_program(name))
        return is_writer_compiled(self._workspace, assignment, self._judge)

    def _program(self, stem: str, name: str) -> dspy.Module | None:
        """The program that would write a set now; None if it has to be compiled first."""
        program = load_program(name)
        if stem == NEGATIVES and self._config.compile.improves("writer"):
            if not self.is_compiled:
                return None
            program.load_state(Outcome.from_json(read_json(self._workspace.folder.compiled())).state)
        return program

    def _looked_up(self, stem: str, name: str, pairs: Sequence[Pair], config: Config) -> SetLeft:
        whole = SetLeft(stem, name, config, len(pairs), len(pairs))
        if not self.is_mined or self._writer is None or self.task is None or not is_here(config.lm.model):
            return whole
        program, workspace = self._program(stem, name), self._workspace
        if program is None:
            return whole
        mined = workspace.mine_for(pairs).negatives if stem == NEAR_MISSES else self._candidates
        assignment = Assignment(pairs, mined, self.task, config, name, program)
        if not self._judge_is_open and self._sets.is_written(stem, assignment, self._judge):
            return replace(whole, left=0, made=True)
        if not self._rates.calls(whole.use, config.lm.model):
            return whole
        return replace(whole, left=self._unanswered(assignment))

    def _unanswered(self, assignment: Assignment) -> int:
        """For how many pairs the ledger does not answer the first attempt, by a sample."""
        count = len(assignment.pairs)
        sample = random.Random(f"{self._config.seed}:left").sample(range(count), min(_LOOKED_UP, count))
        unanswered = sum(not self._is_answered(assignment, place) for place in sample)
        return round(count * unanswered / len(sample)) if sample else 0

    @cached_property
    def _candidates(self) -> Mapping[str, Sequence[MinedNegative]]:
        """The passages that programs rewrite: graded ones where a reader read, else mined ones."""
        read = self._reader_is_here and self._readings.reader.is_measured and self._readings.is_made
        return self._readings.candidates() if read else self._workspace.mined

    @property
    def _judge_is_open(self) -> bool:
        """Whether a judge is wanted that was not measured yet."""
        return self.judges and self.calibration is None

    @property
    def _judge(self) -> TrustedJudge | None:
        if not self.judges or self.calibration is None:
            return None
        return TrustedJudge(self._workspace.roles.judge_lm, self.calibration)

    def _is_answered(self, assignment: Assignment, place: int) -> bool:
        """Whether the ledger answers the first attempt for a pair."""
        assert self._writer is not None and assignment.program is not None
        ask, writer = assignment.ask(place), self._writer
        lm = writer.lm_for(0, len(ask["attributes"]))
        about = purpose(assignment.pairs[place].query_id)
        with writer.engine.uncalled(), about, dspy.context(lm=lm, adapter=writer.adapter):
            try:
                assignment.program(**ask)
            except Exception as error:  # noqa: BLE001 a program may be the user's own code
                try:
                    reraise_fatal(error)
                except SynegError:
                    return False
        return True
