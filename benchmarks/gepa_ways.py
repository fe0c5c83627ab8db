"""Does GEPA find a better program with this package's adapter, or as `dspy.GEPA` with the critic as its metric?

    python benchmarks/gepa_ways.py --dataset python-docs --program single_prompt --seeds 3 --run runs/gepa-ways

Both ways have the same pairs, proposals and number of metric calls. Then the best program of each way by the critic's
mean, and the first program, write for as many pairs that neither way has seen. The script prints the critic's mean over
these for each seed, and the difference between the ways with its standard error over all pairs. All answers are in the
ledgers under --run, so a second call prints at once.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import dspy
import numpy as np
from configured import configured

from syneg.core.progress import Progress
from syneg.core.records import Pair
from syneg.llm.budget import Budget
from syneg.optimizers import RECIPES, Compiling
from syneg.optimizers.recipes import quiet
from syneg.programs import PROGRAMS
from syneg.run.compile import compilation
from syneg.run.compile_writer import WriterPlan
from syneg.run.folder import RunLock
from syneg.run.pipeline import Run


def plain(compiling: Compiling) -> None:
    """Run `dspy.GEPA` with the sizes of the recipe `gepa`."""
    half = max(1, len(compiling.trainset) // 2)
    train, held_out = compiling.trainset[:half], compiling.trainset[half:]
    size = min(3, half)
    optimizer = dspy.GEPA(
        metric=compiling.feedback_metric, reflection_lm=compiling.reflection.lm, reflection_minibatch_size=size,
        seed=compiling.seed, num_threads=compiling.at_once, track_stats=False,
        max_metric_calls=len(held_out) + compiling.config.proposals * (2 * size + len(held_out)),
    )  # fmt: skip
    optimizer.compile(compiling.student, trainset=train, valset=held_out)


WAYS: dict[str, Callable[[Compiling], None]] = {"adapter": RECIPES["gepa"].propose, "plain": plain}


def compiling_for(run: Run, name: str, program: dspy.Module, pairs: list[Pair]) -> Compiling:
    workspace = run.workspace
    return compilation(workspace, WriterPlan(workspace, name, program, pairs).target(), Budget())


def one_seed(run: Run, name: str, pairs: int) -> dict[str, list[float]]:
    """way → the critic's value of each answer for unseen pairs; "first" is the program as its author wrote it."""
    program = PROGRAMS[name]()
    best: dict[str, Any] = {}
    for way, recipe in WAYS.items():
        compiling = compiling_for(run, name, program, run.workspace.pairs[:pairs])
        with quiet(), compiling.context():
            recipe(compiling)
        best[way] = compiling.ranked()[0].program
        run.workspace.progress.say(
            f"  {way}: {len(compiling.register.candidates)} programs, best {compiling.ranked()[0].mean:.3f}"
        )
    fresh = compiling_for(run, name, program, run.workspace.pairs[pairs : 2 * pairs])
    ids = fresh.ids
    answers = {way: fresh.run(one, ids) for way, one in {"first": program, **best}.items()}
    return {way: [attempts[q].judgement.value for q in ids] for way, attempts in answers.items()}


@click.command()
@click.option("--dataset", default="python-docs", show_default=True)
@click.option("--program", default="single_prompt", show_default=True)
@click.option("--pairs", default=12, show_default=True, help="to optimize on, and as many to compare on")
@click.option("--seeds", default=3, show_default=True)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE")
@click.option("--run", "folder", type=click.Path(path_type=Path), default=Path("runs/gepa-ways"), show_default=True)
def main(dataset: str, program: str, pairs: int, seeds: int, overrides: tuple[str, ...], folder: Path) -> None:
    found: dict[str, list[float]] = {}
    for seed in range(seeds):
        flags = {
            "collection.dataset": dataset, "train.pairs": 2 * pairs, "generate.pairs": 2 * pairs,
            "generate.program": program, "compile.proposals": 4, "mine.margin": 0.95, "seed": seed,
        }  # fmt: skip
        run = Run(folder / str(seed), configured(overrides, flags), Progress())
        with RunLock(run.folder):
            try:
                values = one_seed(run, program, pairs)
            finally:
                run.workspace.close_lms()
        print(f"seed {seed}: " + ", ".join(f"{way} {np.mean(v):.3f}" for way, v in values.items()), flush=True)
        for way, v in values.items():
            found.setdefault(way, []).extend(v)
    for one, other in (("adapter", "first"), ("plain", "first"), ("adapter", "plain")):
        deltas = np.array(found[one]) - np.array(found[other])
        error = deltas.std(ddof=1) / np.sqrt(len(deltas))
        print(f"{one} less {other}: {deltas.mean():+.3f} ± {error:.3f} ({len(deltas)} pairs)")


if __name__ == "__main__":
    main()
