"""Named groups of settings: `--preset demo`, `quick`, `thorough`, and `syneg-paper` for each of the paper's data sets.

    preset("syneg-paper", dataset="beir/scifact") → {"mix.ratio": 0.5, "train.temperature": 0.02, …}

A config file, `--set` and flags override a preset. `SOURCES` gives the source of every setting of `syneg-paper`: a
section of the paper (arXiv 2412.17250), or "ours" where the paper names no value.
"""

from __future__ import annotations

from typing import Any

from .errors import ConfigError, nearest
from .storage import JsonObject

# Data sets in the paper's tables → (train queries, passages) as in BEIR, to plan with.
PAPER_DATASETS: dict[str, tuple[int, int]] = {
    "beir/fiqa": (5_500, 57_638),
    "beir/scifact": (809, 5_183),
    "beir/quora": (0, 522_931),
    "beir/hotpotqa": (85_000, 5_233_329),
    "beir/msmarco": (502_939, 8_841_823),
}
# The paper names backbones, not checkpoints; these are the public ones.
PAPER_ENCODERS = {
    "bge-large": "BAAI/bge-large-en-v1.5",
    "e5-base": "intfloat/e5-base-v2",
    "coco-dr": "OpenMatch/cocodr-base-msmarco",
}

_PAPER: dict[str, tuple[Any, str]] = {
    "generate.program": ("multi_attribute", "paper, 3.2"),
    "generate.per_pair": (1, "paper, 3.3: one synthetic with N retrieved"),
    "generate.pairs": (0, "ours: all train pairs"),
    "mix.negatives": (3, "paper, figure: 1 + 2"),
    "mix.ratio": (0.5, "paper, figure: 1 + 2; its sweep finds 0.7 best"),
    "mix.weight": (1.0, "paper: not weighted"),
    "train.temperature": (0.02, "paper, 4"),
    "train.pairs": (0, "ours: all train pairs"),
    "train.arms": (
        ("mined", "synthetic", "dataset-mix", "hybrid"), "paper, tables: mined, synthetic only, direct mix, SyNeg",
    ),
    "train.seeds": ((0, 1, 2), "ours: the paper gives one figure"),
    "train.epochs": (1.0, "ours"),
    "train.batch_size": (64, "ours"),
    "train.cached_chunk": (16, "ours: fits a GPU of 24 GB"),
    "train.learning_rate": (1e-5, "ours"),
    "train.alphas": ((1.0,), "paper: weights as trained"),
    "mine.sources": (("dense",), "paper, tables: mined by the backbone"),
    "mine.margin": (0.95, "ours: the paper has no rule against false negatives"),
    "gates.margin": (0.95, "ours, where no judge is trusted"),
    "encoder.max_tokens": (256, "ours"),
    "encoder.model": (PAPER_ENCODERS["bge-large"], "paper: BGE-large; e5-base and coco-dr by --encoder"),
}  # fmt: skip
SOURCES = {key: source for key, (_, source) in _PAPER.items()}
# The paper prints its attribute lists for SciFact only (syneg.data.tasks). These lists are ours.
_DOMAINS: dict[str, tuple[str, ...]] = {
    "beir/fiqa": ("investing", "personal finance", "taxation", "banking and credit", "corporate finance", "insurance"),
    "beir/quora": ("technology", "health", "education", "relationships", "travel", "careers", "politics"),
    "beir/hotpotqa": ("history", "film and television", "music", "sports", "geography", "biography", "science"),
    "beir/msmarco": ("health", "law and money", "science", "places", "food", "technology", "history"),
}
# Settings of --fast: train the upper half of the encoder only, and score it on dev once.
FAST: JsonObject = {
    "train.frozen_layers": "half",
    "train.evals": 1,
    "train.patience": 0,
    "train.dev_passages": 500,
    "train.alphas": (0.5, 1.0),
}
_OTHERS: dict[str, JsonObject] = {
    # What `syneg-dspy run` does without a collection: every stage with the embedded models, in minutes on two cores.
    "demo": {"collection.dataset": "python-docs-small", "generate.program": "neighbour_rewrite", "generate.pairs": 20,
             "generate.per_pair": 2,
             "generate.attempts": 1, "generate.passage_words": 60, "judge.use": "off", "lm.concurrency": 1,
             "mine.margin": 0.95, "mix.negatives": 1, "mix.ratio": 99.0,
             "train.pairs": 24, "train.epochs": 4.0, "encoder.max_tokens": 128, "boundary.queries": 0, **FAST},
    "quick": {"generate.pairs": 24, "train.pairs": 200, "boundary.queries": 8, "mine.margin": 0.95, **FAST},
    "thorough": {"generate.pairs": 0, "generate.per_pair": 2, "train.pairs": 0, "train.seeds": (0, 1, 2, 3, 4),
                 "train.arms": ("in-batch", "bm25", "mined", "synthetic", "dataset-mix", "hybrid"), "train.epochs": 2.0,
                 "train.evals": 6, "train.patience": 3, "train.alphas": (0.25, 0.5, 0.75, 1.0)},
}  # fmt: skip
PRESETS = ("syneg-paper", *_OTHERS)


def preset(name: str, dataset: str) -> JsonObject:
    """The settings of a preset, dotted key → value. `dataset` matters for `syneg-paper` only.

    Raises ConfigError for an unknown preset, or for a data set that is not in the paper.
    """
    if name in _OTHERS:
        return dict(_OTHERS[name])
    if name != "syneg-paper":
        raise ConfigError(f"unknown preset {name!r}", todo=nearest(name, PRESETS))
    if dataset not in PAPER_DATASETS:
        raise ConfigError(
            f"the preset syneg-paper does not fit {dataset!r}, which is not in the paper",
            todo=f"give one of these as --dataset: {', '.join(PAPER_DATASETS)}",
        )
    settings = {key: value for key, (value, _) in _PAPER.items()}
    if dataset in _DOMAINS:
        settings["generate.domains"] = _DOMAINS[dataset]
    return settings
