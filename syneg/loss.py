"""InfoNCE over the positive, the instance's negatives and everything else in the batch (van den Oord et al., 2018).

    rows 0 and 1 in a batch, 2 negatives each: query 0 is scored against 6 texts, [p0 p1 n00 n10 n01 n11], target p0

Texts that are known to be relevant to a query are masked for it, wherever in the batch they stand, by normalised text;
so is padding. With a guide (the untuned encoder), so are texts of other rows that it puts over a share of the positive's
score (the 95 % rule inside the batch; compare GISTEmbed, arXiv 2402.16829). A weight w multiplies a negative's share of the softmax: log w is added to its score. With weights of 1
and no mask this is sentence-transformers' MultipleNegativesRankingLoss with scale = 1 / temperature.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .records import Instance, normalise


@dataclass(frozen=True)
class Guide:
    """Embeddings of a frozen encoder, unit length: `queries` (rows, dim), `texts[text]` (dim,); masked over `margin`."""

    queries: np.ndarray
    texts: Mapping[str, np.ndarray]
    margin: float


class HybridInfoNCE(nn.Module):
    """`relevant[query_id]` are the texts of all passages known to be relevant; labels are row numbers of `instances`."""

    def __init__(
        self,
        model: nn.Module,
        instances: Sequence[Instance],
        relevant: Mapping[str, Iterable[str]],
        temperature: float,
        guide: Guide | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature
        ids: dict[str, int] = {}

        def number(text: str) -> int:
            return ids.setdefault(normalise(text), len(ids))

        self._texts = [[number(text) for text in (row.pair.positive, *row.negatives)] for row in instances]
        in_rows = len(ids)
        self._relevant = [
            {number(text) for text in (*relevant.get(row.pair.query_id, ()), row.pair.positive)} for row in instances
        ]
        self._weights = torch.tensor([[1.0, *row.weights] for row in instances])
        self._guide = guide
        if guide is not None:
            vectors = np.zeros((in_rows, guide.queries.shape[1]), np.float32)  # padding stays at zero
            for text, vector in guide.texts.items():
                vectors[number(text)] = vector
            self._guide_texts, self._guide_queries = torch.from_numpy(vectors), torch.from_numpy(guide.queries)

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
        if self._guide is not None:
            scores = self._guide_queries[rows] @ self._guide_texts[numbers].T
            over = scores > self._guide.margin * scores.diagonal().unsqueeze(1)  # column i is the positive of row i
            foreign = torch.tensor([[j % len(rows) != i for j in range(len(numbers))] for i in range(len(rows))])
            bias[over & foreign] = -torch.inf
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
