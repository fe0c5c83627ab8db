"""InfoNCE over the positive, the instance's negatives and everything else in the batch (van den Oord et al., 2018).

    rows 0 and 1 in a batch, 2 negatives each: query 0 is scored against 6 texts, [p0 p1 n00 n10 n01 n11], target p0

Texts that are known to be relevant to a query are masked for it, wherever in the batch they stand, by normalised text;
so is padding. A weight w multiplies a negative's share of the softmax: log w is added to its score. With weights of 1,
no mask and no option this is sentence-transformers' MultipleNegativesRankingLoss with scale = 1 / temperature. Options:

- guide: texts of other rows that the untuned encoder puts over a share of the positive's score are masked (the 95 % rule
  inside the batch; compare GISTEmbed, arXiv 2402.16829);
- regulariser: synthetic negatives together should take the share of the softmax that their number gives them, evenly, so
  that the encoder cannot win by knowing who wrote a text (after CausalNeg, arXiv 2606.01304);
- distillation: the untuned encoder's softmax over the same texts is to be kept (listwise, as in arXiv 2010.11386).

Over several processes all texts of all processes are candidates, as with sentence-transformers' `gather_across_devices`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sentence_transformers.base.losses.gradcache import CachedLossMixin
from sentence_transformers.util import all_gather, all_gather_with_grad, get_rank
from torch import Tensor, nn

from syneg.core.config import TrainConfig
from syneg.core.records import Instance, normalise

from .sampling import SYNTHETIC

_CHUNK = 32
Embed = Callable[[nn.Module, dict[str, Tensor]], Tensor]


@dataclass(frozen=True)
class BaseView:
    """Embeddings of the untuned encoder, unit length: `queries` (rows, dim), `texts[text]` (dim,)."""

    queries: np.ndarray
    texts: Mapping[str, np.ndarray]


class HybridInfoNCE(CachedLossMixin, nn.Module):
    """`relevant[query_id]` are the texts of all passages known to be relevant; labels are row numbers of `instances`.

    `base` is needed where `config` has a guide or distillation. `shares` grows by one dict a step: the share of the
    gradient on negatives that each source has (the softmax mass of its texts).
    """

    def __init__(
        self,
        model: nn.Module,
        instances: Sequence[Instance],
        relevant: Mapping[str, Iterable[str]],
        config: TrainConfig,
        base: BaseView | None = None,
        embed: Embed | None = None,
    ) -> None:
        super().__init__()
        self.model, self.config = model, config
        self.embed = embed or (lambda model, features: model(features)["sentence_embedding"])
        self.mini_batch_size = config.cached_chunk
        self.uses_gradient_cache = bool(config.cached_chunk)
        self.shares: list[dict[str, float]] = []
        ids: dict[str, int] = {}

        def number(text: str) -> int:
            return ids.setdefault(normalise(text), len(ids))

        self._texts = [[number(text) for text in (row.pair.positive, *row.negatives)] for row in instances]
        self._sources = [("positive", *row.sources) for row in instances]
        in_rows = len(ids)
        self._relevant = [
            {number(text) for text in (*relevant.get(row.pair.query_id, ()), row.pair.positive)} for row in instances
        ]
        self._weights = torch.tensor([[1.0, *row.weights] for row in instances])
        self._base_texts = self._base_queries = torch.zeros(0)
        if base is not None:
            vectors = np.zeros((in_rows, base.queries.shape[1]), np.float32)  # padding stays at zero
            for text, vector in base.texts.items():
                vectors[number(text)] = vector
            self._base_texts, self._base_queries = torch.from_numpy(vectors), torch.from_numpy(base.queries)

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """Mean loss over the batch; features are anchor, positive, negative_1 … negative_n, `labels` (batch,)."""
        columns = list(sentence_features)
        if self.uses_gradient_cache and torch.is_grad_enabled():
            return self.forward_cached(columns, labels)
        anchor, *texts = embed_by_length(self.model, columns, self.embed)
        return self.from_embeddings(anchor, texts, labels)

    def calculate_loss(
        self, reps: list[list[Tensor]], labels: Tensor | None = None, *, with_backward: bool = False
    ) -> Tensor:
        """For sentence-transformers' gradient cache: the loss from embeddings of chunks, for each column."""
        assert labels is not None
        queries, *texts = (torch.cat(column) for column in reps)
        loss = self.from_embeddings(queries, texts, labels)
        if with_backward:
            loss.backward()
            loss = loss.detach()
        return loss

    def from_embeddings(self, queries: Tensor, texts: Sequence[Tensor], labels: Tensor) -> Tensor:
        """The loss of `queries` (batch, dim) against `texts`, 1 + n tensors (batch, dim)."""
        rows = everyone = [int(row) for row in labels.view(-1).tolist()]
        first = 0
        if torch.distributed.is_initialized():
            texts = [all_gather_with_grad(column) for column in texts]
            everyone = [int(row) for row in all_gather(labels.view(-1)).tolist()]
            first = get_rank() * len(rows)
        queries = nn.functional.normalize(queries.float(), dim=-1)
        candidates = nn.functional.normalize(torch.cat(list(texts)).float(), dim=-1)
        places = torch.arange(first, first + len(rows))
        bias = self._bias(rows, everyone, len(texts), places).to(queries.device)
        scores = queries @ candidates.T / self.config.temperature + bias
        sources = [self._sources[row][column] for column in range(len(texts)) for row in everyone]
        negatives = scores.scatter(1, places.unsqueeze(1).to(scores.device), -torch.inf)
        self._note_shares(scores.detach(), negatives.detach(), sources)
        loss = nn.functional.cross_entropy(scores, places.to(scores.device))
        if self.config.regulariser:
            synthetic = torch.tensor([source == SYNTHETIC for source in sources], device=scores.device)
            loss = loss + self.config.regulariser * fair_share(negatives, bias, synthetic)
        if self.config.distil:
            loss = loss + self.config.distil * self._distilled(scores, bias, rows, everyone, len(texts))
        return loss

    def _bias(self, rows: list[int], everyone: list[int], columns: int, places: Tensor) -> Tensor:
        """(batch, columns * all rows): log weight of each candidate, -inf where it is masked for the row's query."""
        numbers = [self._texts[row][column] for column in range(columns) for row in everyone]
        bias = self._weights[everyone, :columns].T.reshape(-1).log().repeat(len(rows), 1)
        for i, row in enumerate(rows):
            known = self._relevant[row]
            masked = [place for place, number in enumerate(numbers) if number in known and place != places[i]]
            bias[i, masked] = -torch.inf
        if self.config.guide:
            scores = self._base_queries[rows] @ self._base_texts[numbers].T
            over = scores > self.config.guide * scores.gather(1, places.unsqueeze(1))
            foreign = (torch.arange(len(numbers)) % len(everyone)).unsqueeze(0) != places.unsqueeze(1)
            bias[over & foreign] = -torch.inf
        return bias

    def _distilled(self, scores: Tensor, bias: Tensor, rows: list[int], everyone: list[int], columns: int) -> Tensor:
        """Cross entropy of the base's softmax over the candidates against ours, less its own entropy (KL divergence)."""
        numbers = [self._texts[row][column] for column in range(columns) for row in everyone]
        base = (self._base_queries[rows] @ self._base_texts[numbers].T).to(scores.device) / self.config.temperature
        kept = torch.isfinite(bias)
        target = base.masked_fill(~kept, -torch.inf).softmax(1)
        ours = scores.log_softmax(1).masked_fill(~kept, 0.0)
        return (target * (target.clamp_min(1e-12).log() - ours)).sum(1).mean()

    def _note_shares(self, scores: Tensor, negatives: Tensor, sources: Sequence[str]) -> None:
        """The gradient on the score of a negative is its softmax probability; foreign positives count as `in-batch`."""
        # softmax over all, not over the negatives only: a query that is learnt gives little gradient
        log_mass = scores.logsumexp(1, keepdim=True)
        mass = (negatives - log_mass).exp().sum(0)
        total = float(mass.sum())
        shares: dict[str, float] = {}
        for source, value in zip(sources, mass.tolist(), strict=True):
            name = "in-batch" if source == "positive" else source
            shares[name] = shares.get(name, 0.0) + value / max(total, 1e-12)
        self.shares.append(shares)

    def get_config_dict(self) -> dict[str, Any]:
        """What sentence-transformers writes into a model card."""
        return {"temperature": self.config.temperature}


def fair_share(negatives: Tensor, bias: Tensor, synthetic: Tensor) -> Tensor:
    """How far the synthetic negatives are from a fair and even part of the softmax over negatives; 0 at best.

    `negatives` (batch, candidates): scores with -inf for positives and masked texts; `bias` their log weights;
    `synthetic` (candidates,) bool. Divergence of the binary (synthetic, other) from the one by weight, plus what the
    entropy among the synthetic ones lacks of its maximum; rows without one of either kind count 0.
    """
    there = torch.isfinite(negatives)
    weight = torch.where(there, bias, torch.full_like(bias, -torch.inf)).exp()
    ours = there & synthetic
    fair = (weight * ours).sum(1) / weight.sum(1).clamp_min(1e-12)
    usable = (fair > 0) & (fair < 1)
    if not usable.any():
        return negatives.new_zeros(())
    p = negatives[usable].softmax(1)
    ours, fair = ours[usable], fair[usable]
    mass = (p * ours).sum(1).clamp(1e-6, 1 - 1e-6)
    divergence = fair * (fair / mass).log() + (1 - fair) * ((1 - fair) / (1 - mass)).log()
    within = p * ours / mass.unsqueeze(1)
    entropy = -(within * within.clamp_min(1e-12).log()).sum(1)
    most = ours.sum(1).float().log()
    lacking = torch.where(most > 0, 1 - entropy / most.clamp_min(1e-12), torch.zeros_like(entropy))
    return (divergence + lacking).mean()


def embed_by_length(
    model: nn.Module, columns: Sequence[dict[str, Tensor]], embed: Embed, chunk: int = _CHUNK
) -> list[Tensor]:
    """Embed the columns of a batch as one list sorted by length, in chunks without needless padding.

    Each column holds `input_ids` and `attention_mask` (batch, length of its longest text); padding is on the right.
    Returns one tensor (batch, dim) per column. On short passages with a few long ones this halves the work.
    """
    if not all({"input_ids", "attention_mask"} <= column.keys() for column in columns):
        return [embed(model, column) for column in columns]  # no token model: nothing to sort
    keys = [key for key in ("input_ids", "attention_mask", "token_type_ids") if key in columns[0]]
    rows = [{key: column[key][i] for key in keys} for column in columns for i in range(len(column["input_ids"]))]
    lengths = [int(row["attention_mask"].sum()) for row in rows]
    order = sorted(range(len(rows)), key=lengths.__getitem__)
    extra = {key: value for key, value in columns[0].items() if not isinstance(value, Tensor)}
    parts = []
    for start in range(0, len(order), chunk):
        places = order[start : start + chunk]
        width = max(1, lengths[places[-1]])
        cut: dict[str, Any] = {key: torch.stack([_fit(rows[place][key], width) for place in places]) for key in keys}
        parts.append(embed(model, {**extra, **cut}))
    embedded = torch.cat(parts)
    back = torch.empty(len(order), dtype=torch.long, device=embedded.device)
    back[torch.tensor(order, device=embedded.device)] = torch.arange(len(order), device=embedded.device)
    return list(embedded[back].split([len(column["input_ids"]) for column in columns]))


def _fit(row: Tensor, width: int) -> Tensor:
    return row[:width] if len(row) >= width else nn.functional.pad(row, (0, width - len(row)))
