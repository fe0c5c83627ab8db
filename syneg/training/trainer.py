"""Fine-tuning with sentence-transformers' trainer: seeded, resumable, scored on dev as it goes.

    train(Job(encoder_config, epochs, relevant, dev, TrainConfig(), seed=0), run/"models/hybrid-0")
      → folder/model.safetensors …, folder/training.json {"steps": 38, "seconds": 71.2, "dev": [[19, .67], …], …}

Each evaluation writes a checkpoint, so that a killed training continues from the last one. The checkpoints are removed
at the end. With several processes (`train.processes`) the job is written to a file, which each process reads:

    python -m torch.distributed.run --nproc_per_node 2 -m syneg.training runs/x/models/hybrid-0
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from transformers import EarlyStoppingCallback, PrinterCallback, ProgressCallback, TrainerCallback, TrainerState

from syneg.core.config import TrainConfig
from syneg.core.errors import BackendError
from syneg.core.progress import Tick
from syneg.core.records import Training
from syneg.core.storage import read_json, sync, write_json
from syneg.retrieval.dev_score import DEV_METRIC, DevScore
from syneg.retrieval.encoder import Encoder

from .batches import Plan, PlannedBatches
from .checkpoints import CHECKPOINTS, STATE, is_ended, last_whole, tidy
from .course import Course, loss_curve, shares_by_third, synthetic_share
from .ending import FLAG, held_open
from .features import TextCollator, column_roles, column_routes, places
from .frozen import FrozenLayers, LayerCache, frozen_count
from .job import Job, write_job
from .loss import BaseView, HybridInfoNCE, Taught
from .weights import Mixture, interpolate, learning_rate, set_dropout, swift_attention

# it warns of checkpoints that are written within a second, and then sorts them by their steps, which is right
logging.getLogger("transformers.trainer_utils").setLevel(logging.ERROR)

_TIDY = 8  # steps after which freed memory goes back; after each step it takes 4 % of the time (docs/lab_notes.md)


class _Report(TrainerCallback):
    """Shows steps on the progress line, and gives freed memory back."""

    def __init__(self, progress: Tick | None) -> None:
        self.progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % _TIDY == 0:
            _give_memory_back()
        if self.progress:
            self.progress(state.global_step, state.max_steps)


class _Trainer(SentenceTransformerTrainer):
    """A trainer with our batch sampler, which cannot be a training argument: those are pickled into checkpoints.

    Its checkpoints hold the course of the training, too.
    """

    def __init__(self, sampler: PlannedBatches, course: Course, **settings: Any) -> None:
        self._planned, self.course = sampler, course
        super().__init__(**settings)

    def add_model_card_callback(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: no model card is written here, and its statistics take seconds."""

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Score dev. A training that has diverged ends here, before a checkpoint of it is written."""
        self.course.check(self.state, self.args)
        return dict(super().evaluate(*args, **kwargs))

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        if output_dir is not None:
            self.course.save(Path(output_dir))

    def get_batch_sampler(self, *args: Any, **kwargs: Any) -> PlannedBatches:
        return self._planned


def train(
    job: Job,
    folder: Path,
    *,
    encoder: Encoder | None = None,
    states: LayerCache | None = None,
    progress: Tick | None = None,
) -> Training:
    """Fine-tune a fresh copy of the encoder and save the best weights on dev in `folder`, with training.json.

    `encoder` is the untuned encoder if it is loaded already. Trainings with the same encoder and number of frozen
    layers may share `states`. Raises BackendError if a training in several processes fails.
    """
    if job.config.processes > 1:
        _train_apart(job, folder)
    else:
        train_here(job, folder, encoder or Encoder.load(job.encoder), states, progress)
    return Training.of(read_json(folder / "training.json"))


def train_here(
    job: Job, folder: Path, encoder: Encoder, states: LayerCache | None, progress: Tick | None
) -> Training | None:
    """Run one process of a training. The first process writes the result and returns it; all others return None."""
    start = time.monotonic()
    rows = job.rows
    model = Encoder.load(job.encoder, job.begin).model  # a fresh copy: `encoder` stays untuned
    # the trainer saves its checkpoints by this name; a card would take longer than the weights of a small model
    model.save_pretrained = partial(model.save, create_model_card=False)  # type: ignore[method-assign]
    count = frozen_count(model, job.config.frozen_layers)
    config = job.config.model_copy(update={"frozen_layers": count})
    # less dropout and plain attention save time on a CPU; frozen layers take their output from the cache
    set_dropout(model, config.dropout)
    swift_attention(model)
    frozen = FrozenLayers(model, count, states) if count else None
    embed = frozen.embed if frozen else None
    # rows of all epochs are numbered 0 to epochs * rows - 1; a batch is a list of such numbers
    loss = HybridInfoNCE(model, rows, job.relevant, config, _teacher(job, encoder), embed)
    loss.course.begun = start
    # all processes share one plan, and each takes slices of `batch_size` rows
    arguments = _arguments(replace(job, config=config), folder, encoder)
    plan = Plan(config.batch_size, job.seed, _hardness(job, encoder), arguments.world_size)
    sampler = PlannedBatches(job.epochs, job.relevant, plan)
    _set_steps(arguments, config, sampler.steps)
    dev = DevScore(job.dev, encoder, frozen.attached) if frozen else DevScore(job.dev, encoder)
    trainer = _Trainer(
        sampler,
        loss.course,
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
        callbacks=[_Report(progress), *([EarlyStoppingCallback(config.patience)] if config.patience else [])],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    # each evaluation writes a checkpoint: a killed training continues from the last complete one
    with arguments.main_process_first(local=False):  # the first process alone removes what is broken
        last = last_whole(folder / CHECKPOINTS)
    _go_on(trainer, last)
    if not trainer.is_world_process_zero():
        return None
    # the trainer has loaded the best weights on dev; try mixing them with the untuned ones, alpha by alpha
    mixture = interpolate(model, encoder.model, dev, config.alphas, trainer.state.best_metric)
    model.save(str(folder), create_model_card=False)
    done = _outcome(trainer, job, mixture, resumed=last is not None)
    if job.begin:
        done = done.after(Training.of(read_json(job.begin / "training.json")))
    sync(folder)  # first: the record says that the model is whole
    write_json(folder / "training.json", asdict(done))  # then: on a full disk the checkpoints stay
    tidy(folder)
    return done


def _go_on(trainer: _Trainer, last: str | None) -> None:
    """Train from the checkpoint `last`, or from the start. The trainer would add a step to a training that had ended:
    that one only gets its best weights back."""
    if last is not None:
        trainer.course.go_on(Path(last))
    if last is None or not is_ended(Path(last), trainer.args.max_steps):
        trainer.train(resume_from_checkpoint=last)
        return
    trainer.state = TrainerState.load_from_json(str(Path(last) / STATE))
    trainer._load_from_checkpoint(trainer.state.best_model_checkpoint or last)


def _outcome(trainer: _Trainer, job: Job, mixture: Mixture, *, resumed: bool) -> Training:
    """What the report says of a training."""
    steps, course = trainer.state.global_step, trainer.course
    return Training(
        steps=steps, seconds=round(course.seconds, 2), rows=len(job.epochs[0]), processes=trainer.args.world_size,
        dev=tuple(_dev_scores(trainer)), alphas=mixture.scores, shares=tuple(shares_by_third(course.shares())),
        synthetic_share=synthetic_share(job.rows), losses=tuple(loss_curve([float(x) for x in course.losses], steps)),
        optimism=mixture.optimism, resumed=resumed,
    )  # fmt: skip


def _dev_scores(trainer: _Trainer) -> list[tuple[int, float]]:
    """The dev score of each evaluation as (step, nDCG@10), also of those before a checkpoint."""
    name = f"eval_{DEV_METRIC}"
    return [(int(row["step"]), float(row[name])) for row in trainer.state.log_history if name in row]


def _arguments(job: Job, folder: Path, encoder: Encoder) -> SentenceTransformerTrainingArguments:
    """Arguments of the trainer, which evaluates and saves by steps, and keeps the best model on dev."""
    config, device = job.config, encoder.model.device.type
    roles = column_roles(job.rows[0])
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder / CHECKPOINTS),
        per_device_train_batch_size=config.batch_size,
        learning_rate=learning_rate(config, encoder.model),
        bf16=encoder.precision == "bf16",
        use_cpu=device == "cpu",
        eval_strategy="steps",
        save_strategy="steps",
        save_total_limit=2,
        load_best_model_at_end=True,
        restore_callback_states_from_checkpoint=True,  # patience counts on
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
    # one process uses one device: torch's DataParallel would split a batch, and each row needs all of its texts
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _set_steps(arguments: SentenceTransformerTrainingArguments, config: TrainConfig, epoch_steps: int) -> None:
    """Set the steps in all, of the warm-up and between evaluations, for epochs of `epoch_steps` steps."""
    arguments.max_steps = max(1, round(epoch_steps * config.epochs))
    arguments.warmup_steps = round(arguments.max_steps * config.warmup)
    arguments.eval_steps = arguments.save_steps = max(1, arguments.max_steps // config.evals)


def _teacher(job: Job, encoder: Encoder) -> BaseView | Taught | None:
    """The scores of the job's teacher, or the untuned encoder's embeddings of all queries and texts.

    None if the loss has neither guide nor distil.
    """
    if job.taught:
        return job.taught
    if not (job.config.guide or job.config.distil):
        return None
    texts = list(dict.fromkeys(text for row in job.rows for text in (row.pair.positive, *row.negatives) if text))
    queries = encoder.encode([row.pair.query for row in job.rows], "query")
    return BaseView(queries, dict(zip(texts, encoder.encode(texts, "passage"), strict=True)))


def _hardness(job: Job, encoder: Encoder) -> list[float] | None:
    """For each row, the highest score of its negatives in any epoch minus the positive's, by the untuned encoder.

    None if `train.curriculum` is off; -inf for a row without negatives.
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
    """Return freed memory to the system. Batches of many sizes fragment the heap of glibc, which then keeps growing."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library has no malloc_trim
            ctypes.CDLL(None).malloc_trim(0)


# several processes


def _train_apart(job: Job, folder: Path) -> None:
    """Write job.json and train it in `train.processes` processes on this machine.

    Raises BackendError, with the path of their log, if they fail.
    """
    write_job(job, folder)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launch += ["--nproc_per_node", str(job.config.processes)]
    command = [*launch, "-m", "syneg.training", str(folder)]
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // job.config.processes))
    log = folder / "processes.log"
    environment = {**os.environ, "OMP_NUM_THREADS": threads, FLAG: "1"}
    with log.open("ab") as file, held_open() as ends:
        code = subprocess.run(command, env=environment, stdin=ends, stdout=file, stderr=file).returncode
    if code or not (folder / "training.json").exists():
        raise BackendError(f"training in {job.config.processes} processes failed (exit {code})", where=str(log))
    log.unlink()
