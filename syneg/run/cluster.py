"""Run LM calls and embeddings on Ray. The rest of the run stays on this machine.

    syneg-dspy run --executor ray --ray-address auto

    cluster = Cluster(ExecutorConfig(use="ray", workers=2))
    endpoint, config = cluster.lm(LMConfig(model="local/qwen2.5-coder-1.5b"))     a server on each worker
    cluster.embedded(chunks, "passage", encoder)                                  → (chunk, vectors), as each is done

Workers are stateless. Ledger, budget, flow control and embedding store stay with the run, and every unit of work is
identified by a hash of its content. If a worker dies, another repeats what it had in flight. A killed run resumes from
the ledger, as it does without Ray. An encoder is loaded by name on each node; its fingerprint (weights, precision) is
compared with the run's.
"""

from __future__ import annotations

import itertools
import logging
import os
import queue
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import dspy.lm15
import numpy as np

from syneg.core.config import EncoderConfig, ExecutorConfig, LMConfig
from syneg.core.errors import BackendError, one_line
from syneg.core.failing import on_failure
from syneg.core.fetch import gguf_of
from syneg.core.storage import JsonObject
from syneg.llm.endpoints import Endpoint
from syneg.llm.local_server import cores
from syneg.retrieval.encoder import Encoder
from syneg.retrieval.prompts import Role

RESTARTS = 4  # restarts of one worker; each repeats the calls in flight
_SHARE = 0.01  # CPU that a worker asks Ray for; with 0, Ray ignores the node
_AHEAD = 2  # chunks in flight per worker, so that it is never idle


class Cluster:
    """Join a running Ray cluster, or start one on this machine. Raises BackendError if Ray is missing or
    unreachable."""

    def __init__(self, config: ExecutorConfig) -> None:
        try:
            import ray
        except ImportError as error:
            raise BackendError("Ray is not installed", todo="pip install 'syneg-dspy[ray]'") from error
        self.ray: Any = ray
        self._joined = ray.is_initialized()
        if not self._joined:
            with on_failure(partial(_raise_not_joined, config.address)):
                _check_reachable(config.address)
                ray.init(
                    address=config.address or "local", logging_level=logging.ERROR, log_to_driver=False,
                    include_dashboard=None if config.address else False, runtime_env={"env_vars": _environment()},
                )  # fmt: skip
        self._nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
        self.workers = config.workers or len(self._nodes)
        self.share = -(-self.workers // len(self._nodes))
        self._embedders: list[Any] = []

    def lm(self, config: LMConfig) -> tuple[RemoteEndpoint, LMConfig]:
        """Start the LM of `config` on every worker; return one endpoint for all, and the settings.

        `concurrency` in the returned settings is the sum over all workers.
        """
        actors = self._started(_LMWorker, config.concurrency, config.model_dump())
        endpoint = RemoteEndpoint(self.ray, actors, config.concurrency)
        return endpoint, config.model_copy(update={"concurrency": config.concurrency * self.workers})

    def embedded(
        self, chunks: Iterable[list[str]], role: Role, encoder: Encoder
    ) -> Iterator[tuple[list[str], np.ndarray]]:
        """Yield each chunk with its embeddings (n, dim) float32, in the order in which they are done.

        Raises BackendError if a worker fails, or if its encoder has another fingerprint than the run's.
        """
        under_way: dict[Any, tuple[list[str], int]] = {}
        for chunk in chunks:
            if not self._embedders:
                self._embedders = self._started(_Embedder, 1, encoder.config.model_dump())
            if len(under_way) == _AHEAD * self.workers:
                yield self._next(under_way, encoder)
            load = [sum(place == i for _, place in under_way.values()) for i in range(self.workers)]
            least = load.index(min(load))
            under_way[self._embedders[least].embed.remote(chunk, role)] = chunk, least
        while under_way:
            yield self._next(under_way, encoder)

    def close(self) -> None:
        """Disconnect from Ray, unless this process was connected before; a cluster started here stops."""
        if not self._joined:
            self.ray.shutdown()

    def _next(self, under_way: dict[Any, tuple[list[str], int]], encoder: Encoder) -> tuple[list[str], np.ndarray]:
        ready, _ = self.ray.wait(list(under_way), num_returns=1)
        chunk, _ = under_way.pop(ready[0])
        fingerprint, vectors = result_of(self.ray, ready[0])
        if fingerprint != encoder.fingerprint:
            raise BackendError(
                f"a worker's encoder {encoder.name!r} is not the run's: other weights, or another precision",
                todo="give the encoder by a name that means the same on every node, and encoder.precision=fp32",
            )
        return chunk, vectors.astype(np.float32)

    def _started(self, kind: type, at_once: int, settings: JsonObject) -> list[Any]:
        """Start all workers of class `kind`, one node after another. Ray restarts workers of a dead node elsewhere."""
        nodes = self.nodes_by_turn()
        remote: Any = self.ray.remote(kind)
        how = {"max_concurrency": at_once, "max_restarts": RESTARTS, "max_task_retries": -1}
        return [remote.options(**how, **next(nodes)).remote(settings, self.share) for _ in range(self.workers)]

    def nodes_by_turn(self) -> Iterator[dict[str, Any]]:
        """Yield Ray options that place one worker, node after node in a cycle. If a node is gone, Ray takes another."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

        for node in itertools.cycle(self._nodes):
            yield {"num_cpus": _SHARE, "scheduling_strategy": On(node, soft=True)}


class RemoteEndpoint:
    """One endpoint over all workers of an LM. A request waits for a worker with a free slot. Safe for threads."""

    def __init__(self, ray: Any, actors: list[Any], width: int) -> None:
        self._ray, self._actors = ray, actors
        self._free: queue.Queue[Any] = queue.Queue()
        for _ in range(width):
            for actor in actors:
                self._free.put(actor)

    def complete(self, request: dspy.lm15.Request) -> dspy.lm15.Response:
        """Complete `request` on a worker. Raises the LM15Error of the worker's endpoint, or BackendError."""
        actor = self._free.get()
        try:
            response, failure = result_of(self._ray, actor.complete.remote(request))
        finally:
            self._free.put(actor)
        if failure is not None:
            raise failure.error()
        return response

    def close(self) -> None:
        """Kill the workers and their LM servers."""
        for actor in self._actors:
            self._ray.kill(actor)


@dataclass(frozen=True)
class Failure:
    """An LM15Error as plain data, which Ray can send."""

    kind: str
    message: str
    status: int | None
    retry_after: float | None

    @classmethod
    def of(cls, error: dspy.lm15.LM15Error) -> Failure:
        facts = {name: getattr(error, name, None) for name in ("status", "retry_after")}
        return cls(type(error).__name__, str(getattr(error, "message", error)).split("\n\n  To fix:")[0], **facts)

    def error(self) -> dspy.lm15.LM15Error:
        """Rebuild the error, with its original class if dspy.lm15 has it, else as ProviderError."""
        kind = getattr(dspy.lm15, self.kind, dspy.lm15.ProviderError)
        known = (
            {"status": self.status, "retry_after": self.retry_after}
            if issubclass(kind, dspy.lm15.ProviderError)
            else {}
        )
        error: dspy.lm15.LM15Error = kind(self.message, **known)
        return error


class _LMWorker:
    """Ray actor with an endpoint of its own."""

    def __init__(self, settings: JsonObject, share: int) -> None:
        config = LMConfig(**settings)
        self._endpoint = Endpoint(config, gguf_of(config.model) if config.model.startswith("local/") else None)

    def complete(self, request: dspy.lm15.Request) -> tuple[dspy.lm15.Response | None, Failure | None]:
        try:
            return self._endpoint.complete(request), None
        except dspy.lm15.LM15Error as error:
            return None, Failure.of(error)


class _Embedder:
    """Ray actor with the encoder, loaded by name."""

    def __init__(self, settings: JsonObject, share: int) -> None:
        use_cores(share)
        self._encoder = Encoder.load(EncoderConfig(**settings))

    def embed(self, texts: list[str], role: Role) -> tuple[str, np.ndarray]:
        return self._encoder.fingerprint, self._encoder.forward(texts, role).astype(self._encoder.stored_type)


def use_cores(share: int) -> None:
    """Give torch an equal part of this node's cores, for `share` workers per node. By default, Ray limits it to one."""
    import torch

    torch.set_num_threads(max(1, cores() // share))


def _check_reachable(address: str | None) -> None:
    """Raise OSError after at most 10 s if nothing listens at `address`. Ray itself would try for five minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _raise_not_joined(address: str | None, error: BaseException) -> None:
    """Raise BackendError for a cluster that cannot be reached, or for a Ray that does not start here.

    Ray raises a bare Exception where a node is too slow to start. Ctrl-C and the like go on as they are.
    """
    if not isinstance(error, Exception):
        return
    why = one_line(error).removeprefix("Exception: ")
    if address:
        todo = "start one with ray start --head, or leave out --ray-address"
        raise BackendError(f"no Ray cluster at {address!r}: {why}", todo=todo) from error
    todo = "make memory and processors free and run the same command again, or set executor.use=threads"
    raise BackendError(f"Ray does not start on this machine: {why}", todo=todo) from error


def result_of(ray: Any, reference: Any) -> Any:
    """Wait for the result of a worker's call. Raises BackendError if the worker failed or is gone."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise BackendError(f"a Ray worker failed: {one_line(error.cause)}") from error
    except ray.exceptions.RayError as error:
        raise BackendError(
            f"a Ray worker is gone: {one_line(error)}",
            todo="check the cluster; then run the same command again",
        ) from error


def _environment() -> dict[str, str]:
    """Return the environment variables for workers: the folder of models, offline mode, and settings of threads.

    API keys are left out; set them on the nodes.
    """
    kept = {name: value for name in ("SYNEG_HOME", "HF_HUB_OFFLINE") if (value := os.environ.get(name))}
    return {"OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false", **kept}
