"""Set an encoder's learning rate, dropout and attention for a training, and mix its weights with the base afterwards.

learning_rate(TrainConfig(), model)       → 5e-05 for MiniLM-L6
interpolate(tuned, base, dev, (0.5, 1.0)) → Mixture(((0.5, .671), (1.0, .668)), .001); `tuned` is half way to the base
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import nn

from syneg.core.config import TrainConfig
from syneg.retrieval.cross_fitting import best_row, cross_fitted
from syneg.retrieval.dev_score import DevScore
from syneg.retrieval.metrics import mean

_EAGER_TOKENS = 256  # up to this length, plain attention is faster on a CPU


def learning_rate(config: TrainConfig, model: nn.Module) -> float:
    """The learning rate of a training: `train.learning_rate`, unless that is `auto`.

    `auto` is 5e-5 for 22.7 M parameters (MiniLM-L6; measured, docs/results.md), scaled by 1/sqrt(parameters). This
    gives the usual 2e-5 for base and 1e-5 for large encoders. With frozen layers it is doubled.
    """
    if not isinstance(config.learning_rate, str):
        return config.learning_rate
    size = sum(weights.numel() for weights in model.parameters())
    return 5e-5 * (22.7e6 / max(size, 1e6)) ** 0.5 * (2 if config.frozen_layers else 1)


def set_dropout(model: SentenceTransformer, hidden: float) -> None:
    """Set the dropout on hidden states to `hidden` (a probability), and switch it off on attention.

    On a CPU, random numbers for attention take half of the time of a step (docs/lab_notes.md, "Where the time of a step
    goes").
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = hidden
    for module in model.modules():
        for child in module.children():
            if isinstance(child, nn.Dropout) and "Attention" in type(module).__name__:
                child.p = 0.0


def swift_attention(model: SentenceTransformer) -> None:
    """On a CPU and for short texts, use plain attention: its backward pass is faster than that of the fused kernel."""
    inner: Any = getattr(model[0], "auto_model", None)
    short = (model.max_seq_length or _EAGER_TOKENS + 1) <= _EAGER_TOKENS
    if model.device.type == "cpu" and short and hasattr(inner, "set_attn_implementation"):
        inner.set_attn_implementation("eager")


@dataclass(frozen=True)
class Mixture:
    """What mixing the weights found: (alpha, nDCG@10 on dev) of each alpha tried, and what the choice adds to dev.

    `optimism` is nDCG@10 on dev of the chosen alpha less that of the alpha chosen without the query, as a mean; 0 if
    there was no choice, or under five queries to choose on.
    """

    scores: tuple[tuple[float, float], ...] = ()
    optimism: float = 0.0


def interpolate(
    tuned: SentenceTransformer,
    base: SentenceTransformer,
    dev: DevScore,
    alphas: Sequence[float],
    tuned_score: float | None = None,
) -> Mixture:
    """Set the weights of `tuned` to (1 - alpha) * base + alpha * tuned, for the alpha with the best nDCG@10 on dev.

    The larger alpha wins a tie. If `dev` remembers the evaluation of `tuned` as it is, whose mean is `tuned_score`,
    alpha 1 is not scored again. If the only alpha is 1, nothing is scored or changed. The idea is from Wortsman et al.,
    2022 (arXiv 2109.01903), where alpha is fixed.
    """
    if list(alphas) == [1.0]:
        return Mixture()
    end = {name: weights.detach().clone() for name, weights in tuned.state_dict().items()}
    start = base.state_dict()

    def move(alpha: float) -> None:
        """Give `tuned` the mixed weights: a share `alpha` of the tuned ones, the rest of the base."""
        # integers, such as position ids, are not weights and stay as they are
        mixed = {n: torch.lerp(start[n].to(w), w, alpha) if w.is_floating_point() else w for n, w in end.items()}
        tuned.load_state_dict(mixed)

    tried: dict[float, dict[str, float]] = {}  # alpha → query_id → nDCG@10, the largest alpha first
    for alpha in sorted(alphas, reverse=True):
        if alpha == 1.0 and dev.best and mean(dev.best) == tuned_score:
            tried[alpha] = dev.best
            continue
        move(alpha)
        tried[alpha] = dev.values(tuned)
    table = np.asarray([[values[query] for query in sorted(values)] for values in tried.values()])  # (alphas, queries)
    place, crossed = best_row(table), cross_fitted(table)
    move(list(tried)[place])
    optimism = 0.0 if crossed is None else float(np.mean(table[place] - crossed))
    return Mixture(tuple(sorted((alpha, mean(values)) for alpha, values in tried.items())), optimism)
