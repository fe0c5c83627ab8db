"""Does the probe rank sets of negatives as full training does? Kendall's tau, and seconds of both.

    python benchmarks/objective_fidelity.py --dataset beir/scifact --pairs 300 --also negatives.jsonl --run runs/fidelity

Sets are made from the collection: random passages, the first of BM25 and of the encoder with and without the margin
of the positive, and false negatives (parts of the positive, in another order, under the names false_1 and false_3). `--also`
adds files of written negatives, a set for each program in them; `--lm-programs` lets the LM of the run write some. Full training is nDCG@10 on test, mean over `--seeds`, of an arm of the
run folder for each set; what is there is not made again, so the command can be stopped and goes on. The gates are off: the objective itself has to tell.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy.stats import kendalltau
from syneg.optimizers.objective import Objective

from syneg.arms import arm
from syneg.config import load_config
from syneg.experiment import Experiment
from syneg.manifest import Manifest
from syneg.metrics import MAIN_METRIC, mean
from syneg.mining import mine
from syneg.pipeline import Run
from syneg.presets import FAST
from syneg.progress import Progress
from syneg.records import Pair
from syneg.storage import RunLock, read_rows, write_json, write_rows

PLACES = 3


def made_sets(run: Run) -> list[dict[str, str]]:
    """Rows (query_id, text, program) of the sets that need no LM."""
    collection, pairs = run.collection, run.pairs
    rows: list[dict[str, str]] = []

    def add(name: str, texts: Callable[[Pair], list[str]]) -> None:
        for pair in pairs:
            rows.extend({"query_id": pair.query_id, "text": text, "program": name} for text in texts(pair)[:PLACES])

    def random_texts(pair: Pair) -> list[str]:
        draw = random.Random(f"{run.config.seed}:{pair.query_id}")
        relevant = collection.relevant(pair.query_id)
        others = [d for d in draw.sample(sorted(collection.passages), PLACES + len(relevant)) if d not in relevant]
        return [collection.passages[d] for d in others]

    add("random", random_texts)
    for name, source, margin in (
        ("bm25_top", "bm25", 10.0), ("dense_top", "dense", 10.0), ("dense_95", "dense", 0.95), ("dense_80", "dense", 0.8),
        ("bm25_95", "bm25", 0.95),
    ):  # fmt: skip
        settings = run.config.mine.model_copy(update={"sources": (source,), "margin": margin, "per_query": PLACES})
        found = mine(collection, pairs, run.encoder, settings).negatives
        add(name, lambda pair, found=found: [n.text for n in found[pair.query_id]])
    dense = {row["query_id"]: row["text"] for row in rows if row["program"] == "dense_95"}
    add("false_3", false_texts)
    add("false_1", lambda pair: [false_texts(pair)[0], dense.get(pair.query_id, ""), *random_texts(pair)[:1]])
    return [row for row in rows if row["text"].strip()]


def false_texts(pair: Pair) -> list[str]:
    """Texts that still answer: the positive's sentences in other orders, which no comparison of texts knows."""
    sentences = [s for s in pair.positive.replace("? ", ". ").split(". ") if s.strip()]
    if len(sentences) < 2:
        sentences = [" ".join(part) for part in np.array_split(pair.positive.split(), 2)]
    turned = [sentences[i:] + sentences[:i] for i in (1, len(sentences) // 2 or 1)] + [sentences[::-1]]
    return [". ".join(part) for part in turned]


def written_sets(paths: tuple[Path, ...]) -> list[dict[str, str]]:
    """Rows of files of negatives; of negatives.jsonl only what was accepted."""
    rows = []
    for path in paths:
        for row in read_rows(path):
            text = row.get("text") or row.get("hard_negative")
            if text and row.get("accepted", True):
                rows.append({"query_id": str(row["query_id"]), "text": text, "program": row.get("program", path.stem)})
    return rows


def interval(x: list[float], y: list[float], draws: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of Kendall's tau over the sets."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(draws):
        places = generator.integers(0, len(x), len(x))
        tau = kendalltau([x[i] for i in places], [y[i] for i in places]).statistic
        if not np.isnan(tau):
            found.append(tau)
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


@click.command()
@click.option("--dataset", default="python-docs", show_default=True)
@click.option("--pairs", default=300, show_default=True, help="train pairs of every set")
@click.option("--also", type=click.Path(path_type=Path, exists=True), multiple=True, help="JSONL of written negatives")
@click.option("--seeds", default=3, show_default=True, help="of full training")
@click.option("--fast", is_flag=True, help="full training with the lower half frozen")
@click.option("--probe-only", is_flag=True, help="print the probe's scores and train nothing")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE")
@click.option("--run", "folder", type=click.Path(path_type=Path), default=Path("runs/fidelity"), show_default=True)
def main(
    dataset: str,
    pairs: int,
    also: tuple[Path, ...],
    seeds: int,
    fast: bool,
    probe_only: bool,
    overrides: tuple[str, ...],
    folder: Path,
) -> None:
    flags: dict[str, Any] = {
        "collection.dataset": dataset, "train.pairs": pairs, "generate.pairs": 0, "generate.per_pair": PLACES,
        "generate.given": str(folder / "sets.jsonl"), "boundary.queries": 0, "judge.use": "off", "mix.negatives": PLACES,
        "train.seeds": tuple(range(seeds)), **(FAST if fast else {}),
    }  # fmt: skip
    off = list(load_config().gates.model_dump())
    flags |= {f"gates.{key}": 1.0 if key in ("script",) else 0 for key in off}
    config = load_config(None, overrides, flags)
    run = Run(folder, config, Progress())
    with RunLock(folder):
        run.manifest = Manifest(folder)
        rows = made_sets(run) + written_sets(also)
        trained_on = {pair.query_id for pair in run.pairs}
        rows = [row for row in rows if row["query_id"] in trained_on]
        if list(read_rows(folder / "sets.jsonl")) != rows:
            write_rows(folder / "sets.jsonl", rows)
        names = list(dict.fromkeys(row["program"] for row in rows))
        report(run, names, seeds, folder, probe_only=probe_only)


def report(run: Run, names: list[str], seeds: int, folder: Path, *, probe_only: bool) -> None:
    run.config = run.config.model_copy(
        update={
            "train": run.config.train.model_copy(
                update={"arms": tuple(f"hybrid@ratio=1000.0@program={n}" for n in names)}
            )
        }
    )
    experiment = Experiment(run)
    objective = Objective(run.encoder, run.collection, run.pairs, run.mined, run.config)
    start = time.monotonic()
    objective.score({})  # the probe on mined negatives alone, and the output of the frozen layers
    print(f"first probe (with the output of the frozen layers): {time.monotonic() - start:.1f} s")
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        one = arm(f"hybrid@ratio=1000.0@program={name}", run.config)
        for again in range(2):  # the first time its texts are new
            start = time.monotonic()
            score = objective.compared([experiment.instances(one, s) for s in range(run.config.probe.seeds)])
            found[name] = {
                "gain": score.gain,
                "error": score.error,
                ("new", "kept")[again]: time.monotonic() - start,
                **{k: v for k, v in found.get(name, {}).items() if k == "new"},
            }
            if probe_only:
                break
        print(json.dumps({name: found[name]}), flush=True)
    if probe_only:
        write_json(folder / "probe.json", found)
        return
    for name in names:
        one = arm(f"hybrid@ratio=1000.0@program={name}", run.config)
        runs, seconds = [], []
        for seed in range(seeds):
            path, done = experiment.trained(one, seed)
            file = one.file_name(seed)
            start = time.monotonic()
            runs.append(experiment._evaluated(file, run.manifest.key(f"train {file}") or "", path))
            seconds.append(done["seconds"] + time.monotonic() - start)
        found[name] |= {
            "full": float(np.mean([mean(r["test"].values[MAIN_METRIC]) for r in runs])),
            "confirm": float(np.mean([mean(r["confirm"].values[MAIN_METRIC]) for r in runs])),
            "seconds": float(np.sum(seconds)),
        }
        write_json(folder / "fidelity.json", found)
    print(f"\n{'negatives':24s} {'probe':>8s} {'error':>6s} {'full':>6s} {'s':>6s} {'s full':>7s}")
    for name, row in sorted(found.items(), key=lambda item: -item[1]["full"]):
        print(
            f"{name:24s} {row['gain']:+8.4f} {row['error']:6.4f} {row['full']:6.4f} {row['new']:6.1f} {row['seconds']:7.0f}"
        )
    x, y = [row["gain"] for row in found.values()], [row["full"] for row in found.values()]
    low, high = interval(x, y)
    print(
        f"\nKendall's tau {kendalltau(x, y).statistic:.2f} (95 % interval {low:.2f} to {high:.2f}) over {len(x)} sets"
    )


if __name__ == "__main__":
    main()
