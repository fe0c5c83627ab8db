"""Shared parts: a tiny real encoder, a small collection, and a loopback server that speaks the OpenAI protocol."""

from __future__ import annotations

import os

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # before torch loads
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TQDM_DISABLE"] = "1"

import bz2
import contextlib
import gc
import gzip
import json
import lzma
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import hypothesis
import pytest

hypothesis.settings.register_profile("no deadline", deadline=None)  # a busy machine is slow
hypothesis.settings.load_profile("no deadline")

_settled = 0  # modules whose objects the garbage collector passes over


def pytest_runtest_logfinish() -> None:
    """Let the garbage collector pass over what libraries hold for good.

    Each training collects all garbage, which takes 1 s in a process with 7,000 modules.
    """
    global _settled
    if len(sys.modules) > _settled + 100:
        gc.collect()
        gc.freeze()
        _settled = len(sys.modules)


REAL_HOME = os.environ.get("SYNEG_HOME")
SHARED = Path(__file__).resolve().parents[2] / "shared"

THINGS = [
    "socket",
    "file",
    "thread",
    "queue",
    "parser",
    "window",
    "archive",
    "clock",
    "lock",
    "stream",
    "buffer",
    "node",
]
ACTIONS = ["close", "open", "copy", "rename", "flush", "reset", "count", "merge"]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing a test does reaches the user's cache."""
    monkeypatch.setenv("SYNEG_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def real_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's real cache, for tests that use the real embedded models."""
    if REAL_HOME is None:
        monkeypatch.delenv("SYNEG_HOME")
    else:
        monkeypatch.setenv("SYNEG_HOME", REAL_HOME)


@pytest.fixture(scope="session")
def encoder_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A sentence-transformers model of random word vectors: real, tiny, and it can learn."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = sorted(
        {w for t in (*THINGS, *ACTIONS) for w in (t, f"{t}s")}
        | {"the", "a", "of", "and", "to", "it", "is", "again", "twice", "slowly"}
    )
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(["[UNK]", *words])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("encoder")
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=32)], device="cpu").save(
        str(path), create_model_card=False
    )
    return str(path)


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    """A BEIR folder: 96 passages, 96 queries, one relevant passage each."""
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    corpus, queries, qrels = [], [], ["query-id\tcorpus-id\tscore"]
    for i, (thing, action) in enumerate((t, a) for t in THINGS for a in ACTIONS):
        corpus.append(
            {
                "_id": f"d{i}",
                "title": "",
                "text": f"to {action} the {thing} it is {action} again and again, slowly",
            }
        )
        queries.append({"_id": f"q{i}", "text": f"{action} a {thing}"})
        qrels.append(f"q{i}\td{i}\t1")
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "qrels" / "train.tsv").write_text("\n".join(qrels) + "\n")
    return folder


def pack(data: bytes, ending: str) -> bytes:
    """Compress bytes as a file with this ending is."""
    if ending == ".zst":
        import pyarrow

        return bytes(pyarrow.compress(data, codec="zstd", asbytes=True))
    return {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}[ending](data)


@dataclass(frozen=True)
class Fault:
    """What a server does wrong: a body of its own (bytes, as they are) with a status, headers, a wait, a dropped connection,
    a wait of `drip` seconds before each byte of the body."""

    status: int = 200
    body: bytes = b'{"error": {"message": "out of order"}}'
    headers: dict[str, str] = field(default_factory=dict)
    wait: float = 0.0
    drop: bool = False
    drip: float = 0.0


class Server(ThreadingHTTPServer):
    request_queue_size = 128  # many clients at once
    daemon_threads = True


class FakeLM:
    """The loopback server: `answer(messages)` gives (status, content), (status, content, finish_reason), or a Fault.

    A content that is a dict is the message itself: {"content": "…", "reasoning_content": "…"}.
    """

    def __init__(self, answer: Callable[[list[dict[str, Any]]], tuple[Any, ...] | Fault]) -> None:
        self.answer = answer
        self.requests: list[dict[str, Any]] = []
        self.headers: list[Any] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.requests.append(body)
                outer.headers.append(self.headers)
                found = outer.answer(body.get("messages", []))
                if isinstance(found, Fault):
                    time.sleep(found.wait)
                    if found.drop:
                        self.close_connection = True
                        self.connection.shutdown(socket.SHUT_RDWR)
                    else:
                        self.reply(found.status, found.body, found.headers, found.drip)
                    return
                status, content, *rest = found
                message = {"role": "assistant", **(content if isinstance(content, dict) else {"content": content})}
                data = {
                    "id": "1", "object": "chat.completion", "created": 1, "model": body["model"],
                    "choices": [{"index": 0, "message": message, "finish_reason": rest[0] if rest else "stop"}],
                    "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
                }  # fmt: skip
                payload = json.dumps(data if status == 200 else {"error": {"message": content}}).encode()
                self.reply(status, payload, {})

            def reply(self, status: int, payload: bytes, headers: dict[str, str], drip: float = 0.0) -> None:
                self.send_response(status)
                for name, value in {
                    "content-type": "application/json",
                    "content-length": str(len(payload)),
                    **headers,
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                with contextlib.suppress(OSError):  # the client may be gone
                    for byte in payload if drip else b"":
                        time.sleep(drip)
                        self.wfile.write(bytes([byte]))
                    self.wfile.write(b"" if drip else payload)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def write_negative(messages: list[dict[str, Any]]) -> tuple[int, str]:
    """A usable answer of single_prompt for whatever is asked."""
    return 200, json.dumps(
        {"hard_negative": f"the {THINGS[len(str(messages)) % 12]} is merged twice and counted slowly"}
    )


@pytest.fixture
def fake_lm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., FakeLM]]:
    """Start loopback LMs: fake_lm(answer)."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-secret-key")
    started: list[FakeLM] = []

    def start(answer: Callable[[list[dict[str, Any]]], tuple[Any, ...] | Fault] = write_negative) -> FakeLM:
        started.append(FakeLM(answer))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bool], list[str]]]:
    """Stand in for the Hugging Face hub: hub(reachable) gives the paths that are asked for; it holds no repository."""
    servers: list[ThreadingHTTPServer] = []

    def start(reachable: bool) -> list[str]:
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.end_headers()

            do_HEAD = do_GET

            def log_message(self, *args: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        if reachable:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            servers.append(server)
        else:
            server.server_close()
        return asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def settings(beir: Path, encoder_path: str) -> Callable[..., list[str]]:
    """`--set` values of a small, whole run."""

    def build(url: str, **more: object) -> list[str]:
        values: dict[str, object] = {
            "collection.dataset": str(beir), "encoder.model": encoder_path, "encoder.precision": "fp32",
            "lm.model": "openai/fake", "lm.api_base": url, "lm.retries": 0, "generate.program": "single_prompt", "judge.use": "off",
            "reader.use": "off", "generate.pairs": 0, "train.batch_size": 8, "train.learning_rate": 0.05, "mine.last_rank": 30, "gates.margin": 0, "gates.floor": 0,
            "boundary.queries": 0, "evaluate.folds": 0,
            **more,
        }  # fmt: skip
        return [f"{key}={value}" for key, value in values.items()]

    return build
