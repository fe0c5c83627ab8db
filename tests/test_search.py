"""The recipe `search`: proposals side by side, losers stopped early, two good programs merged, failures shown in full."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from test_compile_reader import Messages, opened, reads_badly, reads_well  # noqa: F401 a fixture among them
from test_reading import sparse  # noqa: F401 a fixture

from syneg.core.config import CompileConfig
from syneg.optimizers import Candidate, Worth, search
from syneg.optimizers.compiling import Compiling
from syneg.optimizers.proposing import Proposal, planned, proposed
from syneg.optimizers.register import Register, chance
from syneg.optimizers.search import behind, telling
from syneg.programs import GradeList, NeighbourRewrite
from syneg.run.pipeline import Run

Opened = Callable[..., Run]


def candidate(number: int, *values: float, program: Any = None) -> Candidate:
    answers = {f"q{i}": Worth(value, "") for i, value in enumerate(values)}
    return Candidate(str(number), program or GradeList(), number, answers)


def test_proposals_of_a_round_are_asked_for_side_by_side(opened: Opened) -> None:  # noqa: F811
    together = threading.Barrier(3, timeout=60)
    numbers = iter(range(9))

    def answer(messages: Messages) -> tuple[int, str]:
        if "better_instruction" in str(messages):
            together.wait()
            return 200, json.dumps({"better_instruction": f"Grade them, the way with number {next(numbers)}."})
        return reads_badly(messages)

    settings = {"compile.proposals": 5, "compile.width": 5, "lm.concurrency": 5, "compile.confirm": False}
    outcome = opened(answer, **settings).until("compile")
    rows = outcome["candidates"]
    assert len(rows) == 6 and [bool(row["demos"]["grade"]) for row in rows] == [False, False, True, False, True, False]
    ideas = {row["origin"] for row in rows if row["origin"].startswith("from 0: ")}
    assert len(ideas) == 3


def test_the_programs_that_are_chosen_among_answer_side_by_side(opened: Opened) -> None:  # noqa: F811
    served, together, guard = {"0": 0, "1": 0}, threading.Barrier(16, timeout=60), threading.Lock()

    def answer(messages: Messages) -> tuple[int, str]:
        text = str(messages)
        if "better_instruction" in text:
            return 200, json.dumps({"better_instruction": "Grade them the OTHER way."})
        with guard:
            served[number := str(int("OTHER" in text))] += 1
            # a third of the examples is answered before the choice; the reader is measured after it
            is_rest = 4 < served[number] <= 12
        if is_rest:
            together.wait()
        return reads_badly(messages)

    settings = {"compile.pairs": 12, "compile.proposals": 1, "lm.concurrency": 16, "compile.confirm": False}
    outcome = opened(answer, **settings).until("compile")
    assert [row["pairs"] for row in outcome["candidates"]] == [12, 12]
    assert min(served.values()) == 12


def test_a_losing_candidate_is_stopped_early(opened: Opened) -> None:  # noqa: F811
    def answer(messages: Messages) -> tuple[int, str]:
        text = str(messages)
        if "better_instruction" in text:
            return 200, json.dumps({"better_instruction": "Grade them UPSIDE down."})
        return reads_badly(messages) if "UPSIDE" in text else reads_well(messages)

    settings = {"compile.pairs": 36, "compile.proposals": 1, "compile.confirm": False}
    first, loser = opened(answer, **settings).until("compile")["candidates"]
    assert loser["stopped"].startswith("behind program 0 after ") and loser["pairs"] < 36 // 3
    assert not first["stopped"]


def test_nothing_is_proposed_where_the_first_program_is_perfect(
    opened: Opened,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def answer(messages: Messages) -> tuple[int, str]:
        asked.append(str(messages))
        return reads_well(messages)

    monkeypatch.setattr(search, "_PERFECT", 0.3)  # its lists have other passages as good as the judged one
    outcome = opened(answer, **{"compile.pairs": 12, "compile.proposals": 3, "compile.confirm": False}).until("compile")
    assert not [text for text in asked if "better_instruction" in text]
    assert [row["pairs"] for row in outcome["candidates"]] == [12] and not outcome["won"]


def test_proposals_are_tried_where_the_first_program_fails() -> None:
    first = candidate(0, *[1.0] * 10, 0.3, 0.2)
    compiling: Any = SimpleNamespace(first=first, ids=list(first.answers), answer=lambda programs, ids: None)
    assert telling(compiling, ["q10", "q0"]) == ["q10", "q0"]
    assert telling(compiling, ["q0", "q1", "q2"]) == ["q11", "q10", "q0"]
    first.answers.update({"q10": Worth(1.0, ""), "q11": Worth(1.0, "")})
    assert telling(compiling, ["q0", "q1"]) == []


@pytest.mark.parametrize(
    ("values", "lost"),
    [
        ((0.1, 0.2, 0.1, 0.3), True),
        ((0.9, 0.8, 0.9, 0.9), False),
        ((0.4, 0.4, 0.4, 0.4), True),  # always by the same
        ((0.5, 0.5, 0.5, 0.5), False),
        ((0.1, 0.9, 0.2, 0.8), False),
        ((0.0, 0.0), False),  # too few to tell
    ],
)
def test_behind_by_paired_confidence(values: tuple[float, ...], lost: bool) -> None:
    leader = candidate(0, 0.5, 0.5, 0.5, 0.5)
    assert behind(candidate(1, *values), leader) == lost
    assert not behind(leader, leader)


def around(*candidates: Candidate, proposals: int = 4, ask: Callable[..., Any] | None = None) -> Any:
    """What planning asks of a compilation."""
    return SimpleNamespace(
        config=CompileConfig(proposals=proposals), first=candidates[0], register=Register(),
        target=SimpleNamespace(ideas=("one", "two", "three"), does="grades"),
        ranked=lambda: sorted(candidates, key=lambda c: -c.mean),
    )  # fmt: skip


def test_parents_and_ideas_of_a_round_differ_and_the_worst_answers_are_shown() -> None:
    first, better, best = candidate(0, 0.5, 0.1), candidate(1, 0.7, 0.1), candidate(2, 0.9, 0.2)
    plans = planned(around(first, better, best, proposals=9), ["q0", "q1"], [], range(3), random.Random(0))
    assert [plan.parent.number for plan in plans] == [0, 1, 0]
    assert [plan.idea for plan in plans] == ["one", "two", "three"]
    assert [list(plan.examples) for plan in plans] == [["q1", "q0"]] * 3


def test_two_good_programs_are_merged_without_a_call_where_they_changed_other_steps() -> None:
    first, one, two = NeighbourRewrite(), NeighbourRewrite(), NeighbourRewrite()
    (a, _), (b, _) = first.named_predictors()
    predictors = [dict(program.named_predictors()) for program in (one, two)]
    predictors[0][a].signature = predictors[0][a].signature.with_instructions("A new way.")
    predictors[1][b].signature = predictors[1][b].signature.with_instructions("B new way.")
    candidates = candidate(0, 0.1, program=first), candidate(1, 0.3, program=one), candidate(2, 0.2, program=two)
    (plan,) = planned(around(*candidates), ["q0"], [], range(3, 4), random.Random(0))
    assert plan.origin == "merged from 1 and 2"
    merged = dict(proposed(around(*candidates), plan).named_predictors())  # type: ignore[union-attr]
    assert (merged[a].signature.instructions, merged[b].signature.instructions) == ("A new way.", "B new way.")
    assert predictors[0][b].signature.instructions != "B new way."


def test_two_instructions_of_one_step_are_joined_by_the_lm(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = GradeList(), GradeList()
    one.grade.signature = one.grade.signature.with_instructions("Grade by CARE.")
    two.grade.signature = two.grade.signature.with_instructions("Grade by words.")
    candidates = candidate(0, 0.1), candidate(1, 0.3, program=one), candidate(2, 0.2, program=two)
    ideas: list[str] = []

    def joined(compiling: Any, parent: Candidate, name: str, examples: Any, idea: str) -> str:
        ideas.append(idea)
        return "Grade by both."

    monkeypatch.setattr("syneg.optimizers.proposing.instruction_for", joined)
    merged = proposed(around(*candidates), Proposal(candidates[1], "grade", "", other=candidates[2]))
    assert merged.grade.signature.instructions == "Grade by both." and "Grade by words." in ideas[0]  # type: ignore[union-attr]


def test_the_reflection_lm_sees_whole_texts_and_a_far_too_long_answer_is_not_taken(opened: Opened) -> None:  # noqa: F811
    shown: list[str] = []
    long = " ".join(f"word{i}" for i in range(150))

    def answer(messages: Messages) -> tuple[int, str]:
        text = str(messages)
        if "better_instruction" in text:
            shown.append(text)
            return 200, json.dumps({"better_instruction": f"{long} and {len(shown)}" if len(shown) < 3 else long * 2})
        return reads_badly(messages)

    settings = {"compile.proposals": 5, "compile.width": 1, "compile.confirm": False}
    outcome = opened(answer, **settings).until("compile")
    assert any("word149 and 1" in text for text in shown[1:])  # an instruction that was tried, to its end
    assert "it should have had 3" in shown[0] and "slowly" in shown[0]
    longest = max(len(row["instructions"]["grade"].split()) for row in outcome["candidates"])
    assert longest < 190


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0.9, 0.8, 0.9, 0.8, 0.9, 0.8), "program 1: +0.350 ± 0.022 over the first on 6 examples, the best so far (p "),
        ((0.5, 0.5, 0.5, 0.5, 0.5, 0.9), "program 1: +0.067 ± 0.067 over the first on 6 examples, no program leads by more, but within chance (p 0.18)"),
    ],
)  # fmt: skip
def test_it_is_said_how_sure_a_lead_is(values: tuple[float, ...], said: str) -> None:
    first, other, told = candidate(0, *[0.5] * 6), candidate(1), list[str]()
    compiling: Any = object.__new__(Compiling)
    compiling.first, compiling._best, compiling._least, compiling._lock = first, 0.0, 6, threading.Lock()
    compiling.register, compiling.say = SimpleNamespace(candidates={"1": other}), told.append
    compiling.target = SimpleNamespace(judge=lambda example_id, value: Worth(value.worth, ""))
    for number, value in enumerate(values):
        compiling.judge(f"q{number}", SimpleNamespace(candidate="1", worth=value))
    assert len(told) == 1 and told[0].startswith(said)


def test_chance_is_a_one_sided_paired_test() -> None:
    assert chance([0.1, 0.2, 0.3]) == pytest.approx(0.0371, abs=1e-4)  # t = 3.46 with two degrees of freedom
    assert [chance(leads) for leads in ([], [0.5], [0.2, 0.2], [0.0, 0.0], [-0.2, -0.2])] == [1.0, 1.0, 0.0, 1.0, 1.0]
