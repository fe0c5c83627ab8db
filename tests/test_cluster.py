"""On Ray, with real processes: a cluster of two nodes on this machine, and Ray started by the run itself."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dspy.lm15
import numpy as np
import pytest
from conftest import FakeLM, Fault, write_negative
from started import Started

from syneg.core.config import EncoderConfig, ExecutorConfig
from syneg.core.errors import BackendError
from syneg.core.progress import Progress
from syneg.core.settings import load_config
from syneg.core.storage import read_json, read_rows
from syneg.retrieval.encoder import Encoder
from syneg.run.cluster import Cluster, Failure, use_cores
from syneg.run.pipeline import Run

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
Settings = Callable[..., list[str]]
_SOON = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000, "health_check_failure_threshold": 5}
NATIVE = {
    "lm.engine": "native"
}  # where workers die, the client matters little, and litellm takes 5 s to import in each
KEYS = ("query_id", "text", "accepted", "reason", "calls", "attempt")


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """Two nodes, each with its own raylet and its own workers."""
    from ray.cluster_utils import Cluster as Nodes

    os.environ["OPENAI_API_KEY"] = "sk-planted-secret-key"  # nodes give their workers what they were started with
    found = Nodes(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, "_system_config": _SOON}
    )
    found.add_node(num_cpus=1)
    yield found
    found.shutdown()


@pytest.fixture
def on_ray(nodes: Any) -> Iterator[dict[str, object]]:
    yield {"executor.use": "ray", "executor.address": nodes.address}
    gc.collect()  # handles of this job's actors, before the next one begins
    ray.shutdown()


def generated(folder: Path, overrides: list[str]) -> list[dict[str, Any]]:
    Run(folder, load_config(None, overrides), Progress(quiet=True)).until("generate")
    return [{key: row[key] for key in KEYS} for row in read_rows(folder / "negatives.jsonl")]


def test_two_nodes_write_what_threads_write_and_faults_come_through(
    tmp_path: Path,
    settings: Settings,
    fake_lm: Callable[..., FakeLM],
    on_ray: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("syneg.retrieval.encoder._CHUNK", 16)  # so that the passages are several chunks
    asked = set[str]()

    def answer(messages: list[dict[str, Any]]) -> tuple[Any, ...] | Fault:
        said = str(messages)
        if len(said) % 5 == 0 and said not in asked:  # some are refused the first time
            asked.add(said)
            return Fault(429, headers={"retry-after": "0"})
        return write_negative(messages)

    server = fake_lm(answer)
    more = {"lm.retries": 3, "lm.max_rpm": 0}
    here = generated(tmp_path / "here", settings(server.url, **more))
    asked.clear()
    monkeypatch.setenv("SYNEG_HOME", str(tmp_path / "another"))  # no embeddings there yet
    there = generated(tmp_path / "there", settings(server.url, **more, **on_ray))
    assert there == here
    assert asked
    rows = list(read_rows(tmp_path / "there" / "ledger" / "calls.jsonl"))
    failed = [row for row in rows if row["error"]]
    assert failed and all("RateLimitError" in row["error"] for row in failed)


def test_workers_are_on_both_nodes_and_embed_what_is_embedded_here(
    encoder_path: str, on_ray: dict[str, object], nodes: Any
) -> None:
    encoder = Encoder.load(EncoderConfig(model=encoder_path, precision="fp32"))
    cluster = Cluster(ExecutorConfig(use="ray", address=str(on_ray["executor.address"])))
    assert cluster.workers == 2
    chunks = [[f"close the socket {'again ' * i}"] for i in range(9)]
    found = list(cluster.embedded(iter(chunks), "passage", encoder))
    assert sorted(chunk for chunk, _ in found) == sorted(chunks)
    for chunk, vectors in found:
        np.testing.assert_allclose(vectors, encoder.forward(chunk, "passage"), atol=1e-3)
    states = actors()
    job = ray.get_runtime_context().get_job_id()
    assert len({actor["node_id"] for actor in states if actor["job_id"] == job}) == 2, states
    encoder.fingerprint = "another"
    with pytest.raises(BackendError, match="is not the run's"):
        list(cluster.embedded([["close"]], "passage", encoder))


def actors() -> list[dict[str, Any]]:
    """All actors, with node and state."""
    from ray._private.state import actors as states

    return [
        {"node_id": one["Address"]["NodeID"], "state": one["State"], "job_id": one["JobID"]}
        for one in states().values()
    ]


def test_each_arm_and_seed_is_a_task_and_gives_what_is_trained_here(
    tmp_path: Path, settings: Settings, on_ray: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {"train.arms": '["mined", "in-batch"]', "train.seeds": "[0, 1]", "train.epochs": 1.0}

    def run(name: str, **executor: object) -> Run:
        made = Run(tmp_path / name, load_config(None, settings("", **more, **executor)), Progress(quiet=True))
        made.until("evaluate")
        return made

    here = run("here")
    with monkeypatch.context() as patch:  # nothing is trained in this process
        patch.setattr("syneg.training.trainer.train_here", None)
        there = run("there", **on_ray)
    for name in ("mined-0", "mined-1", "in-batch-0", "in-batch-1"):
        assert (tmp_path / "there" / "models" / name / "training.json").exists()
        one, other = (read_json(of.folder.evaluation(name)) for of in (here, there))
        assert one["test"]["values"] == other["test"]["values"]
    assert [event for event in read_rows(there.folder.events) if "4 models on 2 workers" in event.get("text", "")]


def test_a_node_that_dies_costs_only_time(
    tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM], nodes: Any
) -> None:
    server = fake_lm(lambda messages: (time.sleep(0.05), write_negative(messages))[1])
    here = generated(tmp_path / "here", settings(server.url, **NATIVE))  # embeds the corpus, too
    server.requests.clear()
    third = nodes.add_node(num_cpus=1)
    ask = {
        **NATIVE,
        "executor.use": "ray",
        "executor.address": nodes.address,
        "executor.workers": 3,
        "lm.retries": 3,
    }

    def kill() -> None:
        deadline = time.monotonic() + 120
        while len(server.requests) < 20 and time.monotonic() < deadline:
            time.sleep(0.01)
        nodes.remove_node(third, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        found = generated(tmp_path / "run", settings(server.url, **ask))
    finally:
        killer.join()
        gc.collect()
        ray.shutdown()
    assert found == here


def test_a_run_on_ray_that_is_killed_goes_on(
    tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    server = fake_lm(lambda messages: (time.sleep(0.05), write_negative(messages))[1])
    overrides = settings(server.url, **{**NATIVE, "executor.use": "ray", "executor.workers": 2, "lm.concurrency": 2})
    args = ["generate", "--run", "run", *(part for override in overrides for part in ("--set", override))]
    process = Started(args, tmp_path)
    ledger = tmp_path / "run" / "ledger" / "calls.jsonl"
    deadline = time.monotonic() + 120
    while not (ledger.exists() and ledger.read_bytes().count(b"\n") >= 12) and time.monotonic() < deadline:
        assert process.running, process.stderr
        time.sleep(0.01)
    process.kill()
    kept = [row["key"] for row in read_rows(ledger)]
    again = Started(args, tmp_path)  # a process of its own: actors of two clusters may have one id
    assert again.wait() == 0, again.stderr
    found = [{key: row[key] for key in KEYS} for row in read_rows(tmp_path / "run" / "negatives.jsonl")]
    keys = [row["key"] for row in read_rows(ledger)]
    assert keys[: len(kept)] == kept and len(set(keys)) == len(keys)  # what was there was not asked again
    assert found == generated(tmp_path / "here", settings(server.url, **NATIVE))


def test_workers_of_a_node_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    monkeypatch.setattr("torch.set_num_threads", threads.append)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for share in (1, 3, 20):
        use_cores(share)
    assert threads == [8, 2, 1]


def test_an_error_of_an_endpoint_travels_with_what_it_says() -> None:
    for error in (
        dspy.lm15.RateLimitError("slow down", status=429, retry_after=7.0),
        dspy.lm15.TransportError("cut off"),
        dspy.lm15.AuthError("no", status=401),
    ):
        again = Failure.of(error).error()
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert getattr(again, "retry_after", None) == getattr(error, "retry_after", None)


def test_no_cluster_is_one_line() -> None:
    with pytest.raises(BackendError, match="no Ray cluster at '127.0.0.1:9'"):
        Cluster(ExecutorConfig(use="ray", address="127.0.0.1:9"))


def test_a_node_that_is_too_slow_to_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**settings: Any) -> None:
        raise Exception("The current node timed out during startup. This could happen because\nthe GCS is overloaded.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(BackendError, match="Ray does not start on this machine: The current node timed out") as error:
        Cluster(ExecutorConfig(use="ray"))
    assert "\n" not in str(error.value) and "executor.use=threads" in str(error.value)
