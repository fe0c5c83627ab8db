"""Embed all texts of a batch together, sorted by length, in chunks with little padding.

    embed_by_length(model, [anchors, positives, negatives], embed) → one tensor (batch, dim) for each column

Column by column, each padded to its longest text, a batch of short passages takes twice as long on a CPU
(docs/lab_notes.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

_CHUNK = 32  # texts embedded at once
Features = dict[str, Any]  # a model's inputs for one column, as sentence-transformers makes them
Embed = Callable[[nn.Module, Features], Tensor]  # (model, features of n texts) → (n, dim)


def embed_by_length(model: nn.Module, columns: Sequence[Features], embed: Embed, chunk: int = _CHUNK) -> list[Tensor]:
    """Embed the columns of a batch; return one tensor (batch, dim) for each column.

    `columns` are inputs of `model`, with `input_ids` and `attention_mask` (batch, length of the longest text). Columns
    are embedded together if they agree in everything but their tokens: in their route (`task`), and in the length of
    their prompt, which some poolings leave out.
    """
    embedded: list[Tensor | None] = [None] * len(columns)
    groups: dict[str, list[int]] = {}
    for place, column in enumerate(columns):
        if _sortable(column):
            groups.setdefault(_unlike(column), []).append(place)
        else:  # images, packed rows, static embeddings: nothing to sort, or padding that must not change
            embedded[place] = embed(model, column)
    for places in groups.values():
        parts = _embed_sorted(model, [columns[place] for place in places], embed, chunk)
        for place, part in zip(places, parts, strict=True):
            embedded[place] = part
    return [part for part in embedded if part is not None]


_TOKENS = ("input_ids", "attention_mask", "token_type_ids")


def _sortable(column: Mapping[str, Any]) -> bool:
    """Whether rows may be cut and padded again: plain tokens, with padding on the right only.

    Padding on the left shifts absolute positions, so a narrower batch would give other embeddings.
    """
    mask = column.get("attention_mask")
    others = [
        key for key, value in column.items() if isinstance(value, Tensor) and value.ndim > 1 and key not in _TOKENS
    ]
    if (
        not isinstance(mask, Tensor)
        or mask.ndim != 2
        or "input_ids" not in column
        or others
        or "cu_seq_lens_q" in column
    ):
        return False
    return bool(mask.shape[1] == 0 or mask[:, 0].all())


def _unlike(column: Mapping[str, Any]) -> str:
    """The inputs other than tokens, as one text. Columns with equal texts can be embedded together."""
    return repr(sorted((key, "" if key in _TOKENS else str(value)) for key, value in column.items()))


def _embed_sorted(model: nn.Module, columns: Sequence[Features], embed: Embed, chunk: int) -> tuple[Tensor, ...]:
    """Embed columns that differ only in their tokens, with padding on the right; one tensor (batch, dim) each."""
    keys = [key for key in _TOKENS if key in columns[0]]
    rows = [{key: column[key][i] for key in keys} for column in columns for i in range(len(column["input_ids"]))]
    # all rows of all columns in one list, sorted by their number of tokens
    lengths = torch.cat([column["attention_mask"].sum(1) for column in columns]).tolist()
    order = sorted(range(len(rows)), key=lengths.__getitem__)
    extra = {key: value for key, value in columns[0].items() if key not in _TOKENS}
    parts = []
    for start in range(0, len(order), chunk):
        # a chunk is as wide as its longest row
        places = order[start : start + chunk]
        width = max(1, lengths[places[-1]])
        cut: Features = {key: torch.stack([_fit(rows[place][key], width) for place in places]) for key in keys}
        parts.append(embed(model, {**extra, **cut}))
    # back to the order of the columns: (all rows, dim), then one part for each column
    embedded = torch.cat(parts)
    back = torch.empty(len(order), dtype=torch.long, device=embedded.device)
    back[torch.tensor(order, device=embedded.device)] = torch.arange(len(order), device=embedded.device)
    return embedded[back].split([len(column["input_ids"]) for column in columns])


def _fit(row: Tensor, width: int) -> Tensor:
    """A row of tokens (length,) cut or padded with zeros to (width,)."""
    return row[:width] if len(row) >= width else nn.functional.pad(row, (0, width - len(row)))
