"""A loss over the embeddings of a whole batch: how its texts are embedded, with a gradient cache or without.

    class Sum(BatchLoss): from_embeddings = lambda self, queries, texts, labels: queries.sum()
    Sum(model, TrainConfig(cached_chunk=16))([anchors, positives], labels) → a scalar; texts pass the model 16 at a time

Either way texts are sorted by length, and equal texts are embedded once (`merging`). A gradient cache (GradCache, arXiv
2101.06983) embeds each chunk twice: without gradient, and again once the gradient on its embeddings is known. So a
batch needs the memory of one chunk. It is that of sentence-transformers, which would embed column by column.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from sentence_transformers.base.losses.gradcache import CachedLossMixin, RandContext, _create_minibatch
from torch import Tensor, nn

from syneg.core.config import TrainConfig

from .merging import Chunks, Embed, Features, Layout, embed_by_length

_TOKENS = 2048  # of short texts that are embedded at once; more are no faster on a CPU


class BatchLoss(CachedLossMixin, nn.Module):
    """A module for sentence-transformers' trainer. `embed` replaces the call of the model."""

    def __init__(self, model: nn.Module, config: TrainConfig, embed: Embed | None = None) -> None:
        super().__init__()
        self.model, self.config = model, config
        self.embed = embed or (lambda model, features: model(features)["sentence_embedding"])
        self.mini_batch_size = config.cached_chunk
        self.uses_gradient_cache = bool(config.cached_chunk)
        self._layout: Layout | None = None  # of the batch under a gradient cache

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """The mean loss over the batch, a scalar.

        `sentence_features` are those of anchor, positive, negative_1 … negative_n; `labels` (batch,) are row numbers.
        """
        columns = list(sentence_features)
        if self.uses_gradient_cache and torch.is_grad_enabled():
            self._layout = Layout.of(columns, replace(self._chunks(), texts=self.mini_batch_size, tokens=0))
            return self.forward_cached(self._layout.chunks, labels)
        anchor, *texts = embed_by_length(self.model, columns, self.embed, self._chunks())
        return self.from_embeddings(anchor, texts, labels)

    @abstractmethod
    def from_embeddings(self, queries: Tensor, texts: Sequence[Tensor], labels: Tensor) -> Tensor:
        """The loss of `queries` (batch, dim) against `texts`, 1 + n tensors (batch, dim)."""

    def calculate_loss(
        self, reps: list[list[Tensor]], labels: Tensor | None = None, *, with_backward: bool = False
    ) -> Tensor:
        """The loss from embeddings: a list of parts (part, dim) for each chunk. The gradient cache calls it."""
        assert labels is not None and self._layout is not None
        queries, *texts = self._layout.columns([torch.cat(parts) for parts in reps])
        loss = self.from_embeddings(queries, texts, labels)
        if with_backward:
            loss.backward()
            loss = loss.detach()
        return loss

    def embed_minibatch(  # type: ignore[override]
        self, sentence_feature: Features, begin: int, end: int, **how: Any
    ) -> tuple[Tensor, RandContext | None]:
        """Embed texts `begin` to `end` of a chunk with `embed`, so that the output of frozen layers is used again.

        The gradient cache calls this twice for each chunk, the second time with the random state of the first.
        """
        # a pooling that leaves out prompts writes into the mask, and the second call needs it as it was
        cut = _create_minibatch(sentence_feature, begin, end)
        features = {key: value.clone() if isinstance(value, Tensor) else value for key, value in cut.items()}
        with how["random_state"] or nullcontext(), nullcontext() if how["with_grad"] else torch.no_grad():
            state = RandContext(*features.values()) if how["copy_random_state"] else None
            return self.embed(self.model, features), state

    def _chunks(self) -> Chunks:
        """How texts are embedded. With several processes each has the same number of chunks, or they would wait."""
        if torch.distributed.is_initialized():
            return Chunks()
        return Chunks(tokens=_TOKENS, once=not self.config.dropout)
