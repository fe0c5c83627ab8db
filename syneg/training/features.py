"""Turn training rows into model inputs: columns with their roles, and a collator that looks texts up by row number.

columns_of(row)                        → ["anchor", "positive", "negative_1", "negative_2"]
column_roles(row)                      → {"anchor": "query", "positive": "passage", "negative_1": "passage", …}
TextCollator(…)([{"label": 7}, …])     → {"anchor_input_ids": Tensor, …, "label": Tensor}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator

from syneg.core.records import Instance
from syneg.retrieval.encoder import TASKS
from syneg.retrieval.prompts import Role


def column_roles(row: Instance) -> dict[str, Role]:
    """column → "query" for the anchor, "passage" for all others."""
    return {name: "query" if name == "anchor" else "passage" for name in columns_of(row)}


def column_routes(row: Instance) -> dict[str, str]:
    """column → its route through a model with a Router, which embeds queries and passages differently."""
    return {name: TASKS[role] for name, role in column_roles(row).items()}


def columns_of(row: Instance) -> list[str]:
    """The names of a row's columns: the query, the positive, then each negative."""
    return ["anchor", "positive", *(f"negative_{i + 1}" for i in range(len(row.negatives)))]


def places(count: int) -> Any:
    """A data set (a `datasets.Dataset`) of the numbers 0 to `count` - 1 in the column `label`.

    `TextCollator` looks up the texts, so that the rows of an epoch are not copied into an Arrow table.
    """
    return Dataset.from_dict({"label": list(range(count))})


@dataclass
class TextCollator(SentenceTransformerDataCollator):
    """Tokenises the texts of numbered rows: [{"label": 7}, …] → anchor_input_ids (batch, length), …, label (batch,).

    `rows` are those of all epochs, one after the other; a label is a place in it.
    """

    rows: Sequence[Instance] = ()

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        """The features of a batch of rows, whose numbers are the labels."""
        names = columns_of(self.rows[0])
        texts = []
        for place in (feature["label"] for feature in features):
            row = self.rows[place]
            values = (row.pair.query, row.pair.positive, *row.negatives)
            texts.append({**dict(zip(names, values, strict=True)), "label": place})
        return super().__call__(texts)
