from __future__ import annotations

import numpy as np
import pytest

from syneg.data.collection import Collection
from syneg.verdict.boundary import Scores, boundary_scores, boundary_values

VECTORS = {
    "query one": [1.0, 0.0], "query two": [0.0, 1.0], "good": [0.8, 0.0], "good too": [0.9, 0.0], "two": [0.0, 0.5],
    "near": [0.85, 0.0], "nearer": [0.95, 0.0], "far": [0.1, 0.2],
}  # fmt: skip


class Table:
    """Stands for an encoder."""

    def encode(self, texts: list[str], role: str) -> np.ndarray:
        return np.array([VECTORS[text] for text in texts], np.float32)


def collection() -> Collection:
    passages = {"d1": "good", "d2": "good too", "d3": "two"}
    qrels = {"q1": {"d1": 1, "d2": 1}, "q2": {"d3": 1}}
    splits = {"train": (), "dev": (), "confirm": (), "test": ("q1", "q2")}
    return Collection("t", passages, {"q1": "query one", "q2": "query two"}, qrels, splits)


def test_near_misses_are_held_against_the_nearest_positive() -> None:
    near = {"q1": ["near", "nearer"], "q2": ["far"]}
    scores = boundary_scores(Table(), collection(), near)  # type: ignore[arg-type]
    assert scores.positive == pytest.approx({"q1": 0.9, "q2": 0.5})
    assert scores.owner == {"near-0": "q1", "near-1": "q1", "near-2": "q2"}
    assert scores.near["q2"] == pytest.approx({"near-0": 0, "near-1": 0, "near-2": 0.2})
    ranking = {"q1": {"d1": 0.8, "d2": 0.9, "d3": 0.0}, "q2": {"d3": 0.5, "d1": 0.0}}
    found = boundary_values(scores, ranking, collection().qrels)
    assert found["accuracy"] == {"q1": 0.5, "q2": 1.0}
    ideal = 1 + 1 / np.log2(3)
    # nearer (.95), d2, near, d1, …
    assert found["ndcg@10"] == pytest.approx({"q1": (1 / np.log2(3) + 1 / np.log2(5)) / ideal, "q2": 1.0})


def test_a_tie_is_no_win() -> None:
    scores = Scores({"q": 0.5}, {"q": {"near-0": 0.5}}, {"near-0": "q"})
    assert boundary_values(scores, {"q": {"d": 0.5}}, {"q": {"d": 1}})["accuracy"] == {"q": 0.0}
