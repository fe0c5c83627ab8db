"""Fine-tuning with sentence-transformers' trainer: seeded, resumable, stopped early on dev.

    train(encoder, instances, relevant, dev, TrainConfig(), seed=0, folder=run/"models/hybrid-0")
      → folder/model.safetensors …, folder/training.json {"steps": 13, "seconds": 41.2, "dev": [[6, .41], [13, .43]]}

A checkpoint is written at each evaluation, so that a run that was killed goes on from the last one; they are removed at
the end. The dev score of training is nDCG@10 over a small corpus: what is relevant to the dev queries, what the untuned
encoder finds for them, and other passages up to `dev_passages`.
"""

from __future__ import annotations

import contextlib
import ctypes
import random
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.evaluation import SentenceEvaluator
from transformers import EarlyStoppingCallback, PrinterCallback, ProgressCallback, TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from .collection import Collection
from .config import TrainConfig
from .encoder import Encoder, Progress
from .loss import Guide, HybridInfoNCE
from .metrics import MAIN_METRIC, evaluate, mean
from .records import Instance
from .search import DenseIndex
from .storage import write_json

_NEIGHBOURS = 20


class DevSet(SentenceEvaluator):
    """nDCG@10 of the dev queries over a small corpus; the higher the better."""

    def __init__(self, encoder: Encoder, collection: Collection, size: int, seed: int) -> None:
        super().__init__()
        self.primary_metric = MAIN_METRIC
        self._encoder = encoder
        self._queries = list(collection.splits["dev"])
        self._texts = [collection.queries[query_id] for query_id in self._queries]
        self._qrels = {query_id: collection.qrels[query_id] for query_id in self._queries}
        doc_ids = list(collection.passages)
        index = DenseIndex(doc_ids, encoder.encode(list(collection.passages.values()), "passage"))
        found = index.search(encoder.encode(self._texts, "query"), _NEIGHBOURS)
        chosen = {doc_id: None for query_id in self._queries for doc_id in sorted(collection.relevant(query_id))}
        by_rank = [hits[rank][0] for rank in range(_NEIGHBOURS) for hits in found if rank < len(hits)]
        others = random.Random(seed).sample(doc_ids, len(doc_ids))
        for doc_id in (*by_rank, *others):
            if len(chosen) >= size:
                break
            chosen[doc_id] = None
        self._docs = list(chosen)
        self._passages = [collection.passages[doc_id] for doc_id in self._docs]

    def __call__(self, model: SentenceTransformer, *args: Any, **kwargs: Any) -> dict[str, float]:
        queries = self._embed(model, self._texts, self._encoder.prompts["query"])
        passages = self._embed(model, self._passages, self._encoder.prompts["passage"])
        hits = DenseIndex(self._docs, passages).search(queries, 10)
        ranking = {query_id: dict(found) for query_id, found in zip(self._queries, hits, strict=True)}
        return {f"dev_{MAIN_METRIC}": mean(evaluate(self._qrels, ranking, [MAIN_METRIC])[MAIN_METRIC])}

    def _embed(self, model: SentenceTransformer, texts: list[str], prompt: str) -> np.ndarray:
        with self._encoder.autocast():
            vectors = model.encode(texts, prompt=prompt or None, batch_size=self._encoder.config.batch_size,
                                   normalize_embeddings=True, show_progress_bar=False)  # fmt: skip
        return np.asarray(vectors, dtype=np.float32)


class _Report(TrainerCallback):
    """Steps to the progress line, dev scores to a list."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress
        self.dev: list[tuple[int, float]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        _give_memory_back()
        if self.progress:
            self.progress(state.global_step, state.max_steps)

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, float] | None = None, **kwargs: Any
    ) -> None:
        self.dev.append((state.global_step, float((metrics or {})[f"eval_dev_{MAIN_METRIC}"])))


def train(
    encoder: Encoder,
    instances: Sequence[Instance],
    relevant: Mapping[str, Sequence[str]],
    dev: DevSet,
    config: TrainConfig,
    *,
    seed: int,
    folder: Path,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Fine-tune a copy of `encoder.model` on `instances` and save the best checkpoint on dev in `folder`.

    Returns what is in training.json: steps, seconds, and the dev score at each evaluation. All rows must have the same
    number of negatives (`sampling.mix` gives them so).
    """
    start = time.monotonic()
    model = Encoder.load(encoder.config).model  # a fresh copy: the base stays as it is
    checkpoints = folder / "checkpoints"
    steps = max(1, round(-(-len(instances) // config.batch_size) * config.epochs))
    every = max(1, steps // config.evals)
    names = ["anchor", "positive", *(f"negative_{i + 1}" for i in range(len(instances[0].negatives)))]
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(checkpoints),
        max_steps=steps,
        per_device_train_batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        warmup_steps=round(steps * config.warmup),
        bf16=encoder.precision == "bf16",
        use_cpu=encoder.model.device.type == "cpu",
        eval_strategy="steps",
        save_strategy="steps",
        eval_steps=every,
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model=f"eval_dev_{MAIN_METRIC}",
        greater_is_better=True,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=seed,
        data_seed=seed,
        dataloader_pin_memory=False,
        prompts={
            n: encoder.prompts["query" if n == "anchor" else "passage"] for n in names if any(encoder.prompts.values())
        },
    )
    report = _Report(progress)
    trainer = SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=_dataset(instances, names),
        loss=HybridInfoNCE(model, instances, relevant, config.temperature, _guide(encoder, instances, config.guide)),
        evaluator=dev,
        callbacks=[EarlyStoppingCallback(config.patience), report],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    last = get_last_checkpoint(str(checkpoints)) if checkpoints.is_dir() else None
    trainer.train(resume_from_checkpoint=last)
    alphas = interpolate(model, encoder.model, dev, config.alphas)
    model.save(str(folder), create_model_card=False)
    done = {"steps": trainer.state.global_step, "seconds": round(time.monotonic() - start, 2), "rows": len(instances),
            "dev": report.dev, "alphas": alphas, "resumed": last is not None}  # fmt: skip
    write_json(folder / "training.json", done)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return done


def _guide(encoder: Encoder, instances: Sequence[Instance], margin: float) -> Guide | None:
    """The untuned encoder's view of all texts of the rows; None where no guide is wanted."""
    if not margin:
        return None
    texts = list(dict.fromkeys(text for row in instances for text in (row.pair.positive, *row.negatives) if text))
    queries = encoder.encode([row.pair.query for row in instances], "query")
    return Guide(queries, dict(zip(texts, encoder.encode(texts, "passage"), strict=True)), margin)


def interpolate(
    tuned: SentenceTransformer, base: SentenceTransformer, dev: DevSet, alphas: Sequence[float]
) -> list[tuple[float, float]]:
    """Set the weights of `tuned` to (1 - alpha) * base + alpha * tuned for the alpha that is best on dev.

    Returns (alpha, dev score) of each; the larger alpha wins a tie. With one alpha of 1 nothing is scored or changed
    (Wortsman et al., 2022, arXiv 2109.01903, where alpha is fixed).
    """
    if list(alphas) == [1.0]:
        return []
    end = {name: weights.detach().clone() for name, weights in tuned.state_dict().items()}
    start = base.state_dict()

    def move(alpha: float) -> None:
        # integers, such as position ids, are no weights
        mixed = {n: torch.lerp(start[n].to(w), w, alpha) if w.is_floating_point() else w for n, w in end.items()}
        tuned.load_state_dict(mixed)

    scores = []
    for alpha in sorted(alphas):
        move(alpha)
        scores.append((alpha, dev(tuned)[f"dev_{MAIN_METRIC}"]))
    move(max(scores, key=lambda found: (found[1], found[0]))[0])
    return scores


def _give_memory_back() -> None:
    """Return freed memory to the system: batches of ever new sizes leave glibc's heap full of holes otherwise."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def _dataset(instances: Sequence[Instance], names: list[str]) -> Any:
    from datasets import Dataset

    texts = [(row.pair.query, row.pair.positive, *row.negatives) for row in instances]
    columns: dict[str, Any] = {name: [row[i] for row in texts] for i, name in enumerate(names)}
    return Dataset.from_dict({**columns, "label": list(range(len(instances)))})
