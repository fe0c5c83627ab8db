"""Generate inputs of any size: a corpus, a BEIR folder, an encoder of word vectors, and an LM that answers at once.

    corpus(2, words=3) → ("d0", "w0 w3 w1"), ("d1", "w2 w0 w0")     words with Zipf's frequencies, vocabulary of 50,000
    beir(folder, passages=1000, pairs=100)                            corpus.jsonl, queries.jsonl, qrels/train.tsv
    static_encoder(folder, dim=384) → "folder"                        a table of word vectors, from a seed
    with answering(latency=0.1) as url: …                             an OpenAI-compatible server in a new process

The encoder and the LM take almost no time, so that benchmarks measure the code around them.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import numpy as np

VOCABULARY = 50_000
WORDS = 40

Message = dict[str, Any]


def corpus(passages: int, words: int = WORDS, seed: int = 0) -> Iterator[tuple[str, str]]:
    """Yield (doc_id, text of `words` words)."""
    draw = np.random.default_rng(seed)
    names = np.array([f"w{i:x}" for i in range(VOCABULARY)])
    weights = 1 / np.arange(1, VOCABULARY + 1)
    for start in range(0, passages, 10_000):
        ids = draw.choice(VOCABULARY, (min(10_000, passages - start), words), p=weights / weights.sum())
        for row, text in enumerate(names[ids]):
            yield f"d{start + row}", " ".join(text)


def beir(folder: Path, passages: int, pairs: int, words: int = WORDS) -> Path:
    """A collection in BEIR form; the i-th query is the first half of the i-th passage. No text is kept in memory."""
    (folder / "qrels").mkdir(parents=True)
    with (folder / "corpus.jsonl").open("w") as file, (folder / "queries.jsonl").open("w") as asked:
        for row, (doc_id, text) in enumerate(corpus(max(passages, pairs), words)):
            file.write(json.dumps({"_id": doc_id, "text": text}) + "\n")
            if row < pairs:
                query = " ".join(text.split()[: words // 2])
                asked.write(json.dumps({"_id": f"q{row}", "text": query}) + "\n")
    rows = [f"q{i}\td{i}\t1" for i in range(pairs)]
    (folder / "qrels" / "train.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *rows]) + "\n")
    return folder


def static_encoder(folder: Path, dim: int) -> str:
    """Save the encoder; returns the folder's name."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(
        models.WordLevel({"[UNK]": 0, **{f"w{i:x}": i + 1 for i in range(VOCABULARY)}}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=dim)], device="cpu").save(
        str(folder), create_model_card=False
    )
    return str(folder)


class _Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True


def completing(text_of: Callable[[list[Message]], str], latency: float = 0.0) -> type[BaseHTTPRequestHandler]:
    """A handler of chat completions that takes `latency` seconds to answer `text_of(messages)`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # an answer in one piece: head and body by themselves wait for each other (Nagle and delayed ACK, 40 ms)
        wbufsize = -1

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            time.sleep(latency)
            message = {"role": "assistant", "content": text_of(asked["messages"])}
            body = json.dumps({
                "id": "1", "object": "chat.completion", "created": 1, "model": "made",
                "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                "usage": {"prompt_tokens": 90, "completion_tokens": 60, "total_tokens": 150},
            }).encode()  # fmt: skip
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    return Handler


def _serve(latency: float, ports: Queue[int]) -> None:
    """Each answer is a new passage of the made vocabulary, so that no gate takes it for a copy."""
    draw, made = np.random.default_rng(1), iter(range(10**9))

    def text(messages: list[Message]) -> str:
        words = [f"n{next(made)}", *(f"w{i:x}" for i in draw.integers(0, 5_000, WORDS - 1))]
        return json.dumps({"hard_negative": " ".join(words)})

    server = _Server(("127.0.0.1", 0), completing(text, latency))
    ports.put(server.server_port)
    server.serve_forever()


@contextmanager
def answering(latency: float = 0.0) -> Iterator[str]:
    """The address of a server that takes `latency` seconds for an answer, in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    ports: Queue[int] = spawn.Queue()
    process = spawn.Process(target=_serve, args=(latency, ports), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ports.get()}/v1"
    finally:
        process.terminate()
        process.join()
