"""Peak memory and seconds of mining over a large corpus, in a new process.

    python benchmarks/mining_memory.py --passages 1000000 --dim 384 --words 40

The corpus is generated: its words have Zipf's frequencies over a vocabulary of 50,000. The encoder is a static one (a
table of random word vectors), so that the script measures the rest: texts, embeddings on disk, index, BM25, hits. A
transformer adds its weights and the seconds of its forward passes.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
from made import corpus, static_encoder
from options import filled
from turns import Figures, peak_mb, save


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
    path: Path | None


@click.command()
@click.option("--passages", default=1_000_000, show_default=True)
@click.option("--words", default=40, show_default=True, help="in each passage")
@click.option("--dim", default=384, show_default=True)
@click.option("--pairs", default=400, show_default=True)
@click.option("--index", default="auto", show_default=True, help="a factory string of faiss")
@click.option("--sources", default="dense,bm25", show_default=True)
@click.option("--quick", is_flag=True, help="2,000 passages")
@click.option("--json", "path", type=click.Path(path_type=Path))
@filled(Options)
def main(options: Options) -> None:
    if options.quick:
        options = replace(options, passages=2000, dim=32, pairs=40)
    figures = Figures()

    def say(part: str, what: str, seconds: float) -> None:
        figures.update({f"{part}_s": seconds, f"{part}_mb": peak_mb()})
        print(f"{what:72s} {seconds:8.1f} s  peak {peak_mb() / 1e3:5.2f} GB", flush=True)

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
        say("encoder", f"encoder of {options.dim} dimensions", 0.0)
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
            "texts",
            f"{options.passages} passages of {options.words} words, "
            f"{sum(map(len, texts.values())) / 2**30:.2f} GB of text",
            time.monotonic() - start,
        )
        asked = {"index": options.index, "sources": options.sources.split(",")}
        config = build_config({"mine": asked}, where="--index").mine
        start = time.monotonic()
        found = mine(collection, collection.pairs("train"), encoder, config)
        say(
            "cold",
            f"mined {sum(map(len, found.negatives.values()))} negatives for {options.pairs} queries, embeddings made",
            time.monotonic() - start,
        )
        start = time.monotonic()
        mine(collection, collection.pairs("train"), encoder, config)
        say("warm", "mined again, embeddings from disk", time.monotonic() - start)
    settings = {key: value for key, value in asdict(options).items() if key not in ("quick", "path")}
    save(options.path, "mining_memory", settings, {"ours": [figures]})


if __name__ == "__main__":
    main()
