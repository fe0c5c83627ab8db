"""What a judge's unreadable answers count for: against the judge, and never for the text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FakeLM

from syneg.core.config import GatesConfig, JudgeConfig, LMConfig
from syneg.core.records import Draft, GateVerdict, HardNegative, Pair
from syneg.data.collection import Collection
from syneg.llm.ledger import Ledger
from syneg.llm.lms import LanguageModel
from syneg.negatives import calibration, judging
from syneg.negatives.calibration import Labelled, calibrate
from syneg.negatives.gates import ANSWERS
from syneg.negatives.judging import ask_all, ask_judge, compare
from syneg.programs import Judge
from syneg.retrieval.indexes import DenseIndex

Answers = list[tuple[bool, str] | None]


class NamedLM:
    identity = "a judge"


def answering(monkeypatch: pytest.MonkeyPatch, module: Any, answers: Answers) -> None:
    monkeypatch.setattr(module, "ask_all", lambda *asked: answers)


def test_unreadable_answers_count_as_wrong_in_kappa(monkeypatch: pytest.MonkeyPatch) -> None:
    questions = [Labelled(f"q{i}", "q", "p", "t", i < 20, "yes" if i < 20 else "no") for i in range(40)]
    answering(monkeypatch, calibration, [(True, "")] * 20 + [(False, "")] * 8 + [None] * 12)
    measured = calibrate(questions, None, NamedLM(), JudgeConfig(min_kappa=0.5))  # type: ignore[arg-type]
    # 28 of 40 right; by chance .5 * (32 / 40) + .5 * (8 / 40) = .5
    assert measured.accuracy == pytest.approx(28 / 40)
    assert measured.kappa == pytest.approx((28 / 40 - 1 / 2) / (1 - 1 / 2))
    assert not measured.trusted


@pytest.mark.parametrize(
    ("answer", "figures", "reason"),
    [
        (None, {"query_cosine": 0.6, "positive_query_cosine": 0.6}, "over the margin of the positive"),
        (None, {"query_cosine": 0.5, "positive_query_cosine": 0.6}, ""),
        (None, {}, ""),
        ((False, ""), {"query_cosine": 0.6, "positive_query_cosine": 0.6}, ""),
        ((True, "words"), {"query_cosine": 0.5, "positive_query_cosine": 0.6}, ANSWERS),
    ],
)
def test_the_margin_decides_where_the_judge_gives_no_verdict(
    answer: tuple[bool, str] | None, figures: dict[str, float], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, judging, [answer])
    draft = Draft(Pair("q", "query", "d", "positive"), HardNegative("t", "p"), GateVerdict("", figures=figures))
    (judged,) = ask_judge([draft], None, None, "task", GatesConfig(margin=0.95))  # type: ignore[arg-type]
    assert judged.verdict.reason == reason
    assert judged.verdict.figures == figures


class DotEncoder:
    """Two-dimensional embeddings by text, compared by dot product."""

    similarity = "dot"

    def __init__(self, vectors: dict[str, tuple[float, float]]) -> None:
        self.vectors = vectors

    def encode(self, texts: Any, role: str, progress: Any = None) -> np.ndarray:
        return np.array([self.vectors[text] for text in texts], np.float32).reshape(len(texts), 2)

    def index(self, passages: dict[str, str]) -> DenseIndex:
        return DenseIndex.of(passages, self)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("written", "reason", "corpus_cosine"),
    [
        ((0.3, 0.1), "means the same as a positive", 1.0),  # short, in the direction of the positive
        ((1.0, 3.0), "", 1.0),  # long, in another direction
    ],
)
def test_passages_are_compared_by_cosine_under_a_dot_product_encoder(
    written: tuple[float, float], reason: str, corpus_cosine: float
) -> None:
    encoder = DotEncoder({"query": (1, 0), "positive": (3, 1), "long": (40, -40), "twin": (0.1, 0.3), "text": written})
    passages = {"d": "positive", "l": "long", "t": "twin"}
    collection = Collection("c", passages, {"q": "query"}, {"q": {"d": 1}}, {"train": ("q",)})
    draft = Draft(Pair("q", "query", "d", "positive"), HardNegative("text", "p"), GateVerdict(""))
    (compared,) = compare([draft], collection, encoder, GatesConfig(floor=0), judged=False)  # type: ignore[arg-type]
    assert compared.verdict.reason == reason
    assert compared.verdict.figures["corpus_cosine"] == pytest.approx(corpus_cosine, abs=1e-3)
    # the query's score is the encoder's own: dot products of 1 (or .3) and 3
    assert compared.verdict.figures["positive_query_cosine"] == pytest.approx(3)
    assert compared.verdict.figures["query_cosine"] == pytest.approx(written[0])


def test_deeply_nested_json_of_a_judge_is_no_verdict(fake_lm: Callable[..., FakeLM], tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "calls.jsonl")
    server = fake_lm(lambda messages: (200, f'{{"span": {"[" * 5000}'))
    judge_lm = LanguageModel.open(LMConfig(model="openai/fake", api_base=server.url, retries=0), ledger)
    assert ask_all([("q", "close a socket", "the socket is closed")], Judge(), judge_lm, "task") == [None]
    ledger.close()
