"""One process of a distributed training: `python -m syneg.training FOLDER …` trains the job of each folder in turn.

    python -m torch.distributed.run --nproc_per_node 2 -m syneg.training runs/x/models/hybrid-0 runs/x/models/mined-0

Every process runs the same command. The number of processes does not change the number of epochs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from syneg.retrieval.encoder import Encoder

from .ending import end_with_input
from .job import read_job
from .trainer import train_here


def main(folders: Sequence[Path]) -> None:
    """Train the job of each folder, as `train` wrote it (job.json); the first process writes the result."""
    for folder in folders:
        job = read_job(folder)
        train_here(job, folder, Encoder.load(job.encoder), None, None)
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # wait until the first process has saved the model, before the next job begins
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    end_with_input()
    main([Path(name) for name in sys.argv[1:]])
