"""Seconds that the objective of compiling takes for one candidate program, on several collections.

    python benchmarks/objective_cost.py --dataset python-docs,beir/scifact,vaswani --pairs 100

A candidate brings one new text for each train pair. The candidates here need no LM: their texts are random passages,
the first passages by BM25, and false negatives (made_sets of objective_fidelity.py). `s_a_candidate` is the mean over
them without the first one, which also pays for what all share: the probe on mined negatives alone, and the output of
the frozen layers (`first_s`). `corpus_s` is what comes before: embeddings of the corpus (found on disk from the second
run on) and mining. Each collection and turn has a process of its own.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch

import tempfile
import time
from functools import partial
from pathlib import Path

import click
from turns import Figures, in_turn, save, spread

NAMES = ("random", "bm25_top", "false_3")


def measure(dataset: str, pairs: int, overrides: tuple[str, ...]) -> Figures:
    """Seconds of the objective on one collection."""
    from configured import configured
    from objective_fidelity import made_sets

    from syneg.core.progress import Progress
    from syneg.core.records import HardNegative
    from syneg.optimizers.objective import Objective
    from syneg.run.pipeline import Run

    flags = {
        "collection.dataset": dataset, "train.pairs": pairs, "generate.pairs": pairs, "boundary.queries": 0,
        "mine.margin": 0.95, "collection.divide_test": Path(dataset).exists(),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), configured(overrides, flags), Progress())
        workspace, start = run.workspace, time.perf_counter()
        mined = workspace.mined
        corpus_s = time.perf_counter() - start
        candidates: dict[str, dict[str, list[HardNegative]]] = {name: {} for name in NAMES}
        for row in made_sets(run):
            if row["program"] in candidates:
                written = HardNegative(row["text"], row["program"])
                candidates[row["program"]].setdefault(row["query_id"], [written])
        objective = Objective(workspace.encoder, workspace.collection, workspace.pairs, mined, run.config)
        seconds = []
        for negatives in candidates.values():
            start = time.perf_counter()
            score = objective.score(negatives)
            seconds.append(time.perf_counter() - start)
    return {
        "s_a_candidate": sum(seconds[1:]) / len(seconds[1:]), "first_s": seconds[0], "corpus_s": corpus_s,
        "pairs": len(workspace.pairs), "queries": len(score.queries), "passages": len(workspace.collection.passages),
    }  # fmt: skip


@click.command()
@click.option("--dataset", "datasets", default="python-docs,beir/scifact", show_default=True, help="several by commas")
@click.option("--pairs", default=100, show_default=True)
@click.option("--turns", default=1, show_default=True)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="any other setting")
@click.option("--quick", is_flag=True, help="16 pairs of a small collection, a few steps")
@click.option("--json", "path", type=click.Path(path_type=Path))
def main(datasets: str, pairs: int, turns: int, overrides: tuple[str, ...], quick: bool, path: Path | None) -> None:
    names = datasets.split(",")
    if quick:
        from objective_fidelity import QUICK

        names, pairs, turns, overrides = ["python-docs-small"], 16, 1, (*QUICK, *overrides)
    measured = in_turn({name: partial(measure, name, pairs, overrides) for name in names}, turns)
    figures = list(next(iter(measured.values()))[0])
    width = max(map(len, names)) + 2
    print(" " * width + "".join(f"{figure:>22}" for figure in figures))
    for name, rows in measured.items():
        print(f"{name:{width}}" + "".join(f"{spread([row[figure] for row in rows], 1):>22}" for figure in figures))
    save(path, "objective_cost", {"pairs": pairs, "overrides": overrides}, measured)


if __name__ == "__main__":
    main()
