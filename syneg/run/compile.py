"""The compile stage. A recipe proposes programs, the target's score ranks them, and queries that no proposal has seen
decide whether the best one replaces the author's program.

    compiled(workspace, WriterPlan(workspace, "neighbour_rewrite", program)) → the program that the run goes on with

A plan says how a run compiles one target; `syneg.run.targets` lists the plans. The stage writes `compiled.json`: the
state of the winner, every candidate with its scores, and the confirmation. `program.json` and `program.md` are made
from it. For targets other than the writer, file names start with the target: `reader-compiled.json`. The stage never
chooses by the test split. If a budget stops the recipe, the stage chooses among the candidates so far. After a kill,
the same command replays the finished calls from the ledger.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Protocol

import dspy

from syneg.core.counts import counted
from syneg.core.errors import ConfigError
from syneg.core.storage import read_json, write_json
from syneg.llm.budget import Budget
from syneg.llm.lms import LanguageModel
from syneg.optimizers import RECIPES, Candidate, Compiling, Target, choose, run_recipe
from syneg.optimizers.guards import check_floor
from syneg.verdict.confirmed import Confirmed

from .compiled import CandidateRow, Outcome
from .workspace import Workspace

COMPILE, CONFIRM = "compile", "confirm"  # values of `use` in the ledger
LEAST_CONFIRM = 2  # queries or passages that decide; one has no standard error
_FOR_PROPOSALS = 0.6  # share of the budget; the rest is kept for choosing


class Plan(Protocol):
    """How a run compiles one target: the program to start from, its metric, and how the best candidate is confirmed."""

    name: str
    "Name of the program, as users write it."
    program: dspy.Module
    "The program as its author wrote it."
    stage: str
    "Name of the stage in the manifest."
    path: Path
    "File that the outcome is written to."

    @property
    def lm(self) -> LanguageModel:
        """The LM that runs the program."""
        ...

    @property
    def examples(self) -> int:
        """Number of examples that candidates are tried on."""
        ...

    @property
    def key(self) -> str:
        """A hash of everything that the outcome depends on."""
        ...

    def check(self) -> None:
        """Raise ConfigError or DataError if compiling cannot succeed, before the first LM call."""
        ...

    def target(self) -> Target:
        """Return the program with its examples and its metric."""
        ...

    def confirm(self, best: Candidate, first: Candidate) -> Confirmed | None:
        """Compare the best candidate with the first program; None if the candidate gives no usable answer."""
        ...


def compiled(workspace: Workspace, plan: Plan) -> dspy.Module:
    """Compile the program of `plan`, unless that is done; return the winner: a candidate or the program itself.

    Raises ConfigError if the budget is too small for the recipe or if calls go to a batch file, and DataError if too
    little data is left to confirm.
    """
    plan.check()
    if workspace.goes_by_batch and not plan.path.exists():
        raise ConfigError(
            "compiling asks one call after another, which no batch file can do",
            todo="run `syneg-dspy compile` with the same flags first, or leave out --optimizer",
        )
    workspace.manifest.make(
        plan.stage, plan.key, plan.path, lambda: write_json(plan.path, _compile(workspace, plan).to_json())
    )
    return best_of(plan)


def is_compiled(workspace: Workspace, plan: Plan) -> bool:
    """Whether the outcome for `plan.key` is on disk, so that `compiled` needs no LM call."""
    return plan.path.exists() and workspace.manifest.has(plan.stage, plan.key, plan.path)


def best_of(plan: Plan) -> dspy.Module:
    """Load the winner of a finished compilation. Raises DataError for an unreadable outcome."""
    best = copy.deepcopy(plan.program)
    best.load_state(Outcome.from_json(read_json(plan.path)).state)
    return best


def _compile(workspace: Workspace, plan: Plan) -> Outcome:
    config, progress = workspace.config.compile, workspace.progress
    _check_budget(workspace, plan)
    target = plan.target()
    if len(target.asks) < target.enough:
        progress.say(
            f"  {len(target.asks)} pairs are too few for the objective alone (under {target.enough}): "
            "the critic chooses with it"
        )
    limits = {name: getattr(config, name) for name in ("calls", "tokens", "usd", "minutes")}
    budget = Budget(**limits, name=plan.key[:16])
    compiling = compilation(workspace, target, budget)
    lms = [target.lm, compiling.reflection, *target.others]
    with workspace.roles.limited(budget, lms), workspace.roles.used_for(COMPILE):
        with progress.stage("compile", "programs") as line:
            budget.scale(_FOR_PROPOSALS)
            stopped = run_recipe(config.optimizer, compiling)
            programs = len(compiling.register.candidates)
            calls = counted(round(budget.used["calls"]), "call")
            line.note = f"{config.optimizer}: {counted(programs, 'program')}, {calls}"
            line.note += f"; stopped: {stopped}" if stopped else ""
        with progress.stage("choose", "answers and scores") as line:
            budget.scale(1 / _FOR_PROPOSALS)
            ranked = choose(compiling, line)
            line.note = f"{counted(len(ranked), 'program')}, best number {ranked[0].number}"
    best, confirmed, unusable = ranked[0], None, 0
    used, last = _used(budget), {}
    if config.confirm and best is not compiling.first:
        to_confirm = Budget(name=f"{plan.key[:16]} confirm")  # counts, and limits nothing
        with workspace.roles.counted_in(to_confirm):
            confirmed = plan.confirm(best, compiling.first)
        last = _used(to_confirm)
        unusable = 0 if confirmed else best.number
        best = best if confirmed is not None and confirmed.replaces else compiling.first
    candidates = sorted(compiling.register.candidates.values(), key=lambda candidate: candidate.number)
    return Outcome(
        program=plan.name, optimizer=config.optimizer, state=best.program.dump_state(json_mode=True),
        won=best is not compiling.first, confirmed=confirmed, stopped=stopped, used=used,
        candidates=tuple(CandidateRow.of(candidate, compiling.copied(candidate)) for candidate in candidates),
        target=target.name, measure=target.measure, baseline=target.baseline, second=target.second,
        unusable=unusable, used_to_confirm=last,
    )  # fmt: skip


def _used(budget: Budget) -> dict[str, float]:
    return {**budget.used, "minutes": round(budget.minutes, 2)}


def _check_budget(workspace: Workspace, plan: Plan) -> None:
    """Raise ConfigError if the limits are too low for the recipe, or if `compile.usd` is set without a known price."""
    config = workspace.config.compile
    steps = len(plan.program.predictors())
    check_floor(
        config.optimizer, calls=config.calls, per_program=steps * max(2, plan.examples // 3),
        least=RECIPES[config.optimizer].least,
    )  # fmt: skip
    if config.usd and not plan.lm.engine.price_known:
        raise ConfigError(
            f"the price of {plan.lm.engine.config.model!r} is not known, so compile.usd cannot be kept",
            todo="limit calls or tokens",
        )


def compilation(workspace: Workspace, target: Target, budget: Budget) -> Compiling:
    """Return what a recipe works with: target, settings, reflection LM, budget, and a function that prints progress."""
    reflection = workspace.roles.reflection
    return Compiling(target, workspace.config, reflection, budget, lambda text: workspace.progress.say(f"  {text}"))
