"""Does the probe rank sets of negatives as full training does? Kendall's tau, and seconds of both.

    python benchmarks/objective_fidelity.py --dataset beir/scifact --also negatives.jsonl --run runs/fidelity

Sets are made from the collection: random passages, the first of BM25 and of the encoder with and without the margin
of the positive, and false negatives (parts of the positive, in another order, under the names false_1 and false_3). `--also`
adds files of written negatives, a set for each program in them, or `NAME=FILE` for all of a file as one set; pairs without any are
then left out. Full training is an arm of the run folder for each set and seed; what is there is not made again, so the
command can be stopped and goes on, and `--only probe` or `--only full` does one half. The gates are off: the objective itself has to tell.

Printed: both scores of each set, tau with a bootstrap interval over sets, tau of one seed of full training with
the mean of the others (what a perfect objective could reach at best), whether false_3 is last, and what both cost.
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
from syneg.storage import RunLock, read_json, read_rows, write_json, write_rows

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


def written_sets(given: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows of files of negatives; of negatives.jsonl only what was accepted, unless it has a name of its own."""
    rows = []
    for one in given:
        name, _, path = one.rpartition("=")
        for row in read_rows(Path(path)):
            text = row.get("text") or row.get("hard_negative")
            if text and (name or row.get("accepted", True)):
                program = name or row.get("program", Path(path).stem)
                rows.append({"query_id": str(row["query_id"]), "text": text, "program": program})
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
@click.option("--also", multiple=True, metavar="[NAME=]FILE", help="JSONL of written negatives")
@click.option("--seeds", default=3, show_default=True, help="of full training")
@click.option("--fast", is_flag=True, help="full training with the lower half frozen")
@click.option("--only", type=click.Choice(["probe", "full"]), help="one half of the work")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE")
@click.option("--run", "folder", type=click.Path(path_type=Path), default=Path("runs/fidelity"), show_default=True)
def main(
    dataset: str,
    pairs: int,
    also: tuple[str, ...],
    seeds: int,
    fast: bool,
    only: str | None,
    overrides: tuple[str, ...],
    folder: Path,
) -> None:
    flags: dict[str, Any] = {
        "collection.dataset": dataset, "train.pairs": 0, "generate.pairs": 0, "generate.per_pair": PLACES,
        "generate.given": str(folder / "sets.jsonl"), "boundary.queries": 0, "judge.use": "off", "mix.negatives": PLACES,
        "train.seeds": tuple(range(seeds)), **(FAST if fast else {}),
    }  # fmt: skip
    off = list(load_config().gates.model_dump())
    flags |= {f"gates.{key}": 1.0 if key in ("script",) else 0 for key in off}
    config = load_config(None, overrides, flags)
    run = Run(folder, config, Progress())
    with RunLock(folder):
        run.manifest = Manifest(folder)
        written = written_sets(also)
        covered = {row["query_id"] for row in written} or {pair.query_id for pair in run.pairs}
        run.pairs = [pair for pair in run.pairs if pair.query_id in covered][:pairs]
        trained_on = {pair.query_id for pair in run.pairs}
        rows = made_sets(run) + [row for row in written if row["query_id"] in trained_on]
        if list(read_rows(folder / "sets.jsonl")) != rows:
            write_rows(folder / "sets.jsonl", rows)
        names = list(dict.fromkeys(row["program"] for row in rows))
        arms = tuple(f"hybrid@ratio=1000.0@program={name}" for name in names)
        run.config = run.config.model_copy(update={"train": run.config.train.model_copy(update={"arms": arms})})
        experiment = Experiment(run)
        if only != "full":
            probed(run, experiment, names)
        if only != "probe":
            trained(run, experiment, names, seeds)
        report(run, names)


def probed(run: Run, experiment: Experiment, names: list[str]) -> None:
    """Into probe.json: gain, error and seconds of each set, the second time with all its texts seen before."""
    objective = Objective(run.encoder, run.collection, run.pairs, run.mined, run.config)
    start = time.monotonic()
    objective.score({})  # the probe on mined negatives alone, and the output of the frozen layers
    print(f"first probe (with the output of the frozen layers): {time.monotonic() - start:.1f} s", flush=True)
    found: dict[str, dict[str, float]] = {}
    for name in names:
        one = arm(f"hybrid@ratio=1000.0@program={name}", run.config)
        rows = [experiment.instances(one, s) for s in range(run.config.probe.seeds)]
        start = time.monotonic()
        score = objective.compared(rows)
        found[name] = {
            "value": score.value, "gain": score.gain, "error": score.error, "likelihood": score.likelihood,
            "likelihood_error": score.likelihood_error, "seconds": time.monotonic() - start,
        }  # fmt: skip
        print(json.dumps({name: found[name]}), flush=True)
    write_json(run.folder / "probe.json", found)


def trained(run: Run, experiment: Experiment, names: list[str], seeds: int) -> None:
    """Into full.json: nDCG@10 of each set and seed, and seconds; a seed of all sets before the next seed."""
    path = run.folder / "full.json"
    found: dict[str, dict[str, dict[str, float]]] = read_json(path) or {}
    for seed in range(seeds):
        for name in names:
            if str(seed) in found.setdefault(name, {}):
                continue
            one = arm(f"hybrid@ratio=1000.0@program={name}", run.config)
            start = time.monotonic()
            result = experiment.result(one, seed)
            values = {split: mean(found_.values[MAIN_METRIC]) for split, found_ in result.items()}
            found[name][str(seed)] = {**values, "seconds": time.monotonic() - start}
            print(json.dumps({name: seed, **found[name][str(seed)]}), flush=True)
            write_json(path, found)


def report(run: Run, names: list[str]) -> None:
    """The table and the figures, of what there is."""
    probe = read_json(run.folder / "probe.json") or {}
    full = {name: list(rows.values()) for name, rows in (read_json(run.folder / "full.json") or {}).items() if rows}
    if not probe or not full:
        return
    names = [name for name in names if name in probe and name in full]
    sizes = {split: len(run.collection.splits[split]) for split in ("confirm", "test")}

    def truth(row: dict[str, float]) -> float:  # confirm and test queries alike: more queries, less noise
        return sum(row[split] * n for split, n in sizes.items()) / sum(sizes.values())

    scores = {name: [truth(row) for row in full[name]] for name in names}
    y = [float(np.mean(scores[name])) for name in names]
    x = [probe[name]["value"] for name in names]
    print(
        f"\n{'negatives':20s} {'value':>6s} {'nDCG@10':>8s} {'likelihood':>10s} {'full':>6s} {'± seeds':>7s} {'s':>5s} {'s full':>6s}"
    )
    for name, value in sorted(zip(names, y, strict=True), key=lambda pair: -pair[1]):
        row, seconds = probe[name], sum(one["seconds"] for one in full[name])
        spread = float(np.std(scores[name], ddof=1)) if len(scores[name]) > 1 else float("nan")
        print(
            f"{name:20s} {row['value']:+6.2f} {row['gain']:+8.4f} {row['likelihood']:+10.4f} {value:6.4f} {spread:7.4f} "
            f"{row['seconds']:5.1f} {seconds:6.0f}"
        )
    low, high = interval(x, y)
    print(
        f"\nKendall's tau {kendalltau(x, y).statistic:.2f} (95 % interval {low:.2f} to {high:.2f}) over {len(x)} sets"
    )
    for key in ("gain", "likelihood"):
        print(f"by {key} alone: tau {kendalltau([probe[name][key] for name in names], y).statistic:.2f}")
    dev = [float(np.mean([row["dev"] for row in full[name]])) for name in names]
    print(f"full training scored on the dev queries: tau {kendalltau(dev, y).statistic:.2f}")
    seeds = min(map(len, scores.values()))
    if seeds > 1:
        among = [
            kendalltau(
                [scores[n][s] for n in names], [np.mean([v for t, v in enumerate(scores[n]) if t != s]) for n in names]
            ).statistic
            for s in range(seeds)
        ]
        print(f"a seed of full training with the mean of the others: tau {np.mean(among):.2f}")
    for label, values in (("probe", x), ("full training", y)):
        print(f"last by {label}: {names[int(np.argmin(values))]}")
    ratio = sum(one["seconds"] for n in names for one in full[n]) / sum(probe[n]["seconds"] for n in names)
    print(f"full training costs {ratio:.0f} times as much as the probe")


if __name__ == "__main__":
    main()
