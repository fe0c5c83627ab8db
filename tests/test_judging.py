"""What a judge's unreadable answers count for: against the judge, and never for the text."""

from __future__ import annotations

from typing import Any

import pytest

from syneg.core.config import GatesConfig, JudgeConfig
from syneg.core.records import GateVerdict, HardNegative, Pair
from syneg.negatives import calibration, judging
from syneg.negatives.calibration import Labelled, calibrate
from syneg.negatives.gates import ANSWERS
from syneg.negatives.generation import Draft
from syneg.negatives.judging import ask_judge

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
