"""The sets of negatives that a run still has to write, found without calling an LM.

    left = Remaining(run, rates)
    left.set_of("multi_attribute")
      → SetLeft(stem="negatives", name="multi_attribute", config=…, pairs=40, left=12, made=False)

To count the answers in the ledger, the program runs for a sample of pairs while only the ledger may answer.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import dspy

from syneg.core.config import Config
from syneg.core.errors import BackendError, BudgetError
from syneg.core.fetch import is_here
from syneg.core.records import Pair
from syneg.core.storage import read_json
from syneg.llm.calls import attempted, purpose
from syneg.negatives.assignment import Assignment
from syneg.programs import load_program

from .compile_writer import is_writer_compiled
from .compiled import Outcome
from .confirming import groups, said, with_deciders
from .folds import pairs_of_folds
from .known import Known
from .near_misses import (
    SMALL_PROGRAM,
    STRONG_PROGRAM,
    compiling_origin,
    held_out,
    near_miss_settings,
    other_program,
)  # fmt: skip
from .negative_sets import NEAR_MISSES, NEAR_TO_COMPILE, NEGATIVES, fold_stem, use_of
from .parts import Parts
from .rates import Rates

_LOOKED_UP = 32  # pairs whose answers are looked up in the ledger


@dataclass(frozen=True)
class SetLeft:
    """A set of negatives by the program `name`.

    `stem` names its file. It is for `pairs` pairs, and the LM would be asked for `left` of them. `made` says that the
    set is on disk.
    """

    stem: str
    name: str
    config: Config
    pairs: int
    left: int
    made: bool = False

    @property
    def use(self) -> str:
        """The use of the LM under which the ledger files these calls."""
        return use_of(self.name)


class Remaining(Known):
    """Adds the sets of negatives and the compilation to what is known of a run."""

    def __init__(self, parts: Parts, rates: Rates) -> None:
        """`rates` are those of the ledger."""
        super().__init__(parts, rates)
        self._sets = parts.negatives

    def set_of(self, program: str) -> SetLeft:
        """The set that an arm with `program` trains on."""
        name = self.set_name(self._config.generate.program if program == "auto" else program)
        return self._looked_up(self._sets.stem_of(program), name, self._workspace.pairs_to_write, self._config)

    def near_misses(self) -> list[SetLeft]:
        """The near-misses of the boundary test, as a list of one set; [] where none are written."""
        programs = [arm.config.generate.program for arm in self.arms if arm.wants_synthetic]
        chosen, count = self._config.boundary.program, self._workspace.boundary_queries
        if not count or (not programs and chosen == "auto"):
            return []
        name = other_program(sorted({self.set_name(program) for program in programs})) if chosen == "auto" else chosen
        pairs = held_out(self._workspace.collection, self._config.seed)[:count]
        config = near_miss_settings(self._config)
        return [self._looked_up(NEAR_MISSES, name, pairs, config)] if name else []

    def near_misses_to_compile(self) -> list[SetLeft]:
        """The near-misses that a writer is compiled with, as a list of one set; [] where none are written."""
        name = compiling_origin(self._config, self.set_name(self._config.generate.program))[0]
        pairs = [pair for group in groups(self._workspace) for pair in group.first]
        return [self._looked_up(NEAR_TO_COMPILE, name, pairs, near_miss_settings(self._config))] if name else []

    def confirmation(self) -> tuple[int, str]:
        """How many pairs the confirmation of a writer writes for, and in words how many queries decide."""
        kept = {*with_deciders(self._workspace).splits["train"]}
        return sum(pair.query_id in kept for pair in self._workspace.pairs_to_write), said(self._workspace)

    def fold_sets(self, sets: Sequence[SetLeft]) -> list[SetLeft]:
        """The pairs of other folds that cross-fitting writes for, beyond the `sets` of the run."""
        if not self.folds:
            return []
        count, manifest = len(pairs_of_folds(self._workspace)[1]), self._workspace.manifest
        folded = []
        for whole in sets:
            stem, more = fold_stem(whole.name), count - whole.pairs
            made = whole.made and manifest.key(stem) is not None
            folded.append(SetLeft(stem, whole.name, whole.config, more, 0 if made else more, made))
        return folded

    def set_name(self, program: str) -> str:
        """Replace `auto` by the program that suits the strength of the writer, as far as it is known."""
        auto = STRONG_PROGRAM if self.is_strong else SMALL_PROGRAM
        return auto if program == "auto" else program

    @cached_property
    def is_compiled(self) -> bool:
        """Whether the program of the run is compiled for the current settings."""
        if self._writer is None or not self.is_mined:
            return False
        if self.task is None or self._judge_is_open:
            return False
        name = self.set_name(self._config.generate.program)
        assignment = Assignment((), {}, self.task, self._config, name, load_program(name))
        return is_writer_compiled(self._workspace, assignment, self._judge)

    def _program(self, stem: str, name: str) -> dspy.Module | None:
        """The program that writes a set; None if it has to be compiled first."""
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
        near = stem in (NEAR_MISSES, NEAR_TO_COMPILE)
        mined = workspace.mine_for(pairs).negatives if near else self._candidates
        assignment = Assignment(pairs, mined, self.task, config, name, program)
        if not self._judge_is_open and self._sets.is_written(stem, assignment, self._judge):
            return replace(whole, left=0, made=True)
        if not self._rates.calls(whole.use, config.lm.model):
            return whole
        return replace(whole, left=self._unanswered(assignment))

    def _unanswered(self, assignment: Assignment) -> int:
        """Estimate from a sample for how many pairs the ledger does not hold the first attempt."""
        count = len(assignment.pairs)
        sample = random.Random(f"{self._config.seed}:left").sample(range(count), min(_LOOKED_UP, count))
        unanswered = sum(not self._is_answered(assignment, place) for place in sample)
        return round(count * unanswered / len(sample)) if sample else 0

    def _is_answered(self, assignment: Assignment, place: int) -> bool:
        """Whether the ledger holds the first attempt for a pair."""
        assert self._writer is not None and assignment.program is not None
        ask, writer = assignment.ask(place), self._writer
        lm = writer.lm_for(0, len(ask["attributes"]))
        about = purpose(assignment.pairs[place].query_id)
        with writer.engine.uncalled(), about, dspy.context(lm=lm, adapter=writer.adapter):
            try:
                attempted(assignment.program, ask)
            except (BudgetError, BackendError):  # the ledger, of this run or of --replay, has no answer
                return False
        return True
