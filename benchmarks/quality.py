"""Which negatives train the better encoder: the mined ones of sentence-transformers, or written ones?

    python benchmarks/quality.py --given written.jsonl --given single_prompt=plain.jsonl --seeds 3
    python benchmarks/quality.py --quick

Every set has the same encoder, train pairs, steps and seeds, three negatives a query:

    st-default    `mine_hard_negatives` as it comes: the three nearest passages but the positive itself
    st-95         the same within 100 ranks, without passages over 95 % of the positive's score (relative_margin=.05)
    mined         this tool's mining (dense and BM25, judged passages and their copies left out)
    PROGRAM       written negatives of a program, gated as in a run, beside mined ones (arm hybrid)

Written negatives come from files: rows with `query_id`, `hard_negative` (or `text`) and `program`; NAME=FILE takes all
of a file as one set. single_prompt is a plain generator, multi_attribute is SyNeg as published. Only pairs with a row
of every file are trained on. Without files only the mined sets are compared. Printed are nDCG@10 on test over seeds,
and the paired difference to `--base` with its 95 % interval over queries. What is in `--run` is not made again.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from configured import configured
from options import filled
from turns import Figures, save

from syneg.core.config import Config
from syneg.core.presets import FAST
from syneg.core.progress import Progress
from syneg.core.records import Pair
from syneg.core.storage import read_rows, write_rows
from syneg.retrieval.metrics import MAIN_METRIC
from syneg.run.arms import arm
from syneg.run.folder import RunLock
from syneg.run.pipeline import Run
from syneg.verdict.records import BASE
from syneg.verdict.statistics import paired_interval

PLACES = 3
Row = dict[str, str]


def written(given: Sequence[str]) -> list[Row]:
    """Rows of the files, each with the name of its set."""
    rows = []
    for one in given:
        name, _, path = one.rpartition("=")
        for row in read_rows(Path(path)):
            text = row.get("text") or row.get("hard_negative")
            if text and row.get("accepted", True):
                program = name or str(row.get("program", Path(path).stem))
                rows.append({"query_id": str(row["query_id"]), "text": str(text), "program": program})
    return rows


def stock(run: Run, pairs: Sequence[Pair], name: str, **settings: Any) -> list[Row]:
    """The negatives of `mine_hard_negatives` for the pairs."""
    from datasets import Dataset, disable_progress_bars
    from sentence_transformers.util import mine_hard_negatives

    disable_progress_bars()
    data = Dataset.from_dict({"anchor": [p.query for p in pairs], "positive": [p.positive for p in pairs]})
    encoder, passages = run.workspace.encoder, list(run.workspace.collection.passages.values())
    with encoder.autocast():
        mined = mine_hard_negatives(
            data, encoder.model, corpus=passages, num_negatives=PLACES, batch_size=run.config.encoder.batch_size,
            output_format="triplet", use_faiss=True, verbose=False, **settings,
        )  # fmt: skip
    ids = {(pair.query, pair.positive): pair.query_id for pair in pairs}
    return [{"query_id": ids[r["anchor"], r["positive"]], "text": r["negative"], "program": name} for r in mined]


def stock_once(run: Run, pairs: Sequence[Pair]) -> list[Row]:
    """Both sets of sentence-transformers' mining. They are kept in the run folder, under the settings that matter."""
    asked = [[pair.query_id for pair in pairs], run.config.collection.model_dump(), run.config.encoder.model_dump()]
    key = hashlib.sha256(json.dumps(asked, default=str).encode()).hexdigest()[:12]
    path = run.folder.path / f"stock-{key}.jsonl"
    if not path.exists():
        nearest = stock(run, pairs, "st-default")
        write_rows(path, nearest + stock(run, pairs, "st-95", range_max=100, relative_margin=0.05))
    return list(read_rows(path))


def gated(run: Run, rows: Sequence[Row]) -> list[Row]:
    """The written rows that pass the gates of a run."""
    if not rows:
        return []
    write_rows(run.folder.path / "given.jsonl", list(rows))
    kept = []
    for name in dict.fromkeys(row["program"] for row in rows):
        flags = {"generate.given": str(run.folder.path / "given.jsonl"), "generate.program": name}
        one = Run(run.folder.path / f"gated-{name}", changed(run.config, flags), Progress(), collection=None)
        one.workspace.pairs = run.workspace.pairs
        one.until("generate")
        of_run = read_rows(one.workspace.folder.negatives())
        kept += [{**row, "program": name} for row in of_run if row["accepted"]]
    return [{key: row[key] for key in ("query_id", "text", "program")} for row in kept]


def changed(config: Config, flags: dict[str, Any]) -> Config:
    """The settings with some others."""
    tree = config.model_dump()
    for key, value in flags.items():
        section, _, name = key.partition(".")
        tree[section][name] = value
    return Config(**tree)


def ungated(config: Config) -> dict[str, Any]:
    """Settings without gates: accepted negatives stay, and those of other tools are used as they are."""
    return {f"gates.{key}": 1.0 if key == "script" else 0 for key in config.gates.model_dump()}


def results(run: Run, seeds: int) -> dict[str, list[dict[str, float]]]:
    """Arm → for each seed the metric of every test query."""
    found = {}
    for name, evaluated in run.experiment.results.items():
        found[name] = [result["test"].values[MAIN_METRIC] for result in evaluated[:seeds]]
    return found


def compared(found: dict[str, list[dict[str, float]]], base: str) -> list[Figures]:
    """One row for each set: mean over seeds, each seed, and the difference to `base` with its interval."""
    rows = []
    means = {name: {q: float(np.mean([of[q] for of in seeds])) for q in seeds[0]} for name, seeds in found.items()}
    for name, seeds in found.items():
        differences = [means[name][q] - means[base][q] for q in means[base]]
        rows.append({
            "set": name, "ndcg": float(np.mean([*means[name].values()])), "difference": float(np.mean(differences)),
            "interval": paired_interval(differences), "seeds": [float(np.mean([*of.values()])) for of in seeds],
        })  # fmt: skip
    return rows


@dataclass(frozen=True)
class Options:
    """What the flags say."""

    dataset: str
    given: tuple[str, ...]
    pairs: int
    seeds: int
    base: str
    fast: bool
    device: str
    folder: Path
    overrides: tuple[str, ...]
    quick: bool
    path: Path | None


@click.command()
@click.option("--dataset", default="beir/scifact", show_default=True)
@click.option("--given", multiple=True, metavar="[NAME=]FILE", help="JSONL of written negatives")
@click.option("--pairs", default=0, help="train pairs, 0 = all that every file has rows for")
@click.option("--seeds", default=3, show_default=True)
@click.option("--base", default="st-95", show_default=True, help="the set that the others are held against")
@click.option("--fast", is_flag=True, help="train with the lower half frozen")
@click.option("--device", default="auto", show_default=True)
@click.option("--run", "folder", type=click.Path(path_type=Path), default=Path("runs/quality"), show_default=True)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="any other setting")
@click.option("--quick", is_flag=True, help="the smallest collection, 32 pairs, one seed, half of the encoder")
@click.option("--json", "path", type=click.Path(path_type=Path))
@filled(Options)
def main(options: Options) -> None:
    if options.quick:
        options = replace(
            options, dataset="python-docs-small", pairs=32, seeds=1, fast=True,
            overrides=("encoder.max_tokens=64", *options.overrides),
            folder=options.folder.with_name(f"{options.folder.name}-quick"),
        )  # fmt: skip
    flags: dict[str, Any] = {
        "collection.dataset": options.dataset, "train.pairs": 0, "generate.pairs": 0, "generate.per_pair": PLACES,
        "boundary.queries": 0, "judge.use": "off", "mix.negatives": PLACES, "train.seeds": tuple(range(options.seeds)),
        "evaluate.folds": 0, "encoder.device": options.device, **(FAST if options.fast else {}),
    }  # fmt: skip
    config = configured(options.overrides, flags)
    options.folder.mkdir(parents=True, exist_ok=True)
    first = Run(options.folder / "sets", config, Progress())
    with RunLock(options.folder):
        rows = written(options.given)
        names = list(dict.fromkeys(row["program"] for row in rows))
        first.workspace.pairs = covered(first.workspace.pairs, rows, names)[: options.pairs or None]
        own = {pair.query_id for pair in first.workspace.pairs}
        rows = gated(first, [row for row in rows if row["query_id"] in own])
        rows += stock_once(first, first.workspace.pairs)
        if list(read_rows(options.folder / "sets.jsonl")) != rows:
            write_rows(options.folder / "sets.jsonl", rows)
        peers = [f"hybrid@ratio=1000.0@program={name}" for name in ("st-default", "st-95")]
        arms = ("mined", *peers, *(f"hybrid@program={name}" for name in names))
        flags = {"train.arms": arms, "generate.given": str(options.folder / "sets.jsonl"), **ungated(config)}
        run = Run(options.folder, changed(config, flags), Progress())
        run.workspace.pairs = first.workspace.pairs
        labels = {one: arm(one, run.config).config.generate.program if "@" in one else one for one in arms}
        found = {labels.get(name, name): values for name, values in results(run, options.seeds).items()}
    table = compared(found, options.base)
    tested = f"nDCG@10 on {len(found[BASE][0])} test queries"
    print(f"{options.dataset}, {len(own)} train pairs, {options.seeds} seeds; {tested}")
    print(f"{'set':20s} {'nDCG@10':>8s} {'to ' + options.base:>14s}   95 % over queries     seeds")
    for row in sorted(table, key=lambda row: -row["ndcg"]):
        low, high = row["interval"] or (0.0, 0.0)
        each = " ".join(f"{value:.4f}" for value in row["seeds"])
        print(f"{row['set']:20s} {row['ndcg']:8.4f} {row['difference']:+14.4f}   [{low:+.4f}, {high:+.4f}]   {each}")
    asked = {"dataset": options.dataset, "pairs": len(own), "seeds": options.seeds, "base": options.base}
    save(options.path, "quality", asked, {"sets": table})


def covered(pairs: Sequence[Pair], rows: Sequence[Row], names: Sequence[str]) -> list[Pair]:
    """The pairs for which every set has a row."""
    asked = [{row["query_id"] for row in rows if row["program"] == name} for name in names]
    return [pair for pair in pairs if all(pair.query_id in ids for ids in asked)]


if __name__ == "__main__":
    main()
