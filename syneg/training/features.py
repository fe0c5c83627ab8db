"""From training rows to what the model reads: columns with their roles, and a collator that looks texts up by row
number.

columns_of(row) → ["anchor", "positive", "negative_1", "negative_2"]      column_roles(row)["anchor"] → "query"
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
    """Whether each column holds queries or passages."""
    return {name: "query" if name == "anchor" else "passage" for name in columns_of(row)}


def column_routes(row: Instance) -> dict[str, str]:
    """The route of each column through a model that has two (a Router)."""
    return {name: TASKS[role] for name, role in column_roles(row).items()}


def columns_of(row: Instance) -> list[str]:
    """Names of the columns of a row: the query, the positive and each negative."""
    return ["anchor", "positive", *(f"negative_{i + 1}" for i in range(len(row.negatives)))]


def places(count: int) -> Any:
    """A data set of row numbers: `TextCollator` looks the texts up, so that no epoch's rows are copied into a table."""
    return Dataset.from_dict({"label": list(range(count))})


@dataclass
class TextCollator(SentenceTransformerDataCollator):
    """Makes features of the texts of numbered rows: [{"label": 7}, …] → anchor_input_ids …, label."""

    rows: Sequence[Instance] = ()

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        names = columns_of(self.rows[0])
        texts = []
        for place in (feature["label"] for feature in features):
            row = self.rows[place]
            values = (row.pair.query, row.pair.positive, *row.negatives)
            texts.append({**dict(zip(names, values, strict=True)), "label": place})
        return super().__call__(texts)
