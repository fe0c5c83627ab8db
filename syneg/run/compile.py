"""The compile stage: a recipe proposes programs, the objective chooses, full training on the confirm split has the last
word.

    compiled(workspace, "neighbour_rewrite") → the program that writes the negatives of this run

In the run folder: `compiled.json` (the state that won, every candidate with its scores, what was confirmed), from which
`program.json` and `program.md` are made. The program of the author is replaced only where the compiled one has the
higher mean nDCG@10 on confirm after full training, by more than the standard error of the difference. The test split is
not touched. Stopped by a budget, the stage goes on with what was found by then; killed, the same command is answered
from the ledger up to that point.
"""

from __future__ import annotations

import copy
import difflib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import dspy
import numpy as np

from syneg.core.errors import ConfigError, UnusableError
from syneg.core.records import HardNegative, Pair
from syneg.core.storage import read_json, write_json
from syneg.data.tasks import task_for
from syneg.llm.budget import Budget
from syneg.negatives.generation import ask_for
from syneg.negatives.writing import Sources, gated, space_of, write_negatives
from syneg.optimizers import RECIPES, Candidate, Compiling, Critic, Objective, choose, run_recipe
from syneg.optimizers.guards import check_floor
from syneg.optimizers.search import ENOUGH
from syneg.retrieval.metrics import MAIN_METRIC

from .keys import source_of, stage_key
from .trial import Trials
from .workspace import Workspace

_FOR_PROPOSALS = 0.6  # of the budget; the rest is for the choice


def compiled(workspace: Workspace, name: str, program: dspy.Module, near: Mapping[str, Sequence[str]]) -> dspy.Module:
    """`program` (called `name`), or what its compilation made of it. Raises ConfigError for a budget that can find
    nothing."""
    config = workspace.config.compile
    if config.optimizer == "none":
        return program
    path = workspace.folder.compiled
    writer = workspace.roles.writer
    key = stage_key("compile", workspace.config, workspace.collection.fingerprint, workspace.encoder.fingerprint, workspace.encoder.prompts,
                    writer.identity, workspace.roles.reflection.identity, program.dump_state(), source_of(name), near)  # fmt: skip
    workspace.manifest.make("compile", key, path, lambda: write_json(path, _compile(workspace, name, program, near)))
    found = read_json(path)
    best = copy.deepcopy(program)
    best.load_state(found["state"])
    return best


def _compile(
    workspace: Workspace, name: str, program: dspy.Module, near: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    config, progress = workspace.config.compile, workspace.progress
    steps = len(program.predictors())
    pairs = workspace.pairs[: config.pairs]
    check_floor(
        config.optimizer,
        calls=config.calls,
        per_program=steps * max(2, len(pairs) // 3),
        least=RECIPES[config.optimizer].least,
    )
    if len(pairs) < ENOUGH:
        progress.say(
            f"  {len(pairs)} pairs are too few for the objective alone (under {ENOUGH}): the critic chooses with it"
        )
    budget = Budget(calls=config.calls, tokens=config.tokens, usd=config.usd, minutes=config.minutes)
    if config.usd and not workspace.roles.writer.engine.price_known:
        raise ConfigError(
            f"the price of {workspace.config.lm.model!r} is not known, so compile.usd cannot be kept",
            todo="limit calls or tokens",
        )
    compiling = compilation(workspace, program, pairs, budget, near)
    with workspace.roles.limited(budget):
        with progress.stage("compile", "programs") as line:
            budget.scale(_FOR_PROPOSALS)
            stopped = run_recipe(config.optimizer, compiling)
            line.note = (
                f"{config.optimizer}: {len(compiling.register.candidates)} programs, {budget.used['calls']:.0f} calls"
            )
            line.note += f"; stopped: {stopped}" if stopped else ""
        with progress.stage("choose") as line:
            budget.scale(1 / _FOR_PROPOSALS)
            ranked = choose(compiling)
            line.note = f"{len(ranked)} programs, best number {ranked[0].number}"
    confirmed = (
        _confirm(workspace, name, compiling, ranked) if config.confirm and ranked[0] is not compiling.first else {}
    )
    won = not config.confirm or (bool(confirmed) and confirmed["delta"] > confirmed["error"])
    best = ranked[0] if won else compiling.first
    return {
        "program": name, "optimizer": config.optimizer, "state": best.program.dump_state(json_mode=True), "won": best is not compiling.first,
        "confirmed": confirmed, "stopped": stopped, "used": budget.used,
        "candidates": [_row(candidate, compiling) for candidate in sorted(compiling.register.candidates.values(), key=lambda c: c.number)],
    }  # fmt: skip


def compilation(
    workspace: Workspace, program: dspy.Module, pairs: Sequence[Pair], budget: Budget, near: Mapping[str, Sequence[str]]
) -> Compiling:
    """What a recipe works with, for a program and these pairs of the path."""
    config, collection, encoder = workspace.config, workspace.collection, workspace.encoder
    objective = Objective(encoder, collection, pairs, workspace.mined, config, near)
    asks = {
        pair.query_id: ask_for(pair, place, config.generate.model_copy(update={"per_pair": 1}), task_for(config).definition,
                               space_of(task_for(config)), workspace.mined.get(pair.query_id, ()), seed=config.seed)
        for place, pair in enumerate(pairs)
    }  # fmt: skip
    return Compiling(
        program, pairs, asks, writer=workspace.roles.writer, reflection=workspace.roles.reflection, objective=objective,
        critic=Critic(objective, encoder, collection, config.gates, config.generate.passage_words), budget=budget, config=config.compile, seed=config.seed,
        say=lambda text: workspace.progress.say(f"  {text}"),
    )  # fmt: skip


def _row(candidate: Candidate, compiling: Compiling) -> dict[str, Any]:
    score = candidate.score
    return {
        "number": candidate.number, "critic": round(candidate.mean, 4), "pairs": len(candidate.answers),
        "gain": score and round(score.gain, 5), "error": score and round(score.error, 5),
        "likelihood": score and round(score.likelihood, 4), "likelihood_error": score and round(score.likelihood_error, 4), "boundary": score and score.boundary,
        "copies": compiling.copied(candidate), "instructions": {n: p.signature.instructions for n, p in candidate.program.named_predictors()},
        "demos": {n: len(p.demos) for n, p in candidate.program.named_predictors()},
    }  # fmt: skip


def _confirm(workspace: Workspace, name: str, compiling: Compiling, ranked: Sequence[Candidate]) -> dict[str, Any]:
    """Full training with what the best candidate and the first program write for the pairs of the run; nDCG@10 on
    confirm."""
    values = []
    trials = Trials(workspace)
    for label, candidate in (("best", ranked[0]), ("first", compiling.first)):
        try:
            negatives = _written(workspace, name, candidate)
        except UnusableError as unusable:
            if candidate is compiling.first:
                raise
            workspace.progress.say(f"  confirm: candidate {candidate.number} loses: {unusable}")
            return {}
        values.append(_trained(workspace, trials, negatives, label))
    ids = sorted(values[0])
    deltas = np.array([values[0][q] - values[1][q] for q in ids])
    error = float(deltas.std(ddof=1) / np.sqrt(len(deltas))) if len(deltas) > 1 else float("nan")
    found: dict[str, Any] = {
        "candidate": ranked[0].number,
        "mean": [float(np.mean([v[q] for q in ids])) for v in values],
        "delta": float(deltas.mean()),
        "error": error,
        "queries": len(ids),
    }
    workspace.progress.say(
        f"  confirm: {MAIN_METRIC} {found['mean'][0]:.4f} with the compiled program, {found['mean'][1]:.4f} with the first "
        f"({found['delta']:+.4f} ± {found['error']:.4f}, {found['queries']} queries)"
    )
    return found


def _written(workspace: Workspace, name: str, candidate: Candidate) -> dict[str, list[HardNegative]]:
    sources = Sources(
        workspace.pairs_to_write,
        workspace.collection,
        workspace.encoder,
        workspace.mined,
        task_for(workspace.config),
        candidate.program,
        name,
    )
    drafts = write_negatives(sources, workspace.config, workspace.roles.writer, workspace.progress)
    found: dict[str, list[HardNegative]] = {}
    for draft in gated(drafts, sources, workspace.config.gates, None, workspace.progress):
        if draft.verdict.accepted:
            found.setdefault(draft.pair.query_id, []).append(draft.negative)
    return found


def _trained(
    workspace: Workspace, trials: Trials, negatives: dict[str, list[HardNegative]], label: str
) -> dict[str, float]:
    """nDCG@10 of each confirm query, mean over the seeds of `compile.confirm_seeds`."""
    config = workspace.config
    synthetic = {q: [(n, config.mix.weight) for n in found] for q, found in negatives.items()}
    values: dict[str, list[float]] = {}
    for seed in range(config.compile.confirm_seeds):
        name = f"{label}-{seed}"
        folder = workspace.folder / "confirm" / name
        shutil.rmtree(folder, ignore_errors=True)
        trials.train(trials.job("hybrid", config, synthetic, seed), folder, name)
        result = trials.evaluate(trials.load(folder, config), ("confirm",))
        shutil.rmtree(folder, ignore_errors=True)
        for query_id, value in result["confirm"].values[MAIN_METRIC].items():
            values.setdefault(query_id, []).append(value)
    return {query_id: float(np.mean(found)) for query_id, found in values.items()}


def compiled_markdown(found: dict[str, Any], before: dspy.Module, after: dspy.Module) -> str:
    """What a compilation did, as text: the verdict, each prompt as a diff, and all candidates with their scores."""
    confirmed = found["confirmed"]
    lines = [f"# Compiled by {found['optimizer']}", ""]
    if confirmed:
        lines.append(
            f"Full training, confirm split: {MAIN_METRIC} {confirmed['mean'][0]:.4f} with candidate {confirmed['candidate']}, the best, {confirmed['mean'][1]:.4f} with "
            f"the program as it was ({confirmed['delta']:+.4f} ± {confirmed['error']:.4f}, {confirmed['queries']} queries)."
        )
    stays = (
        "The program stays as it was: it takes a lead of more than the standard error."
        if confirmed
        else "The program stays as it was."
    )
    lines += ["The candidate replaces the program." if found["won"] else stays, ""]
    old = {name: p.signature.instructions for name, p in before.named_predictors()}
    for name, predictor in after.named_predictors():
        diff = difflib.unified_diff(
            old[name].splitlines(), predictor.signature.instructions.splitlines(), "before", "after", lineterm=""
        )
        text = "\n".join(diff)
        lines += [f"## {name}", "", f"```diff\n{text}\n```" if text else "The instruction is as it was.", ""]
    lines += [
        "## Candidates",
        "",
        "| number | critic | pairs | nDCG@10 over mined | log-likelihood over mined | copies |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["candidates"]:
        figures = ["", ""]
        if row["gain"] is not None:
            figures = [
                f"{row['gain']:+.4f} ± {row['error']:.4f}",
                f"{row['likelihood']:+.3f} ± {row['likelihood_error']:.3f}",
            ]
        cells = [str(row["number"]), f"{row['critic']:.3f}", str(row["pairs"]), *figures, row["copies"]]
        lines.append(f"| {' | '.join(cells)} |")
    for row in found["candidates"]:
        lines += ["", f"### Candidate {row['number']}", ""]
        for name, text in row["instructions"].items():
            lines += [f"{name} ({row['demos'][name]} demos):", "", *(f"> {line}" for line in text.splitlines()), ""]
    return "\n".join(lines) + "\n"
