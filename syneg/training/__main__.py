"""One process of a distributed training: `python -m syneg.training FOLDER` trains the job of FOLDER.

python -m torch.distributed.run --nproc_per_node 2 -m syneg.training runs/x/models/hybrid-0
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from syneg.core.config import EncoderConfig, TrainConfig
from syneg.core.errors import BackendError
from syneg.core.records import Instance, Pair
from syneg.core.storage import read_json
from syneg.retrieval.dev_set import DevSet
from syneg.retrieval.encoder import Encoder

from .trainer import Job, train_here


def main(folder: Path) -> None:
    """What each process runs: read the job in `folder` and train it; the first one writes the result."""
    data = read_json(folder / "job.json")
    if data is None:
        raise BackendError("no job", where=str(folder / "job.json"), todo="let `syneg-dspy train` write it")
    instances = [Instance(Pair(**row.pop("pair")), *(tuple(row[key]) for key in ("negatives", "sources", "weights", "doc_ids")))
                 for row in data["instances"]]  # fmt: skip
    job = Job(EncoderConfig(**data["encoder"]), instances, data["relevant"], DevSet(**data["dev"]),
              TrainConfig(**data["config"]), data["seed"])  # fmt: skip
    train_here(job, folder, Encoder.load(job.encoder), None, None)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
