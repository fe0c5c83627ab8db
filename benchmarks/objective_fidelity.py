"""Does the probe rank sets of negatives as full training does? Kendall's tau, and seconds of both.

    python benchmarks/objective_fidelity.py --dataset beir/scifact --also negatives.jsonl --run runs/fidelity

Sets come from the collection: random passages, the first passages by BM25 and by the encoder with and without the
margin, and false negatives (sentences of the positive in another order, called false_1 and false_3). `--also` adds
files of written negatives: one set for each program in them, or with `NAME=FILE` the whole file as one set. Pairs
without any of these are then left out.

objective_cost.py measures only the seconds of a candidate, without any full training.

Full training is one arm of the run folder for each set and seed. Existing results are used, so the command continues
after a stop; `--only probe`, `--only full` or `--only critic` runs one part. With fewer `--pairs`, and `--against` the
folder of a full training with more, it measures how well probe and critic order sets from a few pairs. The gates are
off, because the objective itself has to tell bad sets.

The script prints:
- both scores of each set;
- tau of probe and full training on the queries that the probe is scored on (does it replace full training?) and on
  confirm and test (does it hold for other queries?), with bootstrap intervals over sets;
- the limits of these: tau of full training between the two groups of queries, and between its own seeds;
- tau of the critic's mean, over all pairs and over few, with all gates as in compiling, and without the margin, which
  full training did not have either;
- the set that each ranks last, and the seconds of both.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from configured import configured
from fidelity_report import report
from options import filled
from turns import save

from syneg.core.presets import FAST
from syneg.core.progress import Progress
from syneg.core.records import HardNegative, Pair
from syneg.core.settings import load_config
from syneg.core.storage import read_json, read_rows, write_json, write_rows
from syneg.negatives.gating import Gating
from syneg.negatives.mining import mine
from syneg.optimizers.critic import Critic
from syneg.optimizers.objective import Objective, held_out_queries
from syneg.retrieval.encoder import Encoder
from syneg.retrieval.evaluation import evaluate_model
from syneg.retrieval.metrics import MAIN_METRIC, mean
from syneg.run.arms import arm
from syneg.run.experiment import Experiment
from syneg.run.folder import RunLock
from syneg.run.pipeline import Run

PLACES = 3
QUICK = (
    "encoder.max_tokens=32", "probe.queries=40", "probe.passages=200", "probe.steps=2", "probe.epochs=0.2",
    "train.epochs=0.2",
)  # fmt: skip


def made_sets(run: Run) -> list[dict[str, str]]:
    """Rows (query_id, text, program) of the sets that need no LM."""
    collection, pairs = run.workspace.collection, run.workspace.pairs
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
        ("bm25_top", "bm25", 10.0), ("dense_top", "dense", 10.0), ("dense_95", "dense", 0.95),
        ("dense_80", "dense", 0.8),
    ):  # fmt: skip
        settings = run.config.mine.model_copy(update={"sources": (source,), "margin": margin, "per_query": PLACES})
        found = mine(collection, pairs, run.workspace.encoder, settings).negatives
        add(name, lambda pair, found=found: [n.text for n in found[pair.query_id]])
    dense = {row["query_id"]: row["text"] for row in rows if row["program"] == "dense_95"}
    add("false_3", false_texts)
    add("false_1", lambda pair: [false_texts(pair)[0], dense.get(pair.query_id, ""), *random_texts(pair)[:1]])
    return [row for row in rows if row["text"].strip()]


def false_texts(pair: Pair) -> list[str]:
    """Texts that still answer: the sentences of the positive in another order, which comparing texts does not find."""
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


@dataclass(frozen=True)
class Options:
    """What the flags say."""

    dataset: str
    pairs: int
    also: tuple[str, ...]
    seeds: int
    fast: bool
    only: str | None
    against: Path | None
    quick: bool
    overrides: tuple[str, ...]
    folder: Path
    path: Path | None


@click.command()
@click.option("--dataset", default="python-docs", show_default=True)
@click.option("--pairs", default=300, show_default=True, help="train pairs of every set")
@click.option("--also", multiple=True, metavar="[NAME=]FILE", help="JSONL of written negatives")
@click.option("--seeds", default=3, show_default=True, help="of full training")
@click.option("--fast", is_flag=True, help="full training with the lower half frozen")
@click.option("--only", type=click.Choice(["probe", "full", "critic"]), help="one part of the work")
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    help="run folder with the full training to compare with  [that of --run]",
)
@click.option("--quick", is_flag=True, help="a small collection, 16 pairs, one seed, a few steps")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE")
@click.option("--run", "folder", type=click.Path(path_type=Path), default=Path("runs/fidelity"), show_default=True)
@click.option("--json", "path", type=click.Path(path_type=Path))
@filled(Options)
def main(options: Options) -> None:
    if options.quick:
        options = replace(
            options, dataset="python-docs-small", pairs=16, seeds=1, fast=True, overrides=(*QUICK, *options.overrides)
        )
    flags: dict[str, Any] = {
        "collection.dataset": options.dataset, "train.pairs": 0, "generate.pairs": 0, "generate.per_pair": PLACES,
        "generate.given": str(options.folder / "sets.jsonl"), "boundary.queries": 0, "judge.use": "off",
        "mix.negatives": PLACES, "mine.margin": 0.95,
        "train.seeds": tuple(range(options.seeds)), **(FAST if options.fast else {}),
    }  # fmt: skip
    off = list(load_config().gates.model_dump())
    flags |= {f"gates.{key}": 1.0 if key in ("script",) else 0 for key in off}
    config = configured(options.overrides, flags)
    run = Run(options.folder, config, Progress())
    with RunLock(options.folder):
        written = written_sets(options.also)
        covered = {row["query_id"] for row in written} or {pair.query_id for pair in run.workspace.pairs}
        run.workspace.pairs = [pair for pair in run.workspace.pairs if pair.query_id in covered][: options.pairs]
        trained_on = {pair.query_id for pair in run.workspace.pairs}
        rows = made_sets(run) + [row for row in written if row["query_id"] in trained_on]
        if list(read_rows(options.folder / "sets.jsonl")) != rows:
            write_rows(options.folder / "sets.jsonl", rows)
        names = list(dict.fromkeys(row["program"] for row in rows))
        arms = tuple(f"hybrid@ratio=1000.0@program={name}" for name in names)
        config = config.model_copy(update={"train": config.train.model_copy(update={"arms": arms})})
        own_pairs = run.workspace.pairs
        run = Run(options.folder, config, Progress())
        run.workspace.pairs = own_pairs
        experiment = run.experiment
        if options.only in (None, "critic"):
            judged(run, rows)
        if options.only in (None, "probe"):
            probed(run, experiment, names)
        if options.only in (None, "full"):
            trained(run, experiment, names, options.seeds)
        found, measured = report(run, names, options.against or options.folder)
    save(options.path, "objective_fidelity", {"dataset": options.dataset, "pairs": options.pairs, **found}, measured)


def judged(run: Run, rows: list[dict[str, str]]) -> None:
    """Write critic.json: with or without the margin → set → query → the critic's mean value of its texts."""
    pairs = {pair.query_id: pair for pair in run.workspace.pairs}
    answers = [(pairs[row["query_id"]], HardNegative(row["text"], row["program"])) for row in rows]
    means: dict[str, dict[str, dict[str, float]]] = {}
    for label, changed in (("the gates", {}), ("no margin", {"margin": 0})):
        gates = load_config().gates.model_copy(update={"sibling_cosine": 0, **changed})
        gating = Gating(run.workspace.collection, run.workspace.encoder, gates, passage_words=10**6, definition="")
        critic = Critic(gating)
        on_text = [draft for pair, negative in answers for draft in gating.on_text(pair, [negative])]
        found: dict[str, dict[str, list[float]]] = {}
        for draft in gating.rest(on_text):
            of = found.setdefault(draft.negative.program, {})
            of.setdefault(draft.pair.query_id, []).append(critic.value(draft))
        means[label] = {name: {q: float(np.mean(v)) for q, v in of.items()} for name, of in found.items()}
    write_json(run.folder / "critic.json", means)


def probed(run: Run, experiment: Experiment, names: list[str]) -> None:
    """Write probe.json: gain, error and seconds of each set; the second time all texts are cached."""
    objective = Objective(
        run.workspace.encoder, run.workspace.collection, run.workspace.pairs, run.workspace.mined, run.config
    )
    start = time.monotonic()
    objective.score({})  # the probe on mined negatives alone, and the output of the frozen layers
    print(f"first probe (with the output of the frozen layers): {time.monotonic() - start:.1f} s", flush=True)
    found: dict[str, dict[str, float]] = {}
    for name in names:
        one = arm(f"hybrid@ratio=1000.0@program={name}", run.config)
        rows = [experiment.job(one, s).epochs[0] for s in range(run.config.probe.seeds)]
        start = time.monotonic()
        score = objective.compared(rows)
        found[name] = {
            "likelihood": score.likelihood, "likelihood_error": score.likelihood_error, "gain": score.gain,
            "error": score.error, "seconds": time.monotonic() - start,
        }  # fmt: skip
        print(json.dumps({name: found[name]}), flush=True)
    write_json(run.folder / "probe.json", found)


def trained(run: Run, experiment: Experiment, names: list[str], seeds: int) -> None:
    """Write full.json: nDCG@10 and seconds of each set and seed; all sets are trained before the next seed.

    "held" is that on the queries that the probe is scored on.
    """
    path = run.folder / "full.json"
    found: dict[str, dict[str, dict[str, float]]] = read_json(path) or {}
    own = {pair.query_id for pair in run.workspace.pairs}
    held = held_out_queries(run.workspace.collection, sorted(own), run.config.probe.queries, run.config.seed)
    seen = replace(run.workspace.collection, splits={"held": [q for q in held if q not in own]})
    for seed in range(seeds):
        for name in names:
            if str(seed) in found.setdefault(name, {}):
                continue
            one = arm(f"hybrid@ratio=1000.0@program={name}", run.config)
            start = time.monotonic()
            values = {split: mean(r.values[MAIN_METRIC]) for split, r in experiment.result(one, seed).items()}
            seconds = time.monotonic() - start
            encoder = Encoder.load(run.config.encoder, experiment.trained(one, seed)[0])
            values["held"] = mean(evaluate_model(encoder, seen, 10, splits=["held"])["held"].values[MAIN_METRIC])
            found[name][str(seed)] = {**values, "seconds": seconds}
            print(json.dumps({name: seed, **found[name][str(seed)]}), flush=True)
            write_json(path, found)


if __name__ == "__main__":
    main()
