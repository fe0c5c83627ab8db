"""The compile stage: a recipe proposes programs, the objective chooses, full training on the confirm split has the last
word.

    compiled(workspace, "neighbour_rewrite", program) → the program that writes the negatives of this run

In the run folder: `compiled.json` (the state that won, every candidate with its scores, what was confirmed), from which
`program.json` and `program.md` are made. The program of the author is replaced only where the compiled one has the
higher mean nDCG@10 on confirm after full training, by more than the standard error of the difference. The test split is
not touched. Stopped by a budget, the stage goes on with what was found by then; killed, the same command is answered
from the ledger up to that point.
"""

from __future__ import annotations

import copy
import shutil
from dataclasses import replace

import dspy
import numpy as np

from syneg.core.errors import ConfigError, DataError, UnusableError
from syneg.core.records import HardNegative
from syneg.core.storage import read_json, write_json
from syneg.llm.budget import Budget
from syneg.negatives.assignment import Assignment
from syneg.negatives.calibration import TrustedJudge
from syneg.negatives.gating import Gating
from syneg.negatives.generation import write
from syneg.optimizers import RECIPES, Candidate, Compiling, Critic, Lms, Objective, choose, run_recipe
from syneg.optimizers.guards import check_floor
from syneg.optimizers.search import ENOUGH
from syneg.retrieval.metrics import MAIN_METRIC

from .assigning import gating_of, planned_task
from .compiled import CandidateRow, Confirmed, Outcome
from .judge import judge_of
from .keys import source_of, stage_key
from .trial import Trials
from .workspace import Workspace

COMPILE, CONFIRM = "compile", "confirm"  # uses of an LM, as the ledger calls them
_FOR_PROPOSALS = 0.6  # of the budget; the rest is for the choice
_LEAST_CONFIRM = 2  # queries; of one the standard error of a difference is not known


def compiled(workspace: Workspace, name: str, program: dspy.Module) -> dspy.Module:
    """`program` (called `name`), or what its compilation made of it.

    Raises ConfigError for a budget that can find nothing, DataError where there is nothing to confirm on.
    """
    config = workspace.config.compile
    if config.optimizer == "none":
        return program
    check_confirm(workspace)
    if workspace.goes_by_batch and not workspace.folder.compiled.exists():
        raise ConfigError(
            "compiling asks one call after another, which no batch file can do",
            todo="run `syneg-dspy compile` with the same flags first, or leave out --optimizer",
        )
    path, task = workspace.folder.compiled, planned_task(workspace, workspace.config)
    pairs = workspace.pairs[: config.pairs]
    assignment = Assignment(pairs, workspace.mined, task, workspace.config, name, program)
    gating = gating_of(workspace, assignment, judge_of(workspace))
    workspace.manifest.make(
        "compile", _key(workspace, assignment, gating.judge), path,
        lambda: write_json(path, _compile(workspace, assignment, gating).to_json()),
    )  # fmt: skip
    best = copy.deepcopy(program)
    best.load_state(Outcome.from_json(read_json(path)).state)
    return best


def is_compiled(workspace: Workspace, assignment: Assignment, judge: TrustedJudge | None) -> bool:
    """Whether what `compiled` would return is on disk; `assignment` names the program and the task."""
    key = _key(workspace, assignment, judge)
    return workspace.manifest.key("compile") == key and workspace.folder.compiled.exists()


def _key(workspace: Workspace, assignment: Assignment, judge: TrustedJudge | None) -> str:
    assert assignment.program is not None
    roles, encoder = workspace.roles, workspace.encoder
    return stage_key(
        "compile", workspace.config, workspace.collection.fingerprint, encoder.fingerprint, encoder.prompts,
        roles.writer.identity, roles.reflection.identity, assignment.program.dump_state(),
        source_of(assignment.name), assignment.task, judge and judge.key,
    )  # fmt: skip


def check_confirm(workspace: Workspace) -> None:
    """Raise DataError where confirming is wanted and there are no queries for it, before anything is paid for."""
    queries = len(workspace.collection.splits["confirm"])
    if workspace.config.compile.confirm and queries < _LEAST_CONFIRM:
        raise DataError(
            f"{queries} confirm queries: full training cannot decide whether the compiled program is better",
            todo="raise collection.confirm, or let the objective decide alone with --set compile.confirm=false",
        )


def _compile(workspace: Workspace, assignment: Assignment, gating: Gating) -> Outcome:
    config, progress = workspace.config.compile, workspace.progress
    _check_budget(workspace, assignment)
    if len(assignment.pairs) < ENOUGH:
        progress.say(
            f"  {len(assignment.pairs)} pairs are too few for the objective alone (under {ENOUGH}): "
            "the critic chooses with it"
        )
    budget = Budget(calls=config.calls, tokens=config.tokens, usd=config.usd, minutes=config.minutes)
    compiling = compilation(workspace, assignment, gating, budget)
    with workspace.roles.limited(budget, judge=gating.judge is not None), workspace.roles.used_for(COMPILE):
        with progress.stage("compile", "programs") as line:
            budget.scale(_FOR_PROPOSALS)
            stopped = run_recipe(config.optimizer, compiling)
            programs = len(compiling.register.candidates)
            line.note = f"{config.optimizer}: {programs} programs, {budget.used['calls']:.0f} calls"
            line.note += f"; stopped: {stopped}" if stopped else ""
        with progress.stage("choose") as line:
            budget.scale(1 / _FOR_PROPOSALS)
            ranked = choose(compiling)
            line.note = f"{len(ranked)} programs, best number {ranked[0].number}"
    best, confirmed = ranked[0], None
    if config.confirm and best is not compiling.first:
        confirmed = _confirm(workspace, compiling, gating, best)
        best = best if confirmed is not None and confirmed.wins else compiling.first
    candidates = sorted(compiling.register.candidates.values(), key=lambda candidate: candidate.number)
    return Outcome(
        program=assignment.name, optimizer=config.optimizer, state=best.program.dump_state(json_mode=True),
        won=best is not compiling.first, confirmed=confirmed, stopped=stopped, used=budget.used,
        candidates=tuple(CandidateRow.of(candidate, compiling.copied(candidate)) for candidate in candidates),
    )  # fmt: skip


def _check_budget(workspace: Workspace, assignment: Assignment) -> None:
    """Raise ConfigError for limits that can find nothing, or that cannot be kept."""
    config = workspace.config.compile
    assert assignment.program is not None
    steps = len(assignment.program.predictors())
    check_floor(
        config.optimizer, calls=config.calls, per_program=steps * max(2, len(assignment.pairs) // 3),
        least=RECIPES[config.optimizer].least,
    )  # fmt: skip
    if config.usd and not workspace.roles.writer.engine.price_known:
        raise ConfigError(
            f"the price of {workspace.config.lm.model!r} is not known, so compile.usd cannot be kept",
            todo="limit calls or tokens",
        )


def compilation(workspace: Workspace, assignment: Assignment, gating: Gating, budget: Budget) -> Compiling:
    """What a recipe works with, for the program and the pairs of an assignment."""
    config, roles = workspace.config, workspace.roles
    return Compiling(
        assignment, Critic(gating, config.generate.per_pair),
        Objective(workspace.encoder, workspace.collection, assignment.pairs, workspace.mined, config),
        Lms(roles.writer, roles.reflection, gating.judge.lm if gating.judge else None), budget,
        lambda text: workspace.progress.say(f"  {text}"),
    )  # fmt: skip


def _confirm(workspace: Workspace, compiling: Compiling, gating: Gating, best: Candidate) -> Confirmed | None:
    """nDCG@10 on confirm after full training with what the best candidate and the first program write for the pairs of
    the run; None where the candidate writes nothing usable."""
    trials = Trials(workspace)
    values = []
    for label, candidate in (("best", best), ("first", compiling.first)):
        assignment = replace(compiling.assignment, pairs=workspace.pairs_to_write, program=candidate.program)
        try:
            negatives = _accepted(workspace, assignment, gating)
        except UnusableError as unusable:
            if candidate is compiling.first:
                raise
            workspace.progress.say(f"  confirm: candidate {candidate.number} loses: {unusable}")
            return None
        values.append(_trained(workspace, trials, negatives, label))
    with_best, with_first = values
    ids = sorted(with_best)
    deltas = np.array([with_best[query_id] - with_first[query_id] for query_id in ids])  # (queries,)
    error = float(deltas.std(ddof=1) / np.sqrt(len(deltas))) if len(deltas) > 1 else float("nan")
    means = float(np.mean([with_best[q] for q in ids])), float(np.mean([with_first[q] for q in ids]))
    confirmed = Confirmed(best.number, means, float(deltas.mean()), error, len(ids))
    workspace.progress.say(
        f"  confirm: {MAIN_METRIC} {means[0]:.4f} with the compiled program, {means[1]:.4f} with the first "
        f"({confirmed})"
    )
    return confirmed


def _accepted(workspace: Workspace, assignment: Assignment, gating: Gating) -> dict[str, list[HardNegative]]:
    """What the program of an assignment writes and the gates accept, by query, as `generate` makes it.

    Raises UnusableError where that is nothing: mined negatives alone are no merit of a program.
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
    """nDCG@10 of each confirm query, mean over the seeds of `compile.confirm_seeds`."""
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
