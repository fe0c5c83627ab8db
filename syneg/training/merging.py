"""Arrange all texts of a batch in chunks with little padding: sorted by length, and equal ones only once.

    embed_by_length(model, [anchors, positives, negatives], embed) → one tensor (batch, dim) for each column
    Layout.of([anchors, positives, negatives], Chunks()).chunks    → the same texts as inputs of the model

Column by column, each padded to its longest text, a batch of short passages takes twice as long on a CPU
(docs/lab_notes.md). In large batches many rows share a passage: of 256 rows of SciFact, 14 % of the texts are repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Features = dict[str, Any]  # a model's inputs for one column, as sentence-transformers makes them
Embed = Callable[[nn.Module, Features], Tensor]  # (model, features of n texts) → (n, dim)


@dataclass(frozen=True)
class Chunks:
    """How texts are put together: `texts` in a chunk, and more as long as it has at most `tokens` with its padding.

    With `once`, equal texts are embedded once. This is exact only without dropout. It reads tokens on the CPU only.
    """

    texts: int = 32
    tokens: int = 0
    once: bool = False


@dataclass(frozen=True)
class Layout:
    """`chunks` are inputs of the model, and `columns` turns their embeddings back into columns.

    `groups` are (places of columns, number of chunks, `back`): `back` (texts of these columns,) is the place of each
    text among the texts of these chunks. It is None for a column that is a chunk as it is.
    """

    chunks: list[Features]
    groups: list[tuple[list[int], int, Tensor | None]]
    sizes: list[int]

    @classmethod
    def of(cls, columns: Sequence[Features], how: Chunks) -> Layout:
        """Arrange the columns of a batch: inputs of a model, with `input_ids` and `attention_mask` (batch, length).

        Columns are put together if they agree in everything but their tokens: in their route (`task`), and in the
        length of their prompt, which some poolings leave out.
        """
        alike: dict[str, list[int]] = {}
        layout = cls([], [], [len(column["input_ids"]) if _sortable(column) else 0 for column in columns])
        for place, column in enumerate(columns):
            if _sortable(column):
                alike.setdefault(_unlike(column), []).append(place)
            else:  # images, packed rows, static embeddings: nothing to sort, or padding that must not change
                layout.chunks.append(column)
                layout.groups.append(([place], 1, None))
        for places in alike.values():
            chunks, back = _sorted([columns[place] for place in places], how)
            layout.chunks.extend(chunks)
            layout.groups.append((places, len(chunks), back))
        return layout

    def columns(self, embedded: Sequence[Tensor]) -> list[Tensor]:
        """One tensor (batch, dim) for each column, from the embeddings (texts, dim) of each chunk."""
        found: dict[int, Tensor] = {}
        rest = iter(embedded)
        for places, count, back in self.groups:
            parts = [next(rest) for _ in range(count)]
            if back is None:
                found[places[0]] = parts[0]
                continue
            whole = torch.cat(parts)
            split = whole[back.to(whole.device)].split([self.sizes[place] for place in places])
            found.update(zip(places, split, strict=True))
        return [found[place] for place in range(len(self.sizes))]


def embed_by_length(
    model: nn.Module, columns: Sequence[Features], embed: Embed, how: Chunks | None = None
) -> list[Tensor]:
    """Embed the columns of a batch (see `Layout.of`); return one tensor (batch, dim) for each column."""
    layout = Layout.of(columns, how or Chunks())
    return layout.columns([embed(model, chunk) for chunk in layout.chunks])


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


def _sorted(columns: Sequence[Features], how: Chunks) -> tuple[list[Features], Tensor]:
    """The chunks of columns that differ only in their tokens, with padding on the right, and the place of each text."""
    keys = [key for key in _TOKENS if key in columns[0]]
    rows = [{key: column[key][i] for key in keys} for column in columns for i in range(len(column["input_ids"]))]
    lengths = torch.cat([column["attention_mask"].sum(1) for column in columns]).tolist()
    first = list(range(len(rows)))  # for each text, the first text that equals it
    if how.once and rows and rows[0]["input_ids"].device.type == "cpu":
        seen: dict[bytes, int] = {}
        for place, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            content = b"".join(row[key][:length].numpy().tobytes() for key in keys)
            first[place] = seen.setdefault(content, place)
    order = sorted(dict.fromkeys(first), key=lengths.__getitem__)
    extra = {key: value for key, value in columns[0].items() if key not in _TOKENS}
    chunks = []
    for places in _cut(order, lengths, how):
        # a chunk is as wide as its longest row
        width = max(1, lengths[places[-1]])
        cut: Features = {key: torch.stack([_fit(rows[place][key], width) for place in places]) for key in keys}
        chunks.append({**extra, **cut})
    at = {place: i for i, place in enumerate(order)}
    return chunks, torch.tensor([at[place] for place in first], dtype=torch.long)


def _cut(order: Sequence[int], lengths: Sequence[int], how: Chunks) -> Iterator[Sequence[int]]:
    """Cut `order`, which is sorted by length, into the texts of each chunk."""
    start = 0
    while start < len(order):
        end = min(start + how.texts, len(order))
        while end < len(order) and (end + 1 - start) * lengths[order[end]] <= how.tokens:
            end += 1
        yield order[start:end]
        start = end


def _fit(row: Tensor, width: int) -> Tensor:
    """A row of tokens (length,) cut or padded with zeros to (width,)."""
    return row[:width] if len(row) >= width else nn.functional.pad(row, (0, width - len(row)))
