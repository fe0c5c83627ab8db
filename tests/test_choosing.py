"""Candidates are compared fairly, and the right one wins: the pairs, the guard, the confirm split, the LMs asked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import FakeLM
from test_compile import GOOD, Chosen, negative_for, opened, scripted  # noqa: F401 a fixture among them
from tqdm import tqdm

from syneg.core.errors import DataError
from syneg.core.progress import Progress, Tick
from syneg.core.records import Draft, HardNegative
from syneg.optimizers import Candidate, Compiling, Judgement, Score, choose
from syneg.optimizers.recipes import quiet
from syneg.programs import NeighbourRewrite, SinglePrompt
from syneg.run.compile_writer import Tried
from syneg.run.pipeline import Run

Opened = Callable[..., Run]
Messages = list[dict[str, Any]]
WAYS = "slow quick plain short long odd even bold calm dry"


def held(monkeypatch: pytest.MonkeyPatch) -> list[Compiling]:
    """Stop after the proposals; the compilation is in the list."""
    compilations: list[Compiling] = []

    def keep(compiling: Compiling, tick: Tick) -> list[Candidate]:
        compilations.append(compiling)
        return [compiling.first]

    monkeypatch.setattr("syneg.run.compile.choose", keep)
    return compilations


def proposing(messages: Messages) -> tuple[int, str]:
    """A new instruction each time."""
    text = str(messages)
    if "better_instruction" in text:
        return 200, json.dumps({"better_instruction": f"Write in a {WAYS.split()[len(text) % 10]} way: {len(text)}."})
    return scripted(messages)


def test_search_compares_candidates_on_the_same_pairs(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    compilations = held(monkeypatch)
    opened(proposing, **{"compile.optimizer": "search", "compile.proposals": 5}).until("compile")
    pairs = [set(candidate.answers) for candidate in compilations[0].register.candidates.values()]
    assert len(pairs) > 3
    assert all(ids == pairs[0] for ids in pairs) and len(pairs[0]) == 24 // 3


def test_a_candidate_that_met_easy_pairs_does_not_lead() -> None:
    def candidate(number: int, **values: float) -> Candidate:
        return Candidate(str(number), SinglePrompt(), number, {q: Judgement(v, "") for q, v in values.items()})

    first = candidate(0, a=0.9, b=0.9, c=0.1, d=0.1)
    easy, hard = candidate(1, a=0.8, b=0.8), candidate(2, c=0.3, d=0.5)
    assert easy.mean > first.mean > hard.mean
    assert (easy.lead(first), hard.lead(first)) == (pytest.approx(-0.1), pytest.approx(0.3))
    assert candidate(3, x=1.0).lead(first) == 0.0
    register = SimpleNamespace(candidates={c.key: c for c in (first, easy, hard)})
    around = SimpleNamespace(register=register, first=first, copied=lambda candidate: "", _least=2)
    assert [c.number for c in Compiling.ranked(around)] == [2, 0, 1]  # type: ignore[arg-type]


def test_what_was_tried_are_instructions_of_the_step_that_is_improved(
    opened: Opened,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held(monkeypatch)
    shown: list[tuple[str, str]] = []
    steps = {name: p.signature.instructions for name, p in NeighbourRewrite().named_predictors()}
    assert len(steps) == 2

    def answer(messages: Messages) -> tuple[int, str]:
        text = str(messages[-1]["content"])
        if "better_instruction" in str(messages):
            own, tried = text.split("tried", 1)
            shown.append((own, tried))
            return 200, json.dumps(
                {"better_instruction": f"Step {len(shown) % 2}, in a {WAYS.split()[len(shown)]} way."}
            )
        passage = "slowly and twice the lock is merged again"
        return 200, json.dumps({"topic": "the lock", "passage": passage, "hard_negative": passage})

    run = opened(
        answer,
        **{
            "compile.optimizer": "search", "compile.proposals": 4, "compile.width": 1,
            "generate.program": "neighbour_rewrite",
        },
    )  # fmt: skip
    run.until("compile")
    assert len(shown) == 4
    starts = [" ".join(text.split()[:6]) for text in steps.values()]
    for number, (own, tried) in enumerate(shown):
        assert starts[(number + 1) % 2] not in " ".join(tried.replace("\\n", " ").split())
        assert starts[number % 2] in " ".join(tried.replace("\\n", " ").split()), (own, tried)


@pytest.mark.parametrize(("candidate", "first", "wins"), [(0.9, 0.5, True), (0.5, 0.9, False), (0.5, 0.5, False)])
def test_the_candidate_wins_only_where_its_training_does_better(
    candidate: float,
    first: float,
    wins: bool,
    opened: Opened,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is trained on says whose it is: only the candidate's texts have the planted word."""

    def measured(trials: Any, workspace: Any, drafts: list[Draft], near: Any, label: str) -> Tried:
        texts = [draft.negative.text for draft in drafts if draft.accepted]
        value = candidate if all("NEARMISS" in text for text in texts) else first
        return Tried({f"q{i}": value + i / 1000 for i in range(4)})

    def last_first(compiling: Any, tick: Tick) -> list[Candidate]:
        return sorted(compiling.register.candidates.values(), key=lambda candidate: -candidate.number)

    monkeypatch.setattr("syneg.run.compile_writer._trained", measured)
    monkeypatch.setattr("syneg.run.compile.choose", last_first)
    outcome = opened(**{"compile.optimizer": "search", "compile.proposals": 1}).until("compile")
    assert outcome["won"] == wins
    assert outcome["confirmed"]["candidate"] == 1
    assert outcome["confirmed"]["delta"] == pytest.approx(candidate - first)
    assert ("NEARMISS" in json.dumps(outcome["state"])) == wins


@pytest.mark.parametrize("recipe", ["search", "copro"])
def test_a_copying_instruction_is_not_used_however_well_it_scores(recipe: str, opened: Opened) -> None:  # noqa: F811
    passages: list[str] = []

    def answer(messages: Messages) -> tuple[int, str]:
        text = str(messages)
        if "better_instruction" in text or "proposed_instruction" in text:
            quoted = f"{GOOD} Such as: {passages[0]}"
            return 200, json.dumps(
                {"better_instruction": quoted, "proposed_instruction": quoted, "proposed_prefix_for_output_field": "P:"}
            )
        return scripted(messages)

    run = opened(
        answer, **{"compile.optimizer": recipe, "compile.confirm": False, "compile.proposals": 2, "compile.pairs": 8}
    )
    passages.append(run.workspace.pairs[0].positive)
    outcome = run.until("compile")
    assert not outcome["won"]
    copies = [row for row in outcome["candidates"] if row["copies"]]
    assert copies
    if recipe == "search":
        assert {row["pairs"] for row in copies} == {0}  # it is not even tried
    else:
        assert max(row["critic"] for row in copies) > outcome["candidates"][0]["critic"]
    assert all(row["gain"] is None for row in copies)


@pytest.mark.parametrize("recipe", ["search", "gepa", "copro", "simba"])
def test_proposals_come_from_the_reflection_lm_and_texts_from_the_writer(recipe: str, opened: Opened) -> None:  # noqa: F811
    run = opened(
        **{
            "compile.optimizer": recipe,
            "compile.confirm": False,
            "reflection.model": "openai/reflector",
            "compile.proposals": 3,
        }
    )
    outcome = run.until("compile")
    server: FakeLM = run.server  # type: ignore[attr-defined]
    asked = {
        model: [str(r["messages"]) for r in server.requests if r["model"] == model] for model in ("fake", "reflector")
    }
    assert asked["reflector"] and asked["fake"] and len(outcome["candidates"]) > 1
    proposing = [text for model in asked for text in asked[model] if re.search(r"_instruction|module_advice|```", text)]
    assert proposing == asked["reflector"]


@pytest.mark.parametrize("share", [0.0, 0.01])
def test_nothing_to_confirm_on_is_said_before_any_call(share: float, opened: Opened) -> None:  # noqa: F811
    every = {"compile.pairs": 96, "compile.optimizer": "search"}  # proposals see all train queries
    run = opened(**every, **{"collection.confirm": share})
    with pytest.raises(DataError, match=r"[01] queries are left: .*compile.confirm=false"):
        run.until("compile")
    assert not run.server.requests  # type: ignore[attr-defined]


def test_a_text_over_the_margin_is_not_advised_against_where_a_judge_decides(
    opened: Opened,  # noqa: F811
) -> None:
    from syneg.negatives.gates import ADVICE
    from syneg.negatives.gating import Gating
    from syneg.optimizers import Critic

    workspace = opened(**{"gates.margin": 0.1}).workspace
    pair = workspace.pairs[0]
    text = negative_for(f"{pair.query} ")
    words = {}
    for judge in (None, "trusted"):
        gating = Gating(workspace.collection, workspace.encoder, workspace.config.gates, 200, "", judge and _Judge())  # type: ignore[arg-type]
        words[judge] = Critic(gating)(pair, [HardNegative(text, "x")]).feedback
    assert ADVICE["over the margin of the positive"] in words[None]
    assert words["trusted"].startswith("accepted. ")


class _Judge:
    lm, name = None, "judge"

    def decide(self, drafts: Sequence[Draft], *rest: object) -> list[Draft]:
        """All accepted texts stay."""
        return list(drafts)


def test_the_objective_compares_candidates_on_the_pairs_that_all_have_answered() -> None:
    """A budget ended before the second candidate had written for all pairs, and before the third had for half."""
    compiling = Chosen((120, 0.0), (120, 0.01), (120, 0.02))
    pairs = compiling.ids
    for candidate, answered in zip(compiling.candidates, (120, 80, 30), strict=True):
        candidate.answers = {query_id: candidate.answers[query_id] for query_id in pairs[:answered]}
    scored: dict[int, list[str]] = {}

    def score(candidate: Candidate, ids: list[str]) -> Score:
        scored[candidate.number] = list(ids)
        return Score(compiling.gains[candidate.number], 0.004)

    compiling.score = score  # type: ignore[method-assign]
    compiling.answer = lambda *_: None  # type: ignore[method-assign]
    assert [candidate.number for candidate in choose(compiling)] == [1, 0, 2]  # type: ignore[arg-type]
    assert scored == {0: pairs[:80], 1: pairs[:80], 2: pairs}


def test_the_choice_counts_answers_and_scores(capsys: pytest.CaptureFixture[str]) -> None:
    compiling = Chosen((120, 0.0), (120, 0.01))
    del compiling.candidates[1].answers["q000"], compiling.candidates[1].answers["q001"]
    ticks: list[tuple[int, int]] = []

    def answer(candidates: list[Candidate], ids: list[str], tick: Tick) -> None:
        tick(1, 2)
        tick(2, 2)

    compiling.answer = answer  # type: ignore[method-assign]
    choose(compiling, lambda done, total: ticks.append((done, total)))  # type: ignore[arg-type]
    assert ticks == [(1, 4), (2, 4), (2, 4), (3, 4)]
    with Progress().stage("choose", "answers and scores") as line:
        choose(compiling, line)  # type: ignore[arg-type]
    assert capsys.readouterr().err.startswith("choose     1/4 answers and scores\n")


def test_bars_of_dspy_are_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    with quiet():
        assert list(tqdm(range(3), disable=False)) == [0, 1, 2]
        Progress().say("a line of ours")
    assert capsys.readouterr().err == "a line of ours\n"
    assert list(tqdm(range(3), disable=False)) == [0, 1, 2]
    assert "3/3" in capsys.readouterr().err
