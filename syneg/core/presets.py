"""Named settings: `--preset demo`, `quick`, `thorough`, and `syneg-paper` for each of the paper's data sets.

    preset("syneg-paper", dataset="beir/scifact") → {"mix.ratio": 0.5, "train.temperature": 0.02, …}

A preset comes before a config file, `--set` and flags, so that each of its settings can be replaced. `SOURCES` names,
for every setting of `syneg-paper`, its source: the paper (arXiv 2412.17250, section), or us where the paper is silent.
"""

from __future__ import annotations

from typing import Any

from .errors import ConfigError, nearest

# The data sets of the paper's tables, with sizes of BEIR (queries of train, passages) for planning.
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
    "train.arms": (("mined", "synthetic", "dataset-mix", "hybrid"), "paper, tables: mined, synthetic only, direct mix, SyNeg"),
    "train.seeds": ((0, 1, 2), "ours: the paper gives one figure"),
    "train.epochs": (1.0, "ours"),
    "train.batch_size": (64, "ours"),
    "train.cached_chunk": (16, "ours: fits a GPU of 24 GB"),
    "train.learning_rate": (1e-5, "ours"),
    "mine.sources": (("dense",), "paper, tables: mined by the backbone"),
    "mine.margin": (0.95, "ours: the paper has no rule against false negatives"),
    "gates.margin": (0.95, "ours, where no judge is trusted"),
    "encoder.max_tokens": (256, "ours"),
    "encoder.model": (PAPER_ENCODERS["bge-large"], "paper: BGE-large; e5-base and coco-dr by --encoder"),
}  # fmt: skip
SOURCES = {key: source for key, (_, source) in _PAPER.items()}
# Attribute lists of the paper are known for SciFact (syneg.data.tasks); those of the others are ours.
_DOMAINS: dict[str, tuple[str, ...]] = {
    "beir/fiqa": ("investing", "personal finance", "taxation", "banking and credit", "corporate finance", "insurance"),
    "beir/quora": ("technology", "health", "education", "relationships", "travel", "careers", "politics"),
    "beir/hotpotqa": ("history", "film and television", "music", "sports", "geography", "biography", "science"),
    "beir/msmarco": ("health", "law and money", "science", "places", "food", "technology", "history"),
}
# what --fast sets: half of the encoder stays as it is
FAST: dict[str, Any] = {
    "train.frozen_layers": "half",
    "train.evals": 1,
    "train.patience": 0,
    "train.dev_passages": 500,
}
_OTHERS: dict[str, dict[str, Any]] = {
    # What `syneg-dspy run` does without a collection: every stage with the embedded models, in minutes on two cores.
    "demo": {"collection.dataset": "python-docs-small", "generate.program": "neighbour_rewrite", "generate.pairs": 22,
             "generate.attempts": 1, "generate.passage_words": 60, "judge.use": "off", "lm.concurrency": 1,
             "mix.negatives": 1, "mix.ratio": 99.0,
             "train.pairs": 34, "train.epochs": 4.0, "encoder.max_tokens": 128, "boundary.queries": 0, **FAST},
    "quick": {"generate.pairs": 24, "train.pairs": 200, "boundary.queries": 8, **FAST},
    "thorough": {"generate.pairs": 0, "generate.per_pair": 2, "train.pairs": 0, "train.seeds": (0, 1, 2, 3, 4),
                 "train.arms": ("in-batch", "bm25", "mined", "synthetic", "dataset-mix", "hybrid"), "train.epochs": 2.0,
                 "train.evals": 6, "train.patience": 3, "train.alphas": (0.25, 0.5, 0.75, 1.0)},
}  # fmt: skip
PRESETS = ("syneg-paper", *_OTHERS)


def preset(name: str, dataset: str) -> dict[str, Any]:
    """Settings (dotted key → value) of a preset for a data set; raises ConfigError for what it does not know."""
    if name in _OTHERS:
        return dict(_OTHERS[name])
    if name != "syneg-paper":
        raise ConfigError(f"unknown preset {name!r}", todo=nearest(name, PRESETS))
    if dataset not in PAPER_DATASETS:
        raise ConfigError(
            f"the preset syneg-paper is for the data sets of the paper, not {dataset!r}",
            todo=f"give --dataset: {', '.join(PAPER_DATASETS)}",
        )
    settings = {key: value for key, (value, _) in _PAPER.items()}
    if dataset in _DOMAINS:
        settings["generate.domains"] = _DOMAINS[dataset]
    return settings
