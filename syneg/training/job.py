"""A training as data: everything that it depends on, and its file for the processes of a distributed training.

write_job(Job(encoder_config, epochs, relevant, dev, TrainConfig(), seed=0), run/"models/hybrid-0")
  → job.json {"encoder": {…}, "epochs": [[{"pair": {…}, "negatives": […], …}, …], …], "seed": 0, …}
read_job(run/"models/hybrid-0") → Job(…)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from syneg.core.config import EncoderConfig, TrainConfig
from syneg.core.errors import BackendError, ConfigError
from syneg.core.records import Instance, Pair, fingerprint
from syneg.core.storage import read_json, write_json
from syneg.retrieval.dev_set import DevSet
from syneg.retrieval.encoder import Encoder

from .frozen import frozen_count

JOB = "job.json"
_VERSION = 2  # of training.json; part of the key
# settings already expressed by rows, scores, seed and dev set
_NO_RESULT = {"teacher", "arms", "seeds", "pairs", "dev_passages", "remine"}


def check_trainable(model: Any, config: TrainConfig) -> None:
    """Raise ConfigError, before anything is trained, for settings that do not fit `model` (a SentenceTransformer)."""
    frozen_count(model, config.frozen_layers)
    if config.cached_chunk and not hasattr(model[0], "auto_model"):
        raise ConfigError(
            "a gradient cache takes an encoder with layers; word vectors need none", todo="set train.cached_chunk=0"
        )


@dataclass(frozen=True)
class Start:
    """A trained model to go on from: its folder and the key of its training."""

    folder: str
    key: str


@dataclass(frozen=True)
class Job:
    """Everything that a training depends on.

    `epochs` holds the rows of each epoch (`sampling.epochs_of`): the same queries in the same order, and the same
    number of negatives in each row. Epochs beyond the last start again at the first. `relevant[query_id]` are the texts
    of all passages known to be relevant, `taught[query_id][text]` scores from a teacher other than the untuned encoder.
    `start` is the model whose weights are trained; None stands for the untuned encoder.
    """

    encoder: EncoderConfig
    epochs: Sequence[Sequence[Instance]]
    relevant: Mapping[str, Sequence[str]]
    dev: DevSet
    config: TrainConfig
    seed: int
    taught: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    start: Start | None = None

    @property
    def rows(self) -> list[Instance]:
        """The rows of all epochs, one after the other. The labels of the loss are places in this list."""
        return [row for epoch in self.epochs for row in epoch]

    @property
    def begin(self) -> Path | None:
        """The folder of the weights to begin with; None for the untuned encoder."""
        return Path(self.start.folder) if self.start else None

    def key(self, encoder: Encoder) -> str:
        """A hash of the job and of the encoder's weights and prompts; it decides whether a training is made again."""
        settings = self.config.model_dump(exclude=_NO_RESULT)
        return fingerprint(
            encoder.fingerprint, encoder.prompts, self.epochs, self.relevant, self.dev, settings, self.seed,
            self.taught, _VERSION, *([self.start.key] if self.start else []),
        )  # fmt: skip


def write_job(job: Job, folder: Path) -> None:
    """Write job.json for `python -m syneg.training FOLDER`."""
    plain = {**asdict(job), "encoder": job.encoder.model_dump(), "config": job.config.model_dump()}
    write_json(folder / JOB, plain)


def read_job(folder: Path) -> Job:
    """Read the job of `folder`. Raises BackendError if there is none."""
    data = read_json(folder / JOB)
    if data is None:
        raise BackendError("no job", where=str(folder / JOB), todo="let `syneg-dspy train` write it")
    return Job(
        EncoderConfig(**data["encoder"]),
        [[_instance(row) for row in rows] for rows in data["epochs"]],
        data["relevant"],
        DevSet(**data["dev"]),
        TrainConfig(**data["config"]),
        data["seed"],
        data["taught"],
        Start(**data["start"]) if data.get("start") else None,
    )


def _instance(row: Mapping[str, Any]) -> Instance:
    """A row as JSON holds it, with its lists as tuples."""
    lists = (tuple(row[key]) for key in ("negatives", "sources", "weights", "doc_ids"))
    return Instance(Pair(**row["pair"]), *lists)
