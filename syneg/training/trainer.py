"""Fine-tuning with sentence-transformers' trainer: seeded, resumable, scored on dev as it goes.

    train(Job(encoder_config, epochs, relevant, dev, TrainConfig(), seed=0), run/"models/hybrid-0")
      → folder/model.safetensors …, folder/training.json {"steps": 38, "seconds": 71.2, "dev": [[19, .67], …], …}

A checkpoint is written at each evaluation, so that a run that was killed goes on from the last one; they are removed at
the end. With several processes (`train.processes`) the job is written down and read by each of them:

    python -m torch.distributed.run --nproc_per_node 2 -m syneg.training runs/x/models/hybrid-0
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import (
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from transformers import EarlyStoppingCallback, PrinterCallback, ProgressCallback, TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from syneg.core.config import TrainConfig
from syneg.core.errors import BackendError
from syneg.core.progress import Tick
from syneg.core.records import Training
from syneg.core.storage import read_json, write_json
from syneg.retrieval.dev_set import DEV_METRIC, DevScore
from syneg.retrieval.encoder import Encoder

from .batches import Plan, PlannedBatches
from .course import loss_curve, shares_by_third, synthetic_share
from .features import TextCollator, column_roles, column_routes, places
from .frozen import FrozenLayers, States, frozen_count
from .job import JOB, Job, write_job
from .loss import BaseView, HybridInfoNCE
from .weights import interpolate, learning_rate, set_dropout, swift_attention


class _Report(TrainerCallback):
    """Steps to the progress line, dev scores to a list."""

    def __init__(self, progress: Tick | None) -> None:
        self.progress = progress
        self.dev: list[tuple[int, float]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        _give_memory_back()
        if self.progress:
            self.progress(state.global_step, state.max_steps)

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, float] | None = None, **kwargs: Any
    ) -> None:
        self.dev.append((state.global_step, float((metrics or {})[f"eval_{DEV_METRIC}"])))


class _Trainer(SentenceTransformerTrainer):
    """Takes its batches from a sampler of ours; arguments are pickled into checkpoints, so it cannot stand there."""

    def __init__(self, sampler: PlannedBatches, **settings: Any) -> None:
        self._planned = sampler
        super().__init__(**settings)

    def add_model_card_callback(self, *args: Any, **kwargs: Any) -> None:
        """No card is written, and its statistics take seconds."""

    def get_batch_sampler(self, *args: Any, **kwargs: Any) -> PlannedBatches:
        return self._planned


def train(
    job: Job,
    folder: Path,
    *,
    encoder: Encoder | None = None,
    states: States | None = None,
    progress: Tick | None = None,
) -> Training:
    """Fine-tune a fresh copy of the encoder and save the best weights on dev in `folder`.

    Returns what is in training.json.
    `states` are shared by trainings with the same encoder and number of frozen layers.
    """
    if job.config.processes > 1:
        _train_apart(job, folder)
    else:
        train_here(job, folder, encoder or Encoder.load(job.encoder), states, progress)
    return Training.of(read_json(folder / "training.json"))


def train_here(
    job: Job, folder: Path, encoder: Encoder, states: States | None, progress: Tick | None
) -> Training | None:
    """One process of a training; None in all processes but the first, which writes the result."""
    start = time.monotonic()
    rows = job.rows
    model = Encoder.load(job.encoder).model  # a fresh copy: the base stays as it is
    count = frozen_count(model, job.config.frozen_layers)
    config = job.config.model_copy(update={"frozen_layers": count})
    # less dropout and plain attention are quicker on a CPU; frozen layers give what they gave before (batch, length,
    # dim)
    set_dropout(model, config.dropout)
    swift_attention(model)
    frozen = FrozenLayers(model, count, states) if count else None
    embed = frozen.embed if frozen else None
    # the loss knows each row of each epoch by its number, in (epochs * rows,); a batch is the numbers of its rows
    loss = HybridInfoNCE(model, rows, job.relevant, config, _base_view(job, encoder), embed)
    # one plan for all processes, each of which takes slices of `batch_size` rows: as many steps however many they are
    arguments = _arguments(replace(job, config=config), folder, encoder)
    plan = Plan(config.batch_size, job.seed, _hardness(job, encoder), arguments.world_size)
    sampler = PlannedBatches(job.epochs, job.relevant, plan)
    _set_steps(arguments, config, sampler.steps)
    report, dev = _Report(progress), DevScore(job.dev, encoder)
    trainer = _Trainer(
        sampler,
        model=model,
        args=arguments,
        train_dataset=places(len(rows)),
        data_collator=TextCollator(
            preprocess_fn=model.preprocess,
            prompts=arguments.prompts,
            router_mapping=column_routes(rows[0]),
            rows=rows,
        ),
        loss=loss,
        evaluator=dev,
        callbacks=[report, *([EarlyStoppingCallback(config.patience)] if config.patience else [])],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    # a checkpoint at each evaluation: a training that was killed goes on from the last whole one
    checkpoints = folder / "checkpoints"
    last = _whole_checkpoint(checkpoints)
    trainer.train(resume_from_checkpoint=last)
    done = None
    if trainer.is_world_process_zero():
        # the trainer has loaded the best weights on dev; they may be mixed with those of the base, alpha by alpha
        alphas = interpolate(model, encoder.model, dev, config.alphas)
        model.save(str(folder), create_model_card=False)
        done = Training(
            steps=trainer.state.global_step, seconds=round(time.monotonic() - start, 2), rows=len(job.epochs[0]),
            processes=arguments.world_size, dev=tuple(report.dev), alphas=tuple(alphas),
            shares=tuple(shares_by_third(loss.shares())), synthetic_share=synthetic_share(rows),
            losses=tuple(loss_curve(loss.losses(), trainer.state.global_step)), resumed=last is not None,
        )  # fmt: skip
        shutil.rmtree(checkpoints, ignore_errors=True)
        (folder / JOB).unlink(missing_ok=True)  # its texts have no place beside a model that may be given away
        write_json(folder / "training.json", asdict(done))
    return done


def _whole_checkpoint(folder: Path) -> str | None:
    """The last checkpoint; those that a crash left without trainer_state.json, which is written last, are removed."""
    for path in folder.glob("checkpoint-*"):
        if not (path / "trainer_state.json").exists():
            shutil.rmtree(path)
    return get_last_checkpoint(str(folder)) if folder.is_dir() else None


def _arguments(job: Job, folder: Path, encoder: Encoder) -> SentenceTransformerTrainingArguments:
    config, device = job.config, encoder.model.device.type
    roles = column_roles(job.rows[0])
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder / "checkpoints"),
        per_device_train_batch_size=config.batch_size,
        learning_rate=learning_rate(config, encoder.model),
        bf16=encoder.precision == "bf16",
        use_cpu=device == "cpu",
        eval_strategy="steps",
        save_strategy="steps",
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model=f"eval_{DEV_METRIC}",
        greater_is_better=True,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=job.seed,
        data_seed=job.seed,
        dataloader_pin_memory=device == "cuda",
        prompts={name: encoder.prompts.of(role) for name, role in roles.items()},
        router_mapping=column_routes(job.rows[0]),
    )
    # one process trains on one device: torch's DataParallel would split a batch whose rows belong together
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _set_steps(arguments: SentenceTransformerTrainingArguments, config: TrainConfig, epoch_steps: int) -> None:
    """Steps of the epochs asked for, however many processes take part."""
    arguments.max_steps = max(1, round(epoch_steps * config.epochs))
    arguments.warmup_steps = round(arguments.max_steps * config.warmup)
    arguments.eval_steps = arguments.save_steps = max(1, arguments.max_steps // config.evals)


def _base_view(job: Job, encoder: Encoder) -> BaseView | None:
    """The untuned encoder's view of all texts of the rows; None where the loss has no use for it."""
    if not (job.config.guide or job.config.distil):
        return None
    texts = list(dict.fromkeys(text for row in job.rows for text in (row.pair.positive, *row.negatives) if text))
    queries = encoder.encode([row.pair.query for row in job.rows], "query")
    return BaseView(queries, dict(zip(texts, encoder.encode(texts, "passage"), strict=True)))


def _hardness(job: Job, encoder: Encoder) -> list[float] | None:
    """For each row how near its nearest negative of any epoch comes to the positive under the untuned encoder.

    None without curriculum.
    """
    if not job.config.curriculum:
        return None
    queries = encoder.encode([row.pair.query for row in job.epochs[0]], "query")
    hardness = []
    for query, turns in zip(queries, zip(*job.epochs, strict=True), strict=True):
        texts = [turns[0].pair.positive, *dict.fromkeys(text for row in turns for text in row.negatives if text)]
        scores = encoder.encode(texts, "passage") @ query
        hardness.append(float(np.max(scores[1:], initial=-np.inf) - scores[0]) if len(scores) > 1 else -np.inf)
    return hardness


def _give_memory_back() -> None:
    """Return freed memory to the system: batches of ever new sizes leave glibc's heap full of holes otherwise."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


# several processes


def _train_apart(job: Job, folder: Path) -> None:
    """Write the job down and train it in `train.processes` processes of this machine."""
    write_job(job, folder)
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        str(job.config.processes),
    ]
    command = [*launch, "-m", "syneg.training", str(folder)]
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // job.config.processes))
    log = folder / "processes.log"
    with log.open("ab") as file:
        code = subprocess.run(
            command, env={**os.environ, "OMP_NUM_THREADS": threads}, stdout=file, stderr=file
        ).returncode
    if code or not (folder / "training.json").exists():
        raise BackendError(f"training in {job.config.processes} processes failed (exit {code})", where=str(log))
    log.unlink()
