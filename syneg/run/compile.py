"""The compile stage: a recipe proposes programs, the target's score chooses, and queries that no proposal has seen have
the last word.

    compiled(workspace, WriterPlan(workspace, "neighbour_rewrite", program)) → the program that the run goes on with

A plan says how one target is compiled in a run: `syneg.run.targets` lists them. In the run folder: `compiled.json` (the
state that won, every candidate with its scores, what was confirmed), from which `program.json` and `program.md` are
made; other targets than the writer stand in files with their name before it. The program of the author is replaced only
where the compiled one is confirmed. The test split is not touched. Stopped by a budget, the stage goes on with what was
found by then; killed, the same command is answered from the ledger up to that point.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Protocol

import dspy

from syneg.core.errors import ConfigError
from syneg.core.storage import read_json, write_json
from syneg.llm.budget import Budget
from syneg.optimizers import RECIPES, Candidate, Compiling, Target, choose, run_recipe
from syneg.optimizers.guards import check_floor

from .compiled import CandidateRow, Confirmed, Outcome
from .workspace import Workspace

COMPILE, CONFIRM = "compile", "confirm"  # uses of an LM, as the ledger calls them
_FOR_PROPOSALS = 0.6  # of the budget; the rest is for the choice


class Plan(Protocol):
    """How a run compiles one target: what it starts from, and how what won is confirmed."""

    name: str
    "The program, by the name that users give it."
    program: dspy.Module
    "The program as its author wrote it."
    stage: str
    "The stage in the manifest."
    path: Path
    "The file of the outcome."

    @property
    def key(self) -> str:
        """A hash of all that the outcome depends on."""
        ...

    def check(self) -> None:
        """Raise ConfigError or DataError where nothing can come of it, before anything is paid for."""
        ...

    def target(self) -> Target:
        """The program with its examples and its metric."""
        ...

    def confirm(self, best: Candidate, first: Candidate) -> Confirmed | None:
        """Hold the best candidate against the first program; None where the candidate answers nothing usable."""
        ...


def compiled(workspace: Workspace, plan: Plan) -> dspy.Module:
    """The program of `plan`, or what its compilation made of it.

    Raises ConfigError for a budget that can find nothing, DataError where there is nothing to confirm on.
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
    """Whether what `compiled` would return is on disk."""
    return plan.path.exists() and workspace.manifest.key(plan.stage) == plan.key


def best_of(plan: Plan) -> dspy.Module:
    """The program of a compilation that is on disk."""
    best = copy.deepcopy(plan.program)
    best.load_state(Outcome.from_json(read_json(plan.path)).state)
    return best


def _compile(workspace: Workspace, plan: Plan) -> Outcome:
    config, progress = workspace.config.compile, workspace.progress
    target = plan.target()
    _check_budget(workspace, target)
    if len(target.asks) < target.enough:
        progress.say(
            f"  {len(target.asks)} pairs are too few for the objective alone (under {target.enough}): "
            "the critic chooses with it"
        )
    budget = Budget(calls=config.calls, tokens=config.tokens, usd=config.usd, minutes=config.minutes)
    compiling = compilation(workspace, target, budget)
    lms = [target.lm, compiling.reflection, *target.others]
    with workspace.roles.limited(budget, lms), workspace.roles.used_for(COMPILE):
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
        confirmed = plan.confirm(best, compiling.first)
        best = best if confirmed is not None and confirmed.wins else compiling.first
    candidates = sorted(compiling.register.candidates.values(), key=lambda candidate: candidate.number)
    return Outcome(
        program=plan.name, optimizer=config.optimizer, state=best.program.dump_state(json_mode=True),
        won=best is not compiling.first, confirmed=confirmed, stopped=stopped, used=budget.used,
        candidates=tuple(CandidateRow.of(candidate, compiling.copied(candidate)) for candidate in candidates),
        target=target.name, baseline=target.baseline, second=target.second,
    )  # fmt: skip


def _check_budget(workspace: Workspace, target: Target) -> None:
    """Raise ConfigError for limits that can find nothing, or that cannot be kept."""
    config = workspace.config.compile
    steps = len(target.program.predictors())
    check_floor(
        config.optimizer, calls=config.calls, per_program=steps * max(2, len(target.asks) // 3),
        least=RECIPES[config.optimizer].least,
    )  # fmt: skip
    if config.usd and not target.lm.engine.price_known:
        raise ConfigError(
            f"the price of {target.lm.engine.config.model!r} is not known, so compile.usd cannot be kept",
            todo="limit calls or tokens",
        )


def compilation(workspace: Workspace, target: Target, budget: Budget) -> Compiling:
    """What a recipe works with."""
    reflection = workspace.roles.reflection
    return Compiling(target, workspace.config, reflection, budget, lambda text: workspace.progress.say(f"  {text}"))
