"""Steps per second against a stock SentenceTransformerTrainer: the same rows, batches, loss, precision and number of
steps.

    python benchmarks/training_speed.py --dataset beir/scifact --steps 12
    python benchmarks/training_speed.py --batch 16,64,256,1024 --steps 4
    python benchmarks/training_speed.py --device cuda --batch 16,64,256,1024

All kinds of training take turns, for several rounds, in this process; look at the ratios. On a busy machine look at
those of `cpu_s_a_step`, the CPU time of this process, which other work changes least. From batches of
`--cached-from` rows on, both sides use a gradient cache: stock has CachedMultipleNegativesRankingLoss, ours has
`train.cached_chunk`. `loss_share` is the part of a step that computes the loss from embeddings, without its backward
pass. The printed loss is the stock loss on the first rows after training, without dropout: it would show if the faster
side learnt less. The first step is not timed. If the collection has too few rows, they are repeated with a number at
the end of each text.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch, for both

import functools
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import torch
from configured import configured
from options import filled
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)
from transformers import PrinterCallback, TrainerCallback
from turns import Figures, save, sizes, table

from syneg.core.config import Config
from syneg.core.presets import FAST
from syneg.core.progress import Progress
from syneg.core.records import Instance
from syneg.retrieval.dev_set import DevSet
from syneg.retrieval.encoder import Encoder
from syneg.run.arms import arm
from syneg.run.pipeline import Run
from syneg.training.frozen import LayerCache
from syneg.training.job import Job
from syneg.training.loss import HybridInfoNCE
from syneg.training.trainer import train
from syneg.training.weights import learning_rate

COLUMNS = ("anchor", "positive", "negative_1", "negative_2", "negative_3")
CHUNK = 32  # texts embedded at once under a gradient cache
Moment = tuple[float, float]  # seconds of the clock, and CPU seconds of this process
Trained = tuple[list[Moment], SentenceTransformer]


class Clock(TrainerCallback):
    """Records the time at the end of each step."""

    def __init__(self) -> None:
        self.times: list[Moment] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.times.append(moment())


def now() -> float:
    """The time in seconds, after a GPU has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def moment() -> Moment:
    """The end of a step."""
    return now(), time.process_time()


@contextmanager
def timed(kind: type, name: str) -> Iterator[list[float]]:
    """Inside this context, append the seconds of each call of a method to the list that it yields."""
    method, seconds = getattr(kind, name), list[float]()

    @functools.wraps(method)
    def measured(*args: Any, **kwargs: Any) -> Any:
        start = now()
        try:
            return method(*args, **kwargs)
        finally:
            seconds.append(now() - start)

    setattr(kind, name, measured)
    try:
        yield seconds
    finally:
        setattr(kind, name, method)


def stock(rows: list[Instance], config: Config, steps: int, folder: Path) -> Trained:
    from datasets import Dataset

    encoder = Encoder.load(config.encoder)
    model, device = encoder.model, encoder.model.device.type
    texts = [(row.pair.query, row.pair.positive, *row.negatives) for row in rows]
    scale, chunk = 1 / config.train.temperature, config.train.cached_chunk
    loss = (
        CachedMultipleNegativesRankingLoss(model, scale=scale, mini_batch_size=chunk)
        if chunk
        else MultipleNegativesRankingLoss(model, scale=scale)
    )
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder), max_steps=steps, warmup_steps=round(steps * config.train.warmup),
        per_device_train_batch_size=config.train.batch_size, bf16=encoder.precision == "bf16", use_cpu=device == "cpu",
        learning_rate=learning_rate(config.train, model), save_strategy="no", logging_strategy="no", report_to="none",
        disable_tqdm=True, seed=0, dataloader_pin_memory=device == "cuda",
    )  # fmt: skip
    clock = Clock()
    trainer = SentenceTransformerTrainer(
        model=model, args=arguments, loss=loss, callbacks=[clock],
        train_dataset=Dataset.from_dict({name: [row[i] for row in texts] for i, name in enumerate(COLUMNS)}),
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return clock.times, model


def ours(
    rows: list[Instance], config: Config, steps: int, encoder: Encoder, states: LayerCache | None, folder: Path
) -> Trained:
    times: list[Moment] = []
    settings = config.train.model_copy(update={"epochs": steps * config.train.batch_size / len(rows), "evals": 1})
    query, passage = rows[0].pair.query, rows[0].pair.positive
    dev = DevSet({"q": query}, {"d": passage}, {"q": {"d": 1}})  # its score is not what is measured here
    job = Job(config.encoder, [rows], {}, dev, settings, 0)
    train(job, folder, encoder=encoder, states=states, progress=lambda done, total: times.append(moment()))
    return times, Encoder.load(config.encoder, folder).model


def loss_of(model: SentenceTransformer, rows: list[Instance], temperature: float) -> float:
    model.eval()
    columns = zip(*[(row.pair.query, row.pair.positive, *row.negatives) for row in rows[:64]], strict=True)
    with torch.no_grad(), torch.autocast(model.device.type, torch.bfloat16):
        anchor, *texts = (model.encode(list(column), convert_to_tensor=True).float() for column in columns)
    return (
        MultipleNegativesRankingLoss(model, scale=1 / temperature)
        .compute_loss_from_embeddings([anchor, *texts], None)
        .item()
    )


def measure(kind: Callable[[Path], Trained], rows: list[Instance], temperature: float) -> Figures:
    """Seconds of a step, by the clock and of CPU; the loss's share of the former, and the loss after all steps."""
    folder = Path(tempfile.mkdtemp())
    try:
        with (
            timed(HybridInfoNCE, "from_embeddings") as own,
            timed(MultipleNegativesRankingLoss, "compute_loss_from_embeddings") as plain,
            timed(CachedMultipleNegativesRankingLoss, "calculate_loss") as cached,
        ):
            times, model = kind(folder)
        steps = len(times) - 1
        whole, cpu = (last - first for first, last in zip(times[0], times[-1], strict=True))
        losses = (own or plain or cached)[-steps:]
        return {
            "s_a_step": whole / steps, "cpu_s_a_step": cpu / steps, "steps_a_s": steps / whole,
            "loss_share": sum(losses) / whole, "loss_after": loss_of(model, rows, temperature),
        }  # fmt: skip
    finally:
        shutil.rmtree(folder)


def enough(rows: list[Instance], count: int) -> list[Instance]:
    """Exactly `count` rows: the existing ones, then copies with a number at the end of each text."""

    def copy(row: Instance, number: int) -> Instance:
        pair, end = row.pair, f" {number}"
        own = replace(pair, query_id=f"{pair.query_id}#{number}", query=pair.query + end, positive=pair.positive + end)
        return replace(row, pair=own, negatives=tuple(text + end for text in row.negatives))

    turns = -(-count // len(rows))
    return [row if turn == 0 else copy(row, turn) for turn in range(turns) for row in rows][:count]


@dataclass(frozen=True)
class Options:
    """What the flags say."""

    dataset: str
    sizes: list[int]
    cached_from: int
    steps: int
    rounds: int
    device: str
    out: Path
    overrides: tuple[str, ...]
    quick: bool
    path: Path | None


@click.command()
@click.option("--dataset", default="beir/scifact", show_default=True)
@click.option(
    "--batch", "sizes", default="16", show_default=True, callback=sizes, help="rows a batch, several by commas"
)
@click.option("--cached-from", default=128, show_default=True, help="rows a batch from which a gradient cache is used")
@click.option("--steps", default=12, show_default=True)
@click.option("--rounds", default=2, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/speed"))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="any other setting")
@click.option(
    "--quick", is_flag=True, help="the smallest collection, two steps, one round, batches of 8 and 16 (cached)"
)
@click.option("--json", "path", type=click.Path(path_type=Path))
@filled(Options)
def main(options: Options) -> None:
    if options.quick:
        options = replace(
            options, dataset="python-docs-small", steps=2, rounds=1, sizes=[8, 16], cached_from=16,
            overrides=("train.pairs=64", "encoder.max_tokens=64", *options.overrides),
        )  # fmt: skip
    flags: dict[str, Any] = {
        "collection.dataset": options.dataset, "encoder.device": options.device, "boundary.queries": 0,
        "mine.margin": 0.95,
    }  # fmt: skip
    config = configured(options.overrides, {**flags, "train.arms": ("mined",)})
    run = Run(options.out, config, Progress())
    run.until("mine")
    found = [row for row in run.experiment.job(arm("mined", config), 0).epochs[0] if all(row.weights)]
    everything: dict[str, list[Figures]] = {}
    for size in options.sizes:
        cached = size >= options.cached_from
        changed = {"train.batch_size": size, "train.cached_chunk": CHUNK if cached else 0}
        own = configured(options.overrides, {**flags, "train.arms": ("mined",), **changed})
        fast = configured(options.overrides, {**flags, **FAST, **changed})
        rows, states, encoder = enough(found, options.steps * size), LayerCache(), run.workspace.encoder
        kinds: dict[str, Callable[[Path], Trained]] = {
            "stock": functools.partial(stock, rows, own, options.steps),
            "ours": functools.partial(ours, rows, own, options.steps, encoder, None),
        }
        if not cached:
            kinds["ours, --fast"] = functools.partial(ours, rows, fast, options.steps, encoder, states)
        measured: dict[str, list[Figures]] = {kind: [] for kind in kinds}
        for turn in range(options.rounds):
            for name in list(kinds)[:: 1 if turn % 2 == 0 else -1]:
                measured[name].append(measure(kinds[name], rows, own.train.temperature))
        cache = ", gradient cache" if cached else ""
        click.echo(
            f"{options.dataset}, batches of {size} x {len(COLUMNS)} texts{cache}, {options.steps} steps, "
            f"{options.rounds} rounds, {encoder.model.device}"
        )
        click.echo(table(measured, "stock"))
        click.echo(f"loss of the untrained encoder {loss_of(encoder.model, rows, own.train.temperature):.4f}")
        everything |= {f"{name} at {size}": turns for name, turns in measured.items()}
    asked = {"dataset": options.dataset, "steps": options.steps, "device": options.device}
    save(options.path, "training_speed", asked, everything)


if __name__ == "__main__":
    main()
