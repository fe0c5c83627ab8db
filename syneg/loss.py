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
        self,
        model: nn.Module,
        instances: Sequence[Instance],
        relevant: Mapping[str, Iterable[str]],
        temperature: float,
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
        anchor, *texts = embed_by_length(self.model, list(sentence_features))
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


def embed_by_length(model: nn.Module, columns: Sequence[dict[str, Tensor]], chunk: int = 32) -> list[Tensor]:
    """Embed the columns of a batch as one list sorted by length, in chunks without needless padding.

    Each column holds `input_ids` and `attention_mask` (batch, length of its longest text); padding is on the right.
    Returns one tensor (batch, dim) per column. On short passages with a few long ones this halves the work.
    """
    if not all({"input_ids", "attention_mask"} <= column.keys() for column in columns):
        return [model(column)["sentence_embedding"] for column in columns]  # no token model: nothing to sort
    keys = [key for key in ("input_ids", "attention_mask", "token_type_ids") if key in columns[0]]
    rows = [{key: column[key][i] for key in keys} for column in columns for i in range(len(column["input_ids"]))]
    lengths = [int(row["attention_mask"].sum()) for row in rows]
    order = sorted(range(len(rows)), key=lengths.__getitem__)
    extra = {key: value for key, value in columns[0].items() if not isinstance(value, Tensor)}
    parts = []
    for start in range(0, len(order), chunk):
        places = order[start : start + chunk]
        width = max(1, lengths[places[-1]])
        cut = {key: torch.stack([_fit(rows[place][key], width) for place in places]) for key in keys}
        parts.append(model({**extra, **cut})["sentence_embedding"])
    embedded = torch.cat(parts)
    back = torch.empty(len(order), dtype=torch.long, device=embedded.device)
    back[torch.tensor(order, device=embedded.device)] = torch.arange(len(order), device=embedded.device)
    return list(embedded[back].split([len(column["input_ids"]) for column in columns]))


def _fit(row: Tensor, width: int) -> Tensor:
    return row[:width] if len(row) >= width else nn.functional.pad(row, (0, width - len(row)))
