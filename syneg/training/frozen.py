"""Lower layers that are not trained, and their output for texts that were seen before.

    layers = FrozenLayers(model, 3)            freezes the word embeddings and layers 1-3 of 6
    layers.embed(model, features) → (batch, dim), with gradient through layers 4-6 only

The output of the frozen part depends on the text alone, so it is kept (bfloat16, up to `limit` bytes) and used in later
epochs, and, when `states` is shared, by later arms and seeds that start from the same encoder. Frozen layers run without
dropout. For encoders that transformers builds with `embeddings` and `encoder.layer` (BERT, RoBERTa, MPNet and the like).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from syneg.core.errors import ConfigError

_LIMIT = 4 << 30


class States:
    """Output of the frozen part by token ids; adding stops at `limit` bytes."""

    def __init__(self, limit: int = _LIMIT) -> None:
        self._kept: dict[bytes, Tensor] = {}
        self._free = limit

    def find(self, keys: list[bytes]) -> list[Tensor] | None:
        """The states (length, dim) of all keys, or None where one is missing."""
        found = [self._kept.get(key) for key in keys]
        return None if any(state is None for state in found) else [s for s in found if s is not None]

    def add(self, key: bytes, state: Tensor) -> None:
        """Keep a copy of `state` (length, dim), while there is room."""
        size = state.numel() * 2
        if key not in self._kept and size <= self._free:
            self._kept[key] = state.detach().to("cpu", torch.bfloat16, copy=True)
            self._free -= size


class FrozenLayers:
    """Freezes the lower `count` layers of `model` (a SentenceTransformer), or all but -count. Raises ConfigError for a model that is built otherwise."""

    def __init__(self, model: Any, count: int | str, states: States | None = None) -> None:
        inner = getattr(model[0], "auto_model", None)
        layers = getattr(getattr(inner, "encoder", None), "layer", None)
        if inner is None or layers is None or not hasattr(inner, "embeddings"):
            raise ConfigError("this encoder has no layers that can be frozen", todo="set train.frozen_layers=0")
        count = len(layers) // 2 if isinstance(count, str) else count if count >= 0 else len(layers) + count
        if not 0 < count < len(layers):
            raise ConfigError(
                f"train.frozen_layers = {count}, and the encoder has {len(layers)} layers", todo="leave one to train"
            )
        self._embeddings, self._lower = inner.embeddings, list(layers[:count])
        self.states = states if states is not None else States()
        for module in (self._embeddings, *self._lower):
            module.requires_grad_(requires_grad=False)
            for dropout in module.modules():
                if isinstance(dropout, nn.Dropout):
                    dropout.p = 0.0

    def embed(self, model: nn.Module, features: dict[str, Tensor]) -> Tensor:
        """Sentence embeddings (batch, dim) of tokenised texts, padded on the right."""
        lengths = features["attention_mask"].sum(1).tolist()
        ids = features["input_ids"].cpu().numpy()
        keys = [row[:length].tobytes() for row, length in zip(ids, lengths, strict=True)]
        kept = self.states.find(keys)
        if kept is not None:
            device = features["input_ids"].device
            padded = nn.utils.rnn.pad_sequence([state.to(device) for state in kept], batch_first=True)
            with self._given(padded):
                return model(features)["sentence_embedding"]
        seen: list[Tensor] = []

        def rounded(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            """What is above takes the same numbers now as later, when they come from what is kept."""
            state = output[0] if isinstance(output, tuple) else output
            seen.append(state.to(torch.bfloat16))
            same = seen[0].to(state.dtype)
            return (same, *output[1:]) if isinstance(output, tuple) else same

        hook = self._lower[-1].register_forward_hook(rounded)
        try:
            embedded = model(features)["sentence_embedding"]
        finally:
            hook.remove()
        for key, state, length in zip(keys, seen[0], lengths, strict=True):
            self.states.add(key, state[:length])
        return embedded

    def attach(self, model: Any) -> None:
        """From now on `model` takes the kept output whenever it is called, as `model.encode` does."""
        plain = model.forward

        def forward(features: dict[str, Tensor], **_: Any) -> dict[str, Tensor]:
            model.forward = plain
            try:
                return {**features, "sentence_embedding": self.embed(model, features)}
            finally:
                model.forward = forward

        model.forward = forward

    @contextmanager
    def _given(self, states: Tensor) -> Iterator[None]:
        """While this is open the frozen part gives `states`, whatever it is asked."""
        self._embeddings.forward = lambda *args, **kwargs: states.float()
        for layer in self._lower:
            layer.forward = lambda hidden_states, *args, **kwargs: hidden_states
        try:
            yield
        finally:
            for module in (self._embeddings, *self._lower):
                del module.forward  # back to that of the class
