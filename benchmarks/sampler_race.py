"""Does `mine.margin=auto` choose the margin that full training would choose, and what does the choice cost?

    python benchmarks/sampler_race.py --dataset beir/scifact --out runs/race-scifact
    python benchmarks/sampler_race.py --dataset path/to/cranfield --one-positive --out runs/race-cranfield

The race chooses among the windows of `syneg.run.windows` on train and dev queries. Then the arm `mined` is trained in
full with each window, for every seed, and tested. With `--one-positive` training, mining and the race know one judged
positive a query, drawn by seed, and the test knows all, as in sparse_labels.py. `--seeds 0` leaves the training out.

Printed are:
- what was chosen and why, and the seconds of wall and of CPU that it took;
- nDCG@10 on test of each window, and by how much the choice falls short of the best fixed window;
- each window against the 95 % rule, with a paired t-test over queries on each query's mean over the seeds.

`--json` holds the same. Set OMP_NUM_THREADS=1 for the seconds of one core.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
from configured import configured
from options import filled
from sparse_labels import p_value, whole_collection, with_one_positive
from turns import Figures, save

from syneg.core.config import Config
from syneg.core.progress import Progress
from syneg.data.collection import Collection
from syneg.retrieval.metrics import MAIN_METRIC
from syneg.run.pipeline import Run
from syneg.run.windows import WINDOWS, chosen
from syneg.verdict.statistics import paired_interval

Values = dict[str, float]  # query_id → nDCG@10


def raced(config: Config, collection: Collection, out: Path) -> tuple[Run, dict[str, object]]:
    """The run in which the margin was chosen, and what is to be said of the choice."""
    run = Run(out / "race", config, Progress(), collection=collection)
    run.workspace.encoder.index(collection.passages)  # what every mining needs is no part of the race
    wall, cpu = time.monotonic(), time.process_time()
    choice = chosen(run.workspace)
    seconds = {"wall": round(time.monotonic() - wall, 1), "cpu": round(time.process_time() - cpu, 1)}
    return run, {**asdict(choice), "seconds": seconds}


def trained(config: Config, collection: Collection, out: Path) -> dict[str, list[Values]]:
    """Test nDCG@10 of each query after full training of the arm `mined`: window → one dict a seed."""
    by_window = {}
    for number, window in enumerate(WINDOWS):
        fixed = config.model_copy(update={"mine": window.of(config.mine)})
        run = Run(out / f"window-{number}", fixed, Progress(), collection=collection)
        by_window[window.name] = [dict(seed["test"].values[MAIN_METRIC]) for seed in run.experiment.results["mined"]]
        run.workspace.close()
    return by_window


def compared(ours: list[Values], theirs: list[Values]) -> Figures:
    """The paired difference of two windows over queries, on each query's mean over the seeds."""
    gains = [float(np.mean([s[q] for s in ours]) - np.mean([s[q] for s in theirs])) for q in ours[0]]
    low, high = paired_interval(gains) or (0.0, 0.0)
    return {"gain": float(np.mean(gains)), "low": low, "high": high, "p": p_value(gains), "queries": len(gains)}


def told(against: Figures) -> str:
    """The difference as text."""
    return "{gain:+.4f} [{low:+.4f}, {high:+.4f}], p = {p:.4f}, {queries} queries".format(**against)


@dataclass(frozen=True)
class Options:
    """What the flags say."""

    dataset: str
    one_positive: bool
    seeds: int
    quick: bool
    overrides: tuple[str, ...]
    out: Path
    path: Path | None


@click.command()
@click.option("--dataset", default="python-docs", show_default=True)
@click.option("--one-positive", is_flag=True, help="train and dev queries keep one judged positive")
@click.option("--seeds", default=2, show_default=True, help="of full training; 0 leaves it out")
@click.option("--quick", is_flag=True, help="a small collection, one seed, a few steps")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/race"), show_default=True)
@click.option("--json", "path", type=click.Path(path_type=Path))
@filled(Options)
def main(options: Options) -> None:
    config = settled(options)
    collection = whole_collection(config, options.out)
    if options.one_positive:
        collection = with_one_positive(collection, config.seed)
    run, choice = raced(config, collection, options.out)
    print(f"{collection.name}: {choice['why']}; seconds {choice['seconds']}")
    run.workspace.close()
    by_window = trained(config, collection, options.out) if options.seeds else {}
    first = WINDOWS[0].name
    measured = {name: [{"ndcg": float(np.mean([*s.values()]))} for s in seeds] for name, seeds in by_window.items()}
    against = {name: compared(seeds, by_window[first]) for name, seeds in by_window.items() if name != first}
    means = {name: float(np.mean([row["ndcg"] for row in rows])) for name, rows in measured.items()}
    for name, rows in measured.items():
        over = f"  over the {first}: {told(against[name])}" if name in against else ""
        print(f"{name:26s} {means[name]:.4f}  {' '.join('{ndcg:.4f}'.format(**row) for row in rows)}{over}")
    if means:
        short = max(means.values()) - means[str(choice["window"])]
        print(f"chosen: {choice['window']}, {short:.4f} under the best fixed window")
    settings = {"dataset": collection.name, "choice": choice, "against_first": against}
    save(options.path, "sampler_race", settings, measured)


def settled(options: Options) -> Config:
    """The settings of all runs."""
    quick, folder = options.quick, Path(options.dataset)
    settings = {
        "collection.dataset": "python-docs-small" if quick else options.dataset, "collection.confirm": 0.0,
        "collection.divide_test": folder.is_dir(), "mine.margin": "auto", "train.arms": ("mined",),
        "train.seeds": tuple(range(1 if quick else max(1, options.seeds))), "train.pairs": 0, "boundary.queries": 0,
        "evaluate.folds": 0,
        "encoder.max_tokens": 32 if quick else 128,
        **({"probe.steps": 2, "probe.epochs": 0.2, "probe.passages": 200, "train.epochs": 0.2} if quick else {}),
    }  # fmt: skip
    return configured(options.overrides, settings, fast=True)


if __name__ == "__main__":
    main()
