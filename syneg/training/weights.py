"""How the weights of an encoder are set for a training, and after it: rate, dropout, attention, interpolation.

learning_rate(TrainConfig(), model) → 5e-05        (MiniLM-L6)
interpolate(tuned, base, dev, (0.5, 1.0)) → [(0.5, .671), (1.0, .668)], and `tuned` half way between both
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import nn

from syneg.core.config import TrainConfig
from syneg.retrieval.dev_set import DEV_METRIC, DevScore

_EAGER_TOKENS = 256


def learning_rate(config: TrainConfig, model: nn.Module) -> float:
    """The learning rate of a training.

    `auto` is 5e-5 for 22.7 M parameters (MiniLM-L6; measured, docs/results.md) and falls with the square root of the
    size, which gives the customary 2e-5 and 1e-5 of base and large encoders. With frozen layers it is twice that.
    """
    if not isinstance(config.learning_rate, str):
        return config.learning_rate
    size = sum(weights.numel() for weights in model.parameters())
    return 5e-5 * (22.7e6 / max(size, 1e6)) ** 0.5 * (2 if config.frozen_layers else 1)


def set_dropout(model: SentenceTransformer, hidden: float) -> None:
    """Dropout of `hidden` on hidden states and none on attention.

    Drawing random numbers for attention takes half of the time of a step on a CPU (docs/lab_notes.md, "speed").
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = hidden
    for module in model.modules():
        for child in module.children():
            if isinstance(child, nn.Dropout) and "Attention" in type(module).__name__:
                child.p = 0.0


def swift_attention(model: SentenceTransformer) -> None:
    """On a CPU, for short texts, plain attention: it is faster backwards than the fused kernel there."""
    inner: Any = getattr(model[0], "auto_model", None)
    short = (model.max_seq_length or _EAGER_TOKENS + 1) <= _EAGER_TOKENS
    if model.device.type == "cpu" and short and hasattr(inner, "set_attn_implementation"):
        inner.set_attn_implementation("eager")


def interpolate(
    tuned: SentenceTransformer, base: SentenceTransformer, dev: DevScore, alphas: Sequence[float]
) -> list[tuple[float, float]]:
    """Set the weights of `tuned` to (1 - alpha) * base + alpha * tuned for the alpha that is best on dev.

    Returns (alpha, dev score) of each; the larger alpha wins a tie. With one alpha of 1 nothing is scored or changed
    (Wortsman et al., 2022, arXiv 2109.01903, where alpha is fixed).
    """
    if list(alphas) == [1.0]:
        return []
    end = {name: weights.detach().clone() for name, weights in tuned.state_dict().items()}
    start = base.state_dict()

    def move(alpha: float) -> None:
        # integers, such as position ids, are no weights
        mixed = {n: torch.lerp(start[n].to(w), w, alpha) if w.is_floating_point() else w for n, w in end.items()}
        tuned.load_state_dict(mixed)

    scores = []
    for alpha in sorted(alphas):
        move(alpha)
        scores.append((alpha, dev(tuned)[DEV_METRIC]))
    move(max(scores, key=lambda tried: (tried[1], tried[0]))[0])
    return scores
