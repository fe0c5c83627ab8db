"""Freeze the lower layers of an encoder, and keep their output for texts that come again.

    layers = FrozenLayers(model, 3)            freezes the word embeddings and layers 1-3 of 6
    layers.embed(model, features) → (batch, dim), with gradient through layers 4-6 only

The output of the frozen part depends only on the text (and on the padding before it). So it is cached as bfloat16, up
to `limit` bytes, and used again in later epochs. Arms and seeds that start from the same encoder may share one cache.
Frozen layers run without dropout. This works for encoders that transformers builds from embeddings and a list of
layers: BERT, RoBERTa, MPNet, DistilBERT, ModernBERT, Qwen and others.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from syneg.core.errors import ConfigError

_LIMIT = 4 << 30  # bytes
_LAYERS = ("encoder.layer", "encoder.layers", "transformer.layer", "layers")
_EMBEDDINGS = ("embeddings", "embed_tokens")


class LayerCache:
    """Output of the frozen part, by the first position and the token ids of a text; holds at most `limit` bytes."""

    def __init__(self, limit: int = _LIMIT) -> None:
        self._kept: dict[bytes, Tensor] = {}
        self._free = limit

    def find(self, keys: list[bytes]) -> list[Tensor | None]:
        """The output (length, dim) for each key; None for a key that is not kept."""
        return [self._kept.get(key) for key in keys]

    def add(self, key: bytes, state: Tensor) -> Tensor:
        """Return a copy of `state` (length, dim) as bfloat16 on the CPU, and keep it as long as it fits."""
        copy = state.detach().to("cpu", torch.bfloat16, copy=True)
        size = copy.numel() * 2
        if key not in self._kept and size <= self._free:
            self._kept[key] = copy
            self._free -= size
        return copy


def frozen_count(model: Any, wanted: int | str) -> int:
    """How many lower layers of `model` (a SentenceTransformer) are frozen.

    `wanted` is the number of layers to freeze; -2 freezes all but the upper two; `half` freezes half of them, and none
    of a model without layers. Raises ConfigError for a number that does not fit the model.
    """
    layers = _parts(model)[1]
    if isinstance(wanted, str):
        return len(layers) // 2
    count = wanted if wanted >= 0 else len(layers) + wanted
    if wanted and not layers:
        raise ConfigError("this encoder has no layers that can be frozen", todo="set train.frozen_layers=0")
    if wanted and not 0 < count < len(layers):
        raise ConfigError(
            f"train.frozen_layers = {wanted}, and the encoder has {len(layers)} layers", todo="leave one to train"
        )
    return count


def _parts(model: Any) -> tuple[nn.Module | None, list[nn.Module]]:
    """The embedding module and the layers of a model, or (None, []) if it is built in another way."""
    inner = getattr(model[0], "auto_model", None)
    if inner is None:
        return None, []
    modules = dict(inner.named_modules())
    embeddings = next((modules[name] for name in _EMBEDDINGS if name in modules), None)
    layers = next((modules[name] for name in _LAYERS if isinstance(modules.get(name), nn.ModuleList)), None)
    return (None, []) if embeddings is None or layers is None else (embeddings, list(layers))


class _Reached(Exception):
    """Carries the output of the last frozen layer out of the model."""

    def __init__(self, output: Tensor) -> None:
        super().__init__("the last frozen layer has run")
        self.output = output


def _stop(_module: nn.Module, _inputs: Any, output: Any) -> None:
    raise _Reached(output[0] if isinstance(output, tuple) else output)


class FrozenLayers:
    """Freezes the embeddings and the lower layers of `model`; `frozen_count` turns `wanted` into their number.

    Raises ConfigError if that number is 0, or if the model has no layers to freeze.
    """

    def __init__(self, model: Any, wanted: int | str, states: LayerCache | None = None) -> None:
        count = frozen_count(model, wanted)
        embeddings, layers = _parts(model)
        if embeddings is None or not count:
            raise ConfigError("this encoder has no layers that can be frozen", todo="set train.frozen_layers=0")
        self._embeddings, self._lower = embeddings, layers[:count]
        self.states = states if states is not None else LayerCache()
        for module in (self._embeddings, *self._lower):
            module.requires_grad_(requires_grad=False)
            for dropout in module.modules():
                if isinstance(dropout, nn.Dropout):
                    dropout.p = 0.0

    def embed(self, model: nn.Module, features: dict[str, Tensor]) -> Tensor:
        """Sentence embeddings (batch, dim) of tokenised texts (batch, length), padded on either side."""
        mask = features["attention_mask"].bool().cpu()
        ids = features["input_ids"].cpu()
        # padding on the left shifts the positions of a text, so the first position is part of its key
        starts = mask.int().argmax(1).tolist()  # (batch,)
        keys = [
            f"{start}:".encode() + row[real].numpy().tobytes()
            for row, real, start in zip(ids, mask, starts, strict=True)
        ]
        kept = self.states.find(keys)
        lacking = [row for row, state in enumerate(kept) if state is None]
        for row, state in zip(lacking, self._lower_output(model, features, lacking), strict=True):
            kept[row] = self.states.add(keys[row], state[mask[row]])
        # copy all to the device at once, (tokens, dim), then spread them over the batch
        flat = torch.cat([state for state in kept if state is not None]).to(features["input_ids"].device)
        padded = flat.new_zeros(*mask.shape, flat.shape[1])  # (batch, length, dim)
        padded[mask.to(padded.device)] = flat
        with self._given(padded):
            return model(features)["sentence_embedding"]

    def _lower_output(self, model: nn.Module, features: dict[str, Tensor], rows: list[int]) -> list[Tensor]:
        """The output (length, dim) of the frozen part for some rows of the batch; the upper layers do not run."""
        if not rows:
            return []
        count = len(features["input_ids"])
        some = {
            name: value[rows] if isinstance(value, Tensor) and len(value) == count else value
            for name, value in features.items()
        }
        hook = self._lower[-1].register_forward_hook(_stop)
        try:
            with torch.no_grad():
                model(some)
        except _Reached as reached:
            return list(reached.output.cpu())
        finally:
            hook.remove()
        raise AssertionError("the frozen layers were not called")

    @contextmanager
    def attached(self, model: Any) -> Iterator[None]:
        """Inside this context every call of `model`, also by `model.encode`, uses the cache.

        Afterwards `model.forward` is what it was: in a training it is a wrapper that sets the precision.
        """
        wrapper = vars(model).get("forward")
        self.attach(model)
        try:
            yield
        finally:
            if wrapper is None:
                del model.forward  # the class's own method takes over again
            else:
                model.forward = wrapper

    def attach(self, model: Any) -> None:
        """Replace `model.forward`, so that every call of `model`, also by `model.encode`, uses the cache."""
        plain = model.forward

        def forward(features: dict[str, Tensor], **_: Any) -> dict[str, Tensor]:
            """Put the plain method back while `embed` runs, because that calls the model."""
            model.forward = plain
            try:
                return {**features, "sentence_embedding": self.embed(model, features)}
            finally:
                model.forward = forward

        model.forward = forward

    @contextmanager
    def _given(self, states: Tensor) -> Iterator[None]:
        """Inside this context the frozen part returns `states` (batch, length, dim), whatever its input is."""
        self._embeddings.forward = lambda *args, **kwargs: states.float()
        for layer in self._lower:
            layer.forward = lambda hidden_states, *args, **kwargs: hidden_states
        try:
            yield
        finally:
            for module in (self._embeddings, *self._lower):
                del module.forward  # the class's own method takes over again
