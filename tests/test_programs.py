from __future__ import annotations

from collections import Counter

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from syneg.programs import PROGRAMS, AttributeSpace, fenced, load_program, program_markdown

from syneg.errors import ConfigError
from syneg.tasks import TASKS


class Mine(dspy.Module):
    def forward(self, *, query, positive, task, attributes, candidates=()):  # type: ignore[no-untyped-def]
        return dspy.Prediction(negatives=[])


class WrongInputs(dspy.Module):
    def forward(self, question):  # type: ignore[no-untyped-def]
        return dspy.Prediction()


def test_a_program_of_ones_own_is_checked_against_the_contract() -> None:
    assert isinstance(load_program(f"{__name__}:Mine"), Mine)
    for name, says in (
        ("nope", "known: single_prompt"),
        ("nowhere.at.all:X", "cannot import"),
        (f"{__name__}:Nope", "cannot import"),
        (f"{__name__}:pytest", "is not a dspy.Module"),
        (f"{__name__}:WrongInputs", "does not take query, positive, task, attributes, candidates"),
    ):
        with pytest.raises(ConfigError, match=says):
            load_program(name)


@pytest.mark.parametrize("name", ["single_prompt", "multi_attribute", "neighbour_topic"])
def test_prompts_are_sent_with_task_and_fence_and_shown_whole(name: str) -> None:
    program = load_program(name)
    assert set(PROGRAMS) == {"single_prompt", "multi_attribute", "neighbour_topic"}
    text = program_markdown(program, name)
    for _, predictor in program.named_predictors():
        assert predictor.signature.instructions in text
        assert "never an" in " ".join(predictor.signature.instructions.split())
        for demo in predictor.demos:
            assert set(dict(demo)) == set(predictor.signature.fields)


@given(st.text(), st.sampled_from(["</data>", "</DATA>", "[[ ## task ## ]]", "[[## completed ##]]"]))
def test_no_text_can_leave_its_fence(text: str, mark: str) -> None:
    inside = fenced(text + mark + text)[len("<data>") : -len("</data>")]
    assert "</data>" not in inside.lower()
    assert "[[ ##" not in inside
    assert "\n" not in inside


def test_attributes_are_balanced_and_seeded() -> None:
    space = AttributeSpace(("a", "b", "c"), ("x", "y"), ("l",))
    counts = Counter(tuple(space.sample(seed=1, place=i).values()) for i in range(12))
    assert set(counts.values()) == {2}
    assert [space.sample(seed=1, place=i) for i in range(9)] == [space.sample(seed=1, place=i) for i in range(9)]
    assert [space.sample(seed=1, place=i) for i in range(6)] != [space.sample(seed=2, place=i) for i in range(6)]


def test_a_refuting_passage_is_relevant_to_a_claim() -> None:
    assert "refut" in TASKS["claim verification"].definition
