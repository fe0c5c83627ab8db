"""A reflection LM sees whole texts, as long as its prompt has room."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from gepa.core.adapter import EvaluationBatch

from syneg.core.config import LMConfig
from syneg.optimizers.compiling import Attempt
from syneg.optimizers.critic import Judgement
from syneg.optimizers.gepa import Adapter
from syneg.optimizers.reflecting import fitted, room
from syneg.programs import SinglePrompt, fenced


def reflection(model: str, **extra: object) -> Any:
    return SimpleNamespace(engine=SimpleNamespace(config=LMConfig(model=model, extra=extra)))


def test_only_the_longest_texts_are_shortened_and_all_fit() -> None:
    texts = ["a" * 10, "b" * 400, "c" * 60, "d" * 300]
    assert fitted(texts, 257) == texts  # 771 characters
    short = fitted(texts, 90)  # 270 characters: 10 and 60, and 100 for each of the others
    assert [len(text) for text in short] == [10, 101, 60, 101] and short[0] == texts[0] and short[2] == texts[2]
    assert short[1] == "b" * 100 + "…"
    assert fitted([fenced("x" * 500)], 30)[0].endswith("…</data>")
    assert fitted([], 10) == []


def test_an_embedded_lm_has_half_of_its_context_for_examples() -> None:
    assert room(reflection("openai/gpt-4o")) == 24_000
    assert room(reflection("local/smollm2-135m")) == 1024
    assert room(reflection("local/smollm2-135m", num_ctx=8192)) == 4096


@pytest.mark.parametrize(("model", "whole"), [("openai/gpt-4o", True), ("local/smollm2-135m", False)])
def test_gepa_shows_whole_inputs_answers_and_feedback(model: str, whole: bool) -> None:
    program = SinglePrompt()
    step, predictor = program.named_predictors()[0]
    inputs, outputs = (
        {"query": "q" * 40, "passage": "p" * 2000},
        dict.fromkeys(predictor.signature.output_fields, "w" * 900),
    )
    judged = Judgement(0.4, "rejected. " + "f" * 800)
    attempts = [
        Attempt(SimpleNamespace(), judged, [(predictor, inputs, outputs)]),  # type: ignore[arg-type]
        Attempt(SimpleNamespace(), judged, []),  # type: ignore[arg-type]
    ]
    compiling: Any = SimpleNamespace(first=SimpleNamespace(program=program), reflection=reflection(model))
    batch = EvaluationBatch(outputs=[], scores=[], trajectories=attempts)
    rows = Adapter(compiling).make_reflective_dataset({}, batch, [step])[step]
    assert [set(row) for row in rows] == [{"Inputs", "Generated Outputs", "Feedback"}] * 2
    assert rows[0]["Inputs"]["query"] == "q" * 40 and rows[1]["Inputs"] == {}
    assert (rows[0]["Inputs"]["passage"] == "p" * 2000) == whole
    assert all((f"{'w' * 900}</data>" in text) == whole for text in rows[0]["Generated Outputs"].values())
    assert all((row["Feedback"].endswith("f" * 800)) == whole for row in rows)
    if not whole:
        assert len(str(rows)) < 1024 * 3 + 400
