"""Texts a second: this tool's encoder against a plain `SentenceTransformer.encode`, same model, texts and length limit.

    python benchmarks/embedding.py --dataset beir/scifact --texts 2000
    python benchmarks/embedding.py --device cuda --texts 100000

Plain is float32 as sentence-transformers does it, `plain bf16` the same model loaded in bfloat16; ours is what a run
does (`encoder.precision=auto`). `cosine` is the lowest cosine of an embedding with that of plain float32, and tokens
are counted by the model's tokenizer. The models are loaded and warm before the clock starts.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from configured import configured
from options import filled
from turns import Figures, save, table

from syneg.core.config import CollectionConfig
from syneg.data.collection import load_collection
from syneg.retrieval.encoder import Encoder

Embed = Callable[[list[str]], np.ndarray]


def ways(config: Any) -> dict[str, Embed]:
    """Each way with a model of its own."""
    ours = Encoder.load(config)
    plain = Encoder.load(config.model_copy(update={"precision": "fp32"}))
    half = Encoder.load(config.model_copy(update={"precision": "fp32"})).model.to(torch.bfloat16)
    options = {"batch_size": config.batch_size, "show_progress_bar": False, "normalize_embeddings": True}

    def stock(model: Any) -> Embed:
        def embed(texts: list[str]) -> np.ndarray:
            vectors = model.encode_document(texts, convert_to_tensor=True, **options)
            return np.asarray(vectors.float().cpu())

        return embed

    return {
        "plain": stock(plain.model),
        "plain bf16": stock(half),
        "ours": lambda texts: ours.forward(texts, "passage"),
    }


@dataclass(frozen=True)
class Options:
    """What the flags say."""

    dataset: str
    texts: int
    turns: int
    device: str
    overrides: tuple[str, ...]
    quick: bool
    path: Path | None


@click.command()
@click.option("--dataset", default="beir/scifact", show_default=True)
@click.option(
    "--texts", default=1000, show_default=True, help="passages, again from the first one where there are fewer"
)
@click.option("--turns", default=3, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="any other setting")
@click.option("--quick", is_flag=True, help="64 passages of the smallest collection, one turn")
@click.option("--json", "path", type=click.Path(path_type=Path))
@filled(Options)
def main(options: Options) -> None:
    if options.quick:
        options = replace(options, dataset="python-docs-small", texts=64, turns=1)
    config = configured(options.overrides, {"encoder.device": options.device}).encoder
    passages = list(load_collection(CollectionConfig(dataset=options.dataset), 0).passages.values())
    asked = [passages[place % len(passages)] for place in range(options.texts)]
    embeds = ways(config)
    model = Encoder.load(config).model
    limit = model.max_seq_length or 10**6
    tokens = sum(min(len(ids), limit) for ids in model.tokenizer(asked, truncation=False, verbose=False)["input_ids"])
    expected = embeds["plain"](asked[:64])
    measured: dict[str, list[Figures]] = {name: [] for name in embeds}
    for embed in embeds.values():
        embed(asked[:64])
    for turn in range(options.turns):
        for name in list(embeds)[:: 1 if turn % 2 == 0 else -1]:
            start = time.perf_counter()
            vectors = embeds[name](asked)
            seconds = time.perf_counter() - start
            cosine = float((vectors[:64] * expected).sum(1).min())
            rates = {"texts_a_s": len(asked) / seconds, "tokens_a_s": tokens / seconds}
            measured[name].append({**rates, "cosine": cosine})
    print(f"{options.dataset}, {options.texts} passages, {tokens / options.texts:.0f} tokens each, {model.device}")
    print(table(measured, "plain"))
    settings = {"dataset": options.dataset, "texts": options.texts, "device": str(model.device)}
    save(options.path, "embedding", settings, measured)


if __name__ == "__main__":
    main()
