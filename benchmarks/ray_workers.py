"""Calls and embeddings a second on 1, 2 and 4 Ray workers of this machine.

    python benchmarks/ray_workers.py --workers 1,2,4 --calls 320 --texts 2000

32 calls are under way in all, over litellm to a loopback server with a set latency; texts are embedded by a table of
word vectors (`--encoder` names a real one) in chunks as a run makes them. Each number of workers has a Ray and a
process of its own. `alone` is the same without Ray. What the cores of one machine do not give, more workers cannot.
"""

from __future__ import annotations

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ.setdefault("OPENAI_API_KEY", "none")

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import click
from made import answering, corpus, static_encoder
from options import filled
from turns import Figures, in_turn, save, sizes, table

UNDER_WAY = 32


def measure(url: str, encoder_name: str, workers: int, calls: int, texts: int) -> Figures:
    """Calls and texts a second with so many workers; 0 workers are this process alone."""
    from lm_overhead import Pairs, ours

    from syneg.core.config import EncoderConfig, ExecutorConfig, LMConfig
    from syneg.llm.ledger import Ledger
    from syneg.llm.lms import LanguageModel
    from syneg.retrieval.encoder import Encoder
    from syneg.run.cluster import Cluster

    encoder = Encoder.load(EncoderConfig(model=encoder_name, precision="fp32"))
    passages = [text for _, text in corpus(texts)]

    def chunks() -> Iterator[list[str]]:
        for start in range(0, len(passages), 512):
            yield passages[start : start + 512]

    cluster = Cluster(ExecutorConfig(use="ray", workers=workers)) if workers else None
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "calls.jsonl")
        each = UNDER_WAY // max(1, workers)
        config = LMConfig(model="openai/made", api_base=url, concurrency=each, max_rpm=10**7)
        writer = LanguageModel.open(config, ledger, connect=cluster.lm if cluster else None)
        pairs, work = Pairs(), ours(writer)
        work(pairs.take(UNDER_WAY * 2), UNDER_WAY)  # imports in the workers
        start = time.monotonic()
        work(pairs.take(calls), UNDER_WAY)
        rate = calls / (time.monotonic() - start)
        writer.close()
        ledger.close()
    for _ in range(2):  # the first one loads the encoder in the workers
        start = time.monotonic()
        if cluster:
            done = sum(len(chunk) for chunk, _ in cluster.embedded(chunks(), "passage", encoder))
        else:
            done = sum(len(encoder.forward(chunk, "passage")) for chunk in chunks())
        embedded = done / (time.monotonic() - start)
    if cluster:
        cluster.close()
    return {"calls_a_s": rate, "texts_a_s": embedded}


@dataclass(frozen=True)
class Options:
    """What the flags say."""

    workers: list[int]
    calls: int
    texts: int
    latency: float
    encoder: str
    turns: int
    quick: bool
    path: Path | None


@click.command()
@click.option("--workers", default="1,2,4", show_default=True, callback=sizes)
@click.option("--calls", default=320, show_default=True)
@click.option("--texts", default=20_000, show_default=True)
@click.option("--latency", default=0.1, show_default=True, help="seconds of the server")
@click.option("--encoder", default="", help="name of an encoder, else a table of word vectors")
@click.option("--turns", default=1, show_default=True)
@click.option("--quick", is_flag=True, help="one worker, few calls and texts")
@click.option("--json", "path", type=click.Path(path_type=Path))
@filled(Options)
def main(options: Options) -> None:
    if options.quick:
        options = replace(options, workers=[1], calls=32, texts=1024, turns=1)
    with answering(options.latency) as url, tempfile.TemporaryDirectory() as folder:
        name = options.encoder or static_encoder(Path(folder) / "encoder", 384)
        sides = {
            f"{n} workers" if n else "alone": partial(measure, url, name, n, options.calls, options.texts)
            for n in (0, *options.workers)
        }
        measured = in_turn(sides, options.turns)
    print(f"{UNDER_WAY / options.latency:.0f} calls a second are ideal")
    print(table(measured, "alone"))
    asked = {"calls": options.calls, "texts": options.texts, "latency": options.latency}
    save(options.path, "ray_workers", asked, measured)


if __name__ == "__main__":
    main()
