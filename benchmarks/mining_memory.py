"""Peak memory and seconds of mining over a large corpus, in a new process.

    python benchmarks/mining_memory.py --passages 1000000 --dim 384 --words 40

The corpus is generated: its words have Zipf's frequencies over a vocabulary of 50,000. The encoder is a static one (a
table of random word vectors), so that the script measures the rest: texts, embeddings on disk, index, BM25, hits. A
transformer adds its weights and the seconds of its forward passes.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import resource
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import click
from made import corpus, static_encoder
from options import filled


def peak() -> float:
    """Peak memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


@dataclass(frozen=True)
class Options:
    """What the flags say."""

    passages: int
    words: int
    dim: int
    pairs: int
    index: str
    sources: str
    quick: bool


@click.command()
@click.option("--passages", default=1_000_000, show_default=True)
@click.option("--words", default=40, show_default=True, help="in each passage")
@click.option("--dim", default=384, show_default=True)
@click.option("--pairs", default=400, show_default=True)
@click.option("--index", default="auto", show_default=True, help="a factory string of faiss")
@click.option("--sources", default="dense,bm25", show_default=True)
@click.option("--quick", is_flag=True, help="2,000 passages")
@filled(Options)
def main(options: Options) -> None:
    if options.quick:
        options = replace(options, passages=2000, dim=32, pairs=40)
    with tempfile.TemporaryDirectory() as name:
        os.environ["SYNEG_HOME"] = f"{name}/home"
        from syneg.core.config import EncoderConfig
        from syneg.core.settings import build_config
        from syneg.data.collection import Collection
        from syneg.negatives.mining import mine
        from syneg.retrieval.encoder import Encoder

        encoder = Encoder.load(
            EncoderConfig(model=static_encoder(Path(name) / "encoder", options.dim), batch_size=512, precision="fp32")
        )
        say(f"encoder of {options.dim} dimensions", 0.0)
        start = time.monotonic()
        texts = dict(corpus(options.passages, options.words))
        ids = list(texts)[: options.pairs]
        # a query is half of a passage's words
        queries = {f"q{i}": " ".join(texts[d].split()[: options.words // 2]) for i, d in enumerate(ids)}
        qrels = {f"q{i}": {d: 1} for i, d in enumerate(ids)}
        collection = Collection(
            "made", texts, queries, qrels, {"train": tuple(queries), "dev": (), "confirm": (), "test": ()}
        )
        say(
            f"{options.passages} passages of {options.words} words, "
            f"{sum(map(len, texts.values())) / 2**30:.2f} GB of text",
            time.monotonic() - start,
        )
        asked = {"index": options.index, "sources": options.sources.split(",")}
        config = build_config({"mine": asked}, where="--index").mine
        start = time.monotonic()
        found = mine(collection, collection.pairs("train"), encoder, config)
        say(
            f"mined {sum(map(len, found.negatives.values()))} negatives for {options.pairs} queries, embeddings made",
            time.monotonic() - start,
        )
        start = time.monotonic()
        mine(collection, collection.pairs("train"), encoder, config)
        say("mined again, embeddings from disk", time.monotonic() - start)


def say(what: str, seconds: float) -> None:
    print(f"{what:72s} {seconds:8.1f} s  peak {peak():5.2f} GB", flush=True)


if __name__ == "__main__":
    main()
