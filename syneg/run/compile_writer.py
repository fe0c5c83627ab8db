"""Compile the writer. Its examples are the first train pairs; full training, scored on the confirm split, decides.

    plan = WriterPlan(workspace, "neighbour_rewrite", program)
    compiled(workspace, plan)                          → the program that writes the negatives of this run
    plan.confirm(best, first)                          → Confirmed(delta=.007, error=.003, …)

The candidate replaces the program only if its mean nDCG@10 on confirm is higher by more than the standard error of the
paired difference.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import dspy
import numpy as np

from syneg.core.errors import DataError, UnusableError
from syneg.core.records import HardNegative, Pair
from syneg.negatives.assignment import Assignment
from syneg.negatives.calibration import TrustedJudge
from syneg.negatives.gating import Gating
from syneg.negatives.generation import write
from syneg.optimizers import Candidate, Critic, Objective, WriterTarget
from syneg.retrieval.metrics import MAIN_METRIC

from .assigning import gating_of, planned_task
from .compile import CONFIRM, LEAST_CONFIRM
from .compiled import Confirmed
from .judge import judge_of
from .keys import source_of, stage_key
from .trial import Trials
from .workspace import Workspace


class WriterPlan:
    """Plan for the writing program `name`. Examples are `pairs`, by default the first `compile.pairs` of the run."""

    stage = "compile"

    def __init__(
        self, workspace: Workspace, name: str, program: dspy.Module, pairs: Sequence[Pair] | None = None
    ) -> None:
        self._workspace, self.name, self.program = workspace, name, program
        self.path = workspace.folder.compiled()
        self._pairs = pairs

    def check(self) -> None:
        """Raise DataError if `compile.confirm` is set and the confirm split has fewer than two queries."""
        queries = len(self._workspace.collection.splits["confirm"])
        if self._workspace.config.compile.confirm and queries < LEAST_CONFIRM:
            raise DataError(
                f"{queries} confirm queries: full training cannot decide whether the compiled program is better",
                todo="raise collection.confirm, or let the objective decide alone with --set compile.confirm=false",
            )

    @cached_property
    def assignment(self) -> Assignment:
        """The example pairs with mined negatives, task, settings and program."""
        workspace = self._workspace
        task = planned_task(workspace, workspace.config)
        pairs = workspace.pairs[: workspace.config.compile.pairs] if self._pairs is None else self._pairs
        return Assignment(pairs, workspace.mined, task, workspace.config, self.name, self.program)

    @cached_property
    def gating(self) -> Gating:
        """The gates of the generate stage, with the judge if it is trusted."""
        return gating_of(self._workspace, self.assignment, judge_of(self._workspace))

    @property
    def key(self) -> str:
        """A hash of settings, data, encoder, LMs, program, task and judge."""
        return writer_key(self._workspace, self.assignment, self.gating.judge)

    def target(self) -> WriterTarget:
        """Return the program with its examples, scored by the critic and by the objective."""
        workspace, assignment, judge = self._workspace, self.assignment, self.gating.judge
        config = workspace.config
        return WriterTarget(
            assignment, Critic(self.gating, config.generate.per_pair),
            Objective(workspace.encoder, workspace.collection, assignment.pairs, workspace.mined, config),
            workspace.roles.writer, judge.lm if judge else None,
        )  # fmt: skip

    def confirm(self, best: Candidate, first: Candidate) -> Confirmed | None:
        """Compare both programs by nDCG@10 on confirm, after full training with their negatives for the run's pairs.

        None if the gates accept nothing that the candidate writes. Raises UnusableError if that is true of the first
        program.
        """
        workspace, trials = self._workspace, Trials(self._workspace)
        values = []
        for label, candidate in (("best", best), ("first", first)):
            assignment = replace(self.assignment, pairs=workspace.pairs_to_write, program=candidate.program)
            try:
                negatives = _accepted(workspace, assignment, self.gating)
            except UnusableError as unusable:
                if candidate is first:
                    raise
                workspace.progress.say(f"  confirm: candidate {candidate.number} loses: {unusable}")
                return None
            values.append(_trained(workspace, trials, negatives, label))
        confirmed = Confirmed.of(best.number, values[0], values[1])
        means = confirmed.mean
        workspace.progress.say(
            f"  confirm: {MAIN_METRIC} {means[0]:.4f} with the compiled program, {means[1]:.4f} with the first "
            f"({confirmed})"
        )
        return confirmed


def writer_key(workspace: Workspace, assignment: Assignment, judge: TrustedJudge | None) -> str:
    """Return the manifest key for compiling the program of `assignment`. It does not hash the pairs."""
    assert assignment.program is not None
    roles, encoder = workspace.roles, workspace.encoder
    return stage_key(
        "compile", workspace.config, workspace.collection.fingerprint, encoder.fingerprint, encoder.prompts,
        roles.writer.identity, roles.reflection.identity, assignment.program.dump_state(),
        source_of(assignment.name), assignment.task, judge and judge.key,
    )  # fmt: skip


def is_writer_compiled(workspace: Workspace, assignment: Assignment, judge: TrustedJudge | None) -> bool:
    """Whether the program of `assignment` is compiled and the outcome is on disk."""
    key = writer_key(workspace, assignment, judge)
    return workspace.manifest.key(WriterPlan.stage) == key and workspace.folder.compiled().exists()


def _accepted(workspace: Workspace, assignment: Assignment, gating: Gating) -> dict[str, list[HardNegative]]:
    """Write negatives for `assignment` as the generate stage does; return query_id → accepted negatives.

    Raises UnusableError if the gates accept none: training would then use mined negatives only, and say nothing about
    the program.
    """
    with workspace.roles.used_for(CONFIRM):
        drafts = write(assignment, gating, workspace.roles.writer, workspace.progress)
    negatives: dict[str, list[HardNegative]] = {}
    for draft in drafts:
        if draft.accepted:
            negatives.setdefault(draft.pair.query_id, []).append(draft.negative)
    if not negatives:
        raise UnusableError(
            f"the gates accept nothing of {len(drafts)} negatives", todo="try another --lm or --program"
        )
    return negatives


def _trained(
    workspace: Workspace, trials: Trials, negatives: dict[str, list[HardNegative]], label: str
) -> dict[str, float]:
    """Train on `negatives`; return query_id → nDCG@10 on confirm, mean over `compile.confirm_seeds` seeds."""
    config = workspace.config
    synthetic = {q: [(n, config.mix.weight) for n in written] for q, written in negatives.items()}
    by_query: dict[str, list[float]] = {}
    for seed in range(config.compile.confirm_seeds):
        name = f"{label}-{seed}"
        folder = workspace.folder / "confirm" / name
        shutil.rmtree(folder, ignore_errors=True)
        trials.train(trials.job("hybrid", config, synthetic, seed), folder, name)
        result = trials.evaluate(trials.load(folder, config), ("confirm",))
        shutil.rmtree(folder, ignore_errors=True)
        for query_id, value in result["confirm"].values[MAIN_METRIC].items():
            by_query.setdefault(query_id, []).append(value)
    return {query_id: float(np.mean(values)) for query_id, values in by_query.items()}
