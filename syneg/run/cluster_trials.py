"""Trainings on Ray: one trained and evaluated model of an arm and a seed is one task, on any node.

    for name, model in trained_on(cluster, {"hybrid-0": job, "hybrid-1": job}, collection, depth=100):
        model.write(run/"models"/name)           → model.safetensors, …, training.json
        model.results                            → {"dev": SplitResult(…), "test": SplitResult(…)}

A task that dies with its worker is made again elsewhere; the others go on. Every node loads the untuned encoder by its
name, and its fingerprint is compared with the run's. What comes back is files, never an object that the run would have
to unpickle beyond what Ray itself passes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syneg.core.errors import BackendError
from syneg.core.storage import sync, write_text
from syneg.data.collection import Collection
from syneg.retrieval.encoder import Encoder
from syneg.retrieval.evaluation import SplitResult, evaluate_model

from .cluster import RESTARTS, Cluster, result_of, use_cores

if TYPE_CHECKING:
    from syneg.training.job import Job

LAST = "training.json"  # says that a model is whole, so it is written last


@dataclass(frozen=True)
class TrainedModel:
    """Files of a model folder by their path in it, its evaluation, and the fingerprint of the encoder that it began
    from."""

    files: Mapping[str, bytes]
    results: Mapping[str, SplitResult]
    fingerprint: str

    def write(self, folder: Path) -> None:
        """Write the model's folder."""
        for name in self.files.keys() - {LAST}:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.files[name])
        sync(folder)
        write_text(folder / LAST, self.files[LAST].decode())


def trained_on(
    cluster: Cluster, jobs: Mapping[str, Job], collection: Collection, depth: int, fingerprint: str
) -> Iterator[tuple[str, TrainedModel]]:
    """Yield each job's name with its model, in the order in which they are done; one job at a time for each worker.

    Raises BackendError if a worker fails for good, or has another encoder than `fingerprint`.
    """
    ray = cluster.ray
    shared = ray.put(collection)
    waiting, under_way = list(jobs), dict[Any, str]()
    nodes = cluster.nodes_by_turn()
    while waiting or under_way:
        while waiting and len(under_way) < cluster.workers:
            name = waiting.pop(0)
            task = ray.remote(_trained).options(max_retries=RESTARTS, **next(nodes))
            under_way[task.remote(jobs[name], shared, depth, cluster.share)] = name
        (ready,), _ = ray.wait(list(under_way), num_returns=1)
        name, model = under_way.pop(ready), result_of(ray, ready)
        if model.fingerprint != fingerprint:
            raise BackendError(
                f"the encoder of the worker that trained {name} is not the run's: other weights, or another precision",
                todo="give the encoder by a name that means the same on every node, and encoder.precision=fp32",
            )
        yield name, model


def _trained(job: Job, collection: Collection, depth: int, share: int) -> TrainedModel:
    """On a node: train a job in a temporary folder, and search the corpus with the model."""
    from syneg.training.trainer import train_here

    use_cores(share)
    encoder = Encoder.load(job.encoder)
    with tempfile.TemporaryDirectory(prefix="syneg-train-") as name:
        folder = Path(name)
        train_here(job, folder, encoder, None, None)
        tuned = Encoder.load(job.encoder, folder)
        results = evaluate_model(tuned, collection, depth)
        tuned.forget()
        files = {
            os.path.relpath(Path(place) / file, folder): (Path(place) / file).read_bytes()
            for place, _, names in os.walk(folder)
            for file in names
        }
    return TrainedModel(files, results, encoder.fingerprint)
