"""InfoNCE over the positive, the instance's negatives and everything else in the batch (van den Oord et al., 2018).

    rows 0 and 1 in a batch, 2 negatives each: query 0 is scored against 6 texts, [p0 p1 n00 n10 n01 n11], target p0

Texts that are known to be relevant to a query are masked for it, wherever in the batch they stand, by normalised text;
so is padding. A weight w multiplies a negative's share of the softmax: log w is added to its score. With weights of 1
and no mask this is sentence-transformers' MultipleNegativesRankingLoss with scale = 1 / temperature.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .records import Instance, normalise


class HybridInfoNCE(nn.Module):
    """`relevant[query_id]` are the texts of all passages known to be relevant; labels are row numbers of `instances`."""

    def __init__(
        self, model: nn.Module, instances: Sequence[Instance], relevant: Mapping[str, Iterable[str]], temperature: float
    ) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature
        ids: dict[str, int] = {}

        def number(text: str) -> int:
            return ids.setdefault(normalise(text), len(ids))

        self._texts = [[number(text) for text in (row.pair.positive, *row.negatives)] for row in instances]
        self._relevant = [
            {number(text) for text in (*relevant.get(row.pair.query_id, ()), row.pair.positive)} for row in instances
        ]
        self._weights = torch.tensor([[1.0, *row.weights] for row in instances])

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """Mean loss over the batch; features are anchor, positive, negative_1 … negative_n, `labels` (batch,)."""
        anchor, *texts = (self.model(features)["sentence_embedding"] for features in sentence_features)
        return self.from_embeddings(anchor, texts, labels)

    def from_embeddings(self, queries: Tensor, texts: Sequence[Tensor], labels: Tensor) -> Tensor:
        """The loss of `queries` (batch, dim) against `texts`, 1 + n tensors (batch, dim)."""
        rows = [int(row) for row in labels.view(-1).tolist()]
        queries = nn.functional.normalize(queries.float(), dim=-1)
        candidates = nn.functional.normalize(torch.cat(list(texts)).float(), dim=-1)
        scores = queries @ candidates.T / self.temperature
        scores = scores + self._bias(rows, len(texts)).to(scores.device)
        return nn.functional.cross_entropy(scores, torch.arange(len(rows), device=scores.device))

    def _bias(self, rows: list[int], columns: int) -> Tensor:
        """(batch, columns * batch): log weight of each candidate, -inf where it is masked for the row's query."""
        numbers = [self._texts[row][column] for column in range(columns) for row in rows]
        weights = self._weights[rows, :columns].T.reshape(-1).log()
        bias = weights.repeat(len(rows), 1)
        for i, row in enumerate(rows):
            known = self._relevant[row]
            masked = [place for place, number in enumerate(numbers) if number in known and place != i]
            bias[i, masked] = -torch.inf
        return bias

    def get_config_dict(self) -> dict[str, Any]:
        """What sentence-transformers writes into a model card."""
        return {"temperature": self.temperature}
