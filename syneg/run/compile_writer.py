"""Compile the writer. Its examples are the first train pairs; full training decides, scored on queries that no proposal
saw (`confirming`).

    plan = WriterPlan(workspace, "neighbour_rewrite", program, near=near_misses, readings=readings)
    compiled(workspace, plan)                          → the program that writes the negatives of this run
    plan.confirm(best, first)                          → Confirmed(delta=.007, error=.003, …)

Candidates are compared by nDCG@10 of held-out queries with near-misses of another origin in the corpus, and the
confirmation by that of the queries that decide. Standard nDCG@10 must not fall by more than its error. Without
near-misses, standard nDCG@10 is compared itself. If the confirmation shows no difference, the program is used whose
accepted negatives cost less.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import dspy
import numpy as np

from syneg.core.errors import DataError, UnusableError
from syneg.core.records import Draft, Pair
from syneg.data.collection import Collection
from syneg.llm.lms import LanguageModel
from syneg.negatives.assignment import Assignment
from syneg.negatives.calibration import TrustedJudge
from syneg.negatives.gating import Gating
from syneg.negatives.generation import write
from syneg.negatives.text_reading import TrustedReader
from syneg.optimizers import Candidate, Critic, Objective, WriterTarget
from syneg.retrieval.metrics import MAIN_METRIC
from syneg.training.sampling import Weighed
from syneg.verdict.boundary import boundary_scores, boundary_values
from syneg.verdict.confirmed import Confirmed

from .arms import BASE_TEACHER
from .assigning import gating_of, planned_task
from .compile import CONFIRM, LEAST_CONFIRM
from .confirming import examples_of, said, with_deciders
from .judge import judge_of
from .keys import source_of, stage_key
from .readings import Readings
from .teachers import Teachers
from .trial import FromLM, Trials
from .tried import Tried, Values, compared
from .windows import chosen
from .workspace import Workspace

Near = Mapping[str, Sequence[str]]  # query_id → near-misses


class WriterPlan:
    """Plan for the writing program `name`. Examples are `pairs`, by default the first `compile.pairs` of the run.

    `near` makes near-misses of the queries that compare and that decide. `readings` are needed where arms learn from a
    teacher.
    """

    stage = "compile"

    def __init__(
        self,
        workspace: Workspace,
        name: str,
        program: dspy.Module,
        pairs: Sequence[Pair] | None = None,
        near: Callable[[], Near] = dict,
        readings: Readings | None = None,
    ) -> None:
        self._workspace, self.name, self.program = workspace, name, program
        self.path = workspace.folder.compiled()
        self._pairs, self._near_of, self._readings = pairs, near, readings

    def check(self) -> None:
        """Raise DataError if `compile.confirm` is set and fewer than two queries decide."""
        queries = len(self._collection.splits["confirm"])
        if self._workspace.config.compile.confirm and queries < LEAST_CONFIRM:
            raise DataError(
                f"{queries} queries are left: full training cannot decide whether the compiled program is better",
                todo="raise collection.confirm, or let the objective decide alone with --set compile.confirm=false",
            )

    @property
    def _examples(self) -> Sequence[Pair]:
        return examples_of(self._workspace, self._pairs)

    @cached_property
    def _collection(self) -> Collection:
        """The collection with the queries that decide in its confirm split."""
        return with_deciders(self._workspace, self._pairs)

    @cached_property
    def assignment(self) -> Assignment:
        """The example pairs with mined negatives, task, settings and program."""
        workspace = self._workspace
        task = planned_task(workspace, workspace.config)
        return Assignment(self._examples, workspace.mined, task, workspace.config, self.name, self.program)

    @cached_property
    def gating(self) -> Gating:
        """The gates of the generate stage, with the judge if it is trusted."""
        return gating_of(self._workspace, self.assignment, judge_of(self._workspace))

    @property
    def lm(self) -> LanguageModel:
        """The LM that writes."""
        return self._workspace.roles.writer

    @property
    def examples(self) -> int:
        """Number of pairs that candidates are tried on."""
        return len(self.assignment.pairs)

    @cached_property
    def _near(self) -> Near:
        return self._near_of()

    def _near_to(self, decide: bool) -> Near:
        """Near-misses of the queries that decide, or of those that compare candidates."""
        ids = set(self._collection.splits["confirm"])
        return {query_id: texts for query_id, texts in self._near.items() if (query_id in ids) == decide}

    @property
    def key(self) -> str:
        """A hash of settings, data, encoder, LMs, program, task and judge."""
        return writer_key(self._workspace, self.assignment, self.gating.judge)

    def target(self) -> WriterTarget:
        """Return the program with its examples, scored by the critic and by the objective.

        Raises DataError if the confirmation could not train with `train.teacher`.
        """
        self._check_teacher()
        workspace, assignment, judge = self._workspace, self.assignment, self.gating.judge
        config = workspace.config
        if config.compile.confirm:
            workspace.progress.say(f"  {said(workspace)}")
        near = self._near_to(decide=False)
        places = f"{config.mix.negatives} negatives in a row, {config.mix.ratio:g} written for each mined one"
        workspace.progress.say(f"  candidates stand in {places}; {_mined_by(workspace)}")
        return WriterTarget(
            assignment, Critic(self.gating, config.generate.per_pair),
            Objective(workspace.encoder, self._collection, assignment.pairs, workspace.mined, config, near),
            self.lm, judge.lm if judge else None,
        )  # fmt: skip

    def confirm(self, best: Candidate, first: Candidate) -> Confirmed | None:
        """Compare both programs on the queries that decide, after full training with their negatives for all other
        pairs of the run.

        None if the gates accept nothing that the candidate writes. Raises UnusableError if that is true of the first
        program.
        """
        workspace = self._workspace
        trials = Trials(within := self._within, self._readings)
        if self._readings is not None:
            trials.teachers = Teachers(workspace, self._readings)
        kept = {*within.collection.splits["train"]}
        pairs = [pair for pair in workspace.pairs_to_write if pair.query_id in kept]
        near, tried = self._near_to(decide=True), []
        for label, candidate in (("best", best), ("first", first)):
            assignment = replace(self.assignment, pairs=pairs, program=candidate.program)
            try:
                drafts = _written(workspace, assignment, self.gating)
            except UnusableError as unusable:
                if candidate is first:
                    raise
                workspace.progress.say(f"  confirm: candidate {candidate.number} loses: {unusable}")
                return None
            tried.append(_trained(trials, within, drafts, near, label))
        confirmed = compared(best.number, tried[0], tried[1])
        means = confirmed.mean
        workspace.progress.say(
            f"  confirm: {confirmed.measure} {means[0]:.4f} with the compiled program, {means[1]:.4f} with the first "
            f"({confirmed.figures}). {confirmed.verdict}"
        )
        return confirmed

    @property
    def _within(self) -> Workspace:
        """The workspace of the confirmation: the queries that decide are not trained on."""
        workspace, collection = self._workspace, self._collection
        within = workspace.with_splits_of(collection, workspace.folder, workspace.mined)
        kept = {*collection.splits["train"]}
        within.pairs = [pair for pair in workspace.pairs if pair.query_id in kept]
        within.manifest = workspace.manifest
        return within

    def _check_teacher(self) -> None:
        """Raise DataError if the confirmation cannot learn from `train.teacher`, as the arms of the run do."""
        train = self._workspace.config.train
        if not self._workspace.config.compile.confirm or not train.distil or train.teacher == BASE_TEACHER:
            return
        if refusal := Trials(self._workspace, self._readings).teachers.refusal(train.teacher):
            raise DataError(
                f"no program can be confirmed with train.teacher={train.teacher}: {refusal}",
                todo="set train.teacher=base or train.distil=0",
            )


def _mined_by(workspace: Workspace) -> str:
    """How the mined negatives of the row are chosen, in words."""
    margin = workspace.config.mine.margin
    return chosen(workspace).lines()[0] if margin == "auto" else f"mined with margin {margin:g}, as set (auto races)"


def writer_key(workspace: Workspace, assignment: Assignment, judge: TrustedJudge | TrustedReader | None) -> str:
    """Return the manifest key for compiling the program of `assignment`. It hashes the queries that decide, and not the
    pairs."""
    assert assignment.program is not None
    roles, encoder = workspace.roles, workspace.encoder
    return stage_key(
        "compile", workspace.config, workspace.collection.fingerprint, encoder.fingerprint, encoder.prompts,
        roles.writer.identity, roles.reflection.identity, assignment.program.dump_state(),
        source_of(assignment.name), assignment.task, judge and judge.key, with_deciders(workspace).splits["confirm"],
    )  # fmt: skip


def is_writer_compiled(
    workspace: Workspace, assignment: Assignment, judge: TrustedJudge | TrustedReader | None
) -> bool:
    """Whether the program of `assignment` is compiled and the outcome is on disk."""
    key = writer_key(workspace, assignment, judge)
    return workspace.manifest.has(WriterPlan.stage, key, workspace.folder.compiled())


def _written(workspace: Workspace, assignment: Assignment, gating: Gating) -> list[Draft]:
    """Write negatives for `assignment` as the generate stage does.

    Raises UnusableError if the gates accept none: training would then use mined negatives only, and say nothing about
    the program.
    """
    with workspace.roles.used_for(CONFIRM):
        drafts = write(assignment, gating, workspace.roles.writer, workspace.progress)
    if not any(draft.accepted for draft in drafts):
        raise UnusableError(
            f"the gates accept nothing of {len(drafts)} negatives", todo="try another --lm or --program"
        )
    return drafts


def _trained(trials: Trials, workspace: Workspace, drafts: Sequence[Draft], near: Near, label: str) -> Tried:
    """Train on the accepted `drafts`; return nDCG@10 of the queries that decide, mean over
    `compile.confirm_seeds` seeds."""
    config, collection = workspace.config, workspace.collection
    mined = config.mix.model_copy(update={"base": "mined"})  # as in the probes that chose the candidate
    config = config.model_copy(update={"mix": mined})
    written: dict[str, list[Weighed]] = {}
    for draft in drafts:
        if draft.accepted:
            written.setdefault(draft.pair.query_id, []).append((draft.negative, config.mix.weight))
    by_metric: dict[str, dict[str, list[float]]] = {"standard": {}, "boundary": {}}
    for seed in range(config.compile.confirm_seeds):
        name = f"{label}-{seed}"
        folder = workspace.folder / "confirm" / name
        shutil.rmtree(folder, ignore_errors=True)
        trials.train(trials.job("hybrid", config, FromLM(written), seed), folder, name)
        encoder = trials.load(folder, config)
        at_boundary = boundary_scores(encoder, collection, near) if near else None
        result = trials.evaluate(encoder, ("confirm",))["confirm"]
        shutil.rmtree(folder, ignore_errors=True)
        values: dict[str, Values] = {"standard": result.values[MAIN_METRIC]}
        if at_boundary is not None:
            ranking = {query_id: result.ranking[query_id] for query_id in near}
            values["boundary"] = boundary_values(at_boundary, ranking, collection.qrels)[MAIN_METRIC]
        for metric, of_queries in values.items():
            for query_id, value in of_queries.items():
                by_metric[metric].setdefault(query_id, []).append(value)
    means = {m: {q: float(np.mean(v)) for q, v in values.items()} for m, values in by_metric.items()}
    return Tried(means["standard"], means["boundary"], drafts)
