"""Steps per second against a stock SentenceTransformerTrainer: the same rows, batches, loss, precision and number of
steps.

    python benchmarks/training_speed.py --dataset beir/scifact --steps 12

Each kind of training is run in turn, several rounds, on this machine in this process; the ratio is what counts. The
loss printed is that of the stock loss on the first rows after the training, without dropout, so that speed bought with
learning less would show. The first step of a run is not timed.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch, for both

import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import torch
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from transformers import PrinterCallback, TrainerCallback

from syneg.core.config import Config
from syneg.core.presets import FAST
from syneg.core.progress import Progress
from syneg.core.records import Instance
from syneg.core.settings import load_config
from syneg.retrieval.dev_set import DevSet
from syneg.retrieval.encoder import Encoder
from syneg.run.arms import arm
from syneg.run.pipeline import Run
from syneg.training.frozen import LayerCache
from syneg.training.job import Job
from syneg.training.trainer import train
from syneg.training.weights import learning_rate

COLUMNS = ("anchor", "positive", "negative_1", "negative_2", "negative_3")


class Clock(TrainerCallback):
    """When each step ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.times.append(time.perf_counter())


def stock(rows: list[Instance], config: Config, folder: Path, steps: int) -> tuple[list[float], SentenceTransformer]:
    from datasets import Dataset

    model = Encoder.load(config.encoder).model
    texts = [(row.pair.query, row.pair.positive, *row.negatives) for row in rows]
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder), max_steps=steps, warmup_steps=round(steps * config.train.warmup), per_device_train_batch_size=config.train.batch_size, bf16=True, use_cpu=True,
        learning_rate=learning_rate(config.train, model), save_strategy="no", logging_strategy="no", report_to="none",
        disable_tqdm=True, seed=0, dataloader_pin_memory=False,
    )  # fmt: skip
    clock = Clock()
    trainer = SentenceTransformerTrainer(
        model=model, args=arguments, loss=MultipleNegativesRankingLoss(model, scale=1 / config.train.temperature), callbacks=[clock],
        train_dataset=Dataset.from_dict({name: [row[i] for row in texts] for i, name in enumerate(COLUMNS)}),
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return clock.times, model


def ours(
    rows: list[Instance], config: Config, folder: Path, steps: int, run: Run, dev: DevSet, states: LayerCache | None
) -> tuple[list[float], SentenceTransformer]:
    times: list[float] = []
    settings = config.train.model_copy(update={"epochs": steps * config.train.batch_size / len(rows), "evals": 1})
    job = Job(config.encoder, [rows], {}, dev, settings, 0)
    train(
        job,
        folder,
        encoder=run.workspace.encoder,
        states=states,
        progress=lambda done, total: times.append(time.perf_counter()),
    )
    return times, Encoder.load(config.encoder, folder).model


def loss_of(model: SentenceTransformer, rows: list[Instance], temperature: float) -> float:
    model.eval()
    columns = zip(*[(row.pair.query, row.pair.positive, *row.negatives) for row in rows[:64]], strict=True)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        anchor, *texts = (model.encode(list(column), convert_to_tensor=True).float() for column in columns)
    return (
        MultipleNegativesRankingLoss(model, scale=1 / temperature)
        .compute_loss_from_embeddings([anchor, *texts], None)
        .item()
    )


@click.command()
@click.option("--dataset", default="beir/scifact")
@click.option("--steps", default=12)
@click.option("--rounds", default=2)
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/speed"))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="any other setting")
@click.option("--quick", is_flag=True, help="the smallest collection, two steps, one round")
def main(dataset: str, steps: int, rounds: int, out: Path, overrides: tuple[str, ...], quick: bool) -> None:
    if quick:
        dataset, steps, rounds = "python-docs-small", 2, 1
        overrides = ("train.pairs=64", "train.batch_size=16", "encoder.max_tokens=64", *overrides)
    config = load_config(
        None, overrides, {"collection.dataset": dataset, "boundary.queries": 0, "train.arms": ("mined",)}
    )
    fast = load_config(None, overrides, {"collection.dataset": dataset, **FAST})
    run = Run(out, config, Progress())
    run.until("mine")
    rows = [row for row in run.experiment.job(arm("mined", config), 0).epochs[0] if all(row.weights)]
    rows = rows[
        : (min(len(rows), steps * config.train.batch_size) // config.train.batch_size) * config.train.batch_size
    ]
    query, passage = rows[0].pair.query, rows[0].pair.positive
    dev = DevSet({"q": query}, {"d": passage}, {"q": {"d": 1}})  # its score is not what is measured here
    states = LayerCache()
    kinds = {
        "stock": lambda folder: stock(rows, config, folder, steps),
        "ours": lambda folder: ours(rows, config, folder, steps, run, dev, None),
        "ours, --fast": lambda folder: ours(rows, fast, folder, steps, run, dev, states),
    }
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    losses: dict[str, float] = {"untrained": loss_of(run.workspace.encoder.model, rows, config.train.temperature)}
    for _ in range(rounds):
        for kind, train_it in kinds.items():
            folder = Path(tempfile.mkdtemp())
            try:
                times, model = train_it(folder)
                seconds[kind].append((times[-1] - times[0]) / (len(times) - 1))
                losses[kind] = loss_of(model, rows, config.train.temperature)
            finally:
                shutil.rmtree(folder)
    best = {kind: statistics.median(found) for kind, found in seconds.items()}
    click.echo(
        f"{dataset}, {len(rows)} rows, batches of {config.train.batch_size} x {len(COLUMNS)} texts, {steps} steps, {rounds} rounds"
    )
    click.echo("| training | s a step | steps a second against stock | loss after |\n|---|---|---|---|")
    click.echo(f"| none | | | {losses['untrained']:.4f} |")
    for kind, value in best.items():
        click.echo(f"| {kind} | {value:.2f} | {best['stock'] / value:.2f} | {losses[kind]:.4f} |")


if __name__ == "__main__":
    main()
