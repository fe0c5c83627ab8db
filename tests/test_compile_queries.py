"""The compiled writer of queries: a scripted LM that asks for nothing in particular until the prompt says how."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dspy
import pytest
from conftest import ACTIONS, THINGS, FakeLM

from syneg.core.progress import Progress
from syneg.core.settings import load_config
from syneg.core.storage import read_json, read_rows
from syneg.llm.budget import Budget
from syneg.optimizers import RECIPES, QueriesTarget, ReaderTarget, WriterTarget
from syneg.optimizers.compiling import Compiling
from syneg.optimizers.queries import DOWNSTREAM, QueriesScore
from syneg.programs import WriteQueries, load_query_program
from syneg.run.compile_queries import QueriesPlan
from syneg.run.pipeline import Run

Messages = list[dict[str, Any]]
GOOD = "Ask for action and thing, with CARE."


def scripted(messages: Messages) -> tuple[int, str]:
    """Asks for action and thing where the prompt says CARE, or a demo of this collection shows how; sometimes anyway."""
    text, asked = "\n".join(str(message["content"]) for message in messages), str(messages[-1]["content"])
    proposals = {
        "better_instruction": GOOD, "proposed_instruction": GOOD, "proposed_prefix_for_output_field": "Query:",
        "observations": "Passages.", "summary": "Passages.", "program_description": "It asks.", "module_description": "It asks.",
        "discussion": "Some find nothing.", "module_advice": {"program.write": GOOD, "write": GOOD, "program": GOOD, "self": GOOD},
    }  # fmt: skip
    if wanted := {name: value for name, value in proposals.items() if name in text}:
        return 200, json.dumps(wanted)
    found = re.findall(r"to (\w+) the (\w+) it is", asked)
    if not found or "```" in asked[-400:]:
        return 200, f"```\n{GOOD}\n```"
    action, thing = found[-1]
    shown = "\n".join(str(message["content"]) for message in messages if message["role"] == "assistant")
    knows = "CARE" in text or re.search(rf"({'|'.join(ACTIONS)}) a ({'|'.join(THINGS)})", shown)
    lucky = (len(action) + len(thing)) % 3 == 0
    return 200, json.dumps({"search_query": f"{action} a {thing}" if knows or lucky else f"slowly the {thing}"})


@pytest.fixture
def opened(tmp_path: Path, settings: Callable[..., list[str]], fake_lm: Callable[..., FakeLM]) -> Callable[..., Run]:
    def build(answer: Callable[..., Any] = scripted, **more: object) -> Run:
        values = {
            "compile.target": "queries", "compile.optimizer": "search", "compile.pairs": 12, "compile.proposals": 2,
            "compile.confirm_queries": 24, "lm.adapter": "json", **more,
        }  # fmt: skip
        config = load_config(None, settings(fake_lm(answer).url, **values))
        return Run(tmp_path / "run", config, Progress(quiet=True))

    return build


@pytest.mark.parametrize("kind", [QueriesTarget, ReaderTarget, WriterTarget])
def test_a_demo_is_as_good_as_the_setting_wants(kind: type[Any]) -> None:
    lm = SimpleNamespace(lm_for=lambda number, answers: None)
    worth = SimpleNamespace(value=0.7, lead=0.0)
    target = SimpleNamespace(lm=lm, answers=1, program=WriteQueries(), asks={"d1": {}}, threshold=kind.threshold,
                             judge=lambda example_id, prediction: worth)  # fmt: skip

    def may_be_demo(*overrides: str) -> bool:
        compiling = Compiling(target, load_config(None, overrides), None, Budget(), lambda line: None)
        (first,) = compiling.register.candidates
        return bool(compiling.metric(SimpleNamespace(example_id="d1"), SimpleNamespace(candidate=first), trace=[]))

    assert may_be_demo() == (kind is WriterTarget)
    assert may_be_demo("compile.threshold=0.6") and not may_be_demo("compile.threshold=0.8")


def test_the_planted_instruction_is_found_and_other_passages_decide(opened: Callable[..., Run]) -> None:
    run = opened()
    outcome = run.until("compile")
    assert outcome["won"], outcome["confirmed"]
    assert outcome["confirmed"]["queries"] == 24 and outcome["confirmed"]["interval"][0] > 0
    assert outcome["confirmed"]["standard"] is not None
    scored = [row for row in outcome["candidates"] if row["gain"] is not None]
    assert len(scored) > 1 and all(DOWNSTREAM in row["figures"] for row in scored)
    rows = list(read_rows(run.folder / "ledger" / "calls.jsonl"))
    tried, decided = ({row["query_id"].removeprefix("query for ") for row in rows if row["use"] == use}
                      for use in ("compile", "confirm"))  # fmt: skip
    assert len(tried - {"propose"}) == 12 and len(decided) == 24 and not tried & decided
    assert read_json(run.folder / "queries-program.json")["manifest"]["class"] == "write_queries"
    again = load_query_program(str(run.folder / "queries-program.json"))
    assert "CARE" in again.write.signature.instructions


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name not in ("none", "search")])
def test_every_recipe_runs_to_its_end_and_finds_it(recipe: str, opened: Callable[..., Run]) -> None:
    if recipe == "mipro":
        pytest.importorskip("optuna")
    run = opened(**{"compile.optimizer": recipe, "compile.proposals": 3})
    outcome = run.until("compile")
    assert outcome["won"] and not outcome["stopped"], outcome["candidates"]
    best = next(row for row in outcome["candidates"] if row["number"] == outcome["confirmed"]["candidate"])
    assert best["gain"] > outcome["candidates"][0]["gain"] and best["figures"]["sound queries"][0] == 1.0
    assert outcome["optimizer"] == recipe and outcome["confirmed"]["interval"][0] > 0
    saved = load_query_program(str(run.folder / "queries-program.json"))
    assert (
        "CARE" in saved.write.signature.instructions
        or saved.write.demos != load_query_program("write_queries").write.demos
    )
    page = (run.folder / "queries-compiled.html").read_text()
    assert "How the prompt for queries was improved" in page and "won: it is used" in page


def test_a_query_is_worth_its_round_trip(opened: Callable[..., Run]) -> None:
    run = opened()
    target: QueriesTarget = QueriesPlan(run.workspace, "write_queries", load_query_program("write_queries")).target()
    doc_id, ask = next(iter(target.asks.items()))
    action, thing = re.findall(r"to (\w+) the (\w+) it is", ask["passage"])[0]

    def worth(query: str) -> Any:
        return target.judge(doc_id, dspy.Prediction(query=query, failed=""))

    found = worth(f"{action} a {thing}")
    assert (found.value, found.rank, found.sound) == (1.0, 1, True)
    copied = worth(" ".join(ask["passage"].split()[:8]))
    assert (copied.value, copied.sound) == (0.1, False) and "copies 100%" in copied.feedback
    assert worth("slowly").value == 0.1 and worth("").value == 0.0
    lost = worth("nothing of the kind at all here")
    assert lost.value == pytest.approx(0.2) and "does not find it" in lost.feedback
    run.workspace.close()


def test_queries_are_scored_by_what_a_training_on_them_does_to_real_queries(opened: Callable[..., Run]) -> None:
    run = opened(**{"compile.pairs": 40, "probe.learning_rate": 0.01, "probe.steps": 16, "probe.passages": 96})
    target: QueriesTarget = QueriesPlan(run.workspace, "write_queries", load_query_program("write_queries")).target()
    splits, passages = run.workspace.collection.splits, {d: str(ask["passage"]) for d, ask in target.asks.items()}
    found = {d: re.findall(r"to (\w+) the (\w+) it is", text)[0] for d, text in passages.items()}
    good = {d: f"{action} a {thing}" for d, (action, thing) in found.items()}
    others = [*found.values()]
    bad = {d: "{} a {}".format(*others[place - 20]) for place, d in enumerate(found)}  # each asks for another passage
    ours, theirs = (target.downstream.gains(queries) for queries in (good, bad))
    assert {*ours} == {*theirs} == {*splits["dev"]}
    assert sum(theirs.values()) < sum(ours.values()) and target.downstream.gains(good) is ours
    assert target.downstream.gains({}) == {}
    worths = {d: target.judge(d, dspy.Prediction(query=query, failed="")) for d, query in good.items()}
    score = target.score(worths)
    assert score.downstream == ours and DOWNSTREAM in score.figures
    wrong = QueriesScore(1.0, 0.0, downstream=theirs)
    assert wrong.refusal(score).startswith("nDCG@10 after training on its queries falls by ")
    assert score.refusal(wrong) == "" and wrong.value < QueriesScore(1.0, 0.0, downstream=ours).value
    assert QueriesScore(0.4, 0.1).value == 0.4 and QueriesScore(0.4, 0.1).refusal(QueriesScore(0.9, 0.1)) == ""
    run.workspace.close()


def test_written_queries_are_no_real_ones(opened: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    run = opened()
    collection = run.workspace.collection
    monkeypatch.setattr(type(run.config), "writes_queries", True)
    dev = collection.splits["dev"]
    splits = {**collection.splits, "dev": tuple(f"w-{query_id}" for query_id in dev)}
    monkeypatch.setattr(run.workspace, "collection", replace(collection, splits=splits))
    target = QueriesPlan(run.workspace, "write_queries", load_query_program("write_queries")).target()
    assert target.downstream.gains({next(iter(target.asks)): "close a socket"}) == {}
    run.workspace.close()


def test_the_table_marks_the_programs_that_none_beats_in_both_figures() -> None:
    from syneg.run.compiled import CandidateRow, Outcome

    def row(number: int, gain: float | None, second: float) -> CandidateRow:
        figures = {"recall": (second, 0.1)}
        return CandidateRow(number, 0.5, 8, gain, 0.01, "", {}, {}, {} if gain is None else figures)

    rows = (row(0, 0.1, 0.9), row(1, 0.2, 0.5), row(2, 0.1, 0.5), row(3, None, 0.0))
    outcome = Outcome("p", "search", {}, False, None, "", {}, rows, "reader", "the encoder's order", "recall")
    marked = [line.split(" | ")[0].strip("| ") for line in outcome._table() if " * |" in line]
    assert marked == ["0", "1"]
    assert "nDCG@10 over the encoder's order | recall | none better" in outcome._table()[2]


def test_the_estimate_counts_the_passages_that_decide(opened: Callable[..., Run]) -> None:
    run = opened()
    parts = {part["name"]: part for part in run.estimate("compile")["parts"]}
    assert parts["confirm"]["calls"] == {"likely": 48.0, "most": 48.0}  # 24 passages, two programs
    assert {"compile", "reflect"} <= {*parts}
    everything = opened(**{"compile.confirm_queries": 0}).estimate("compile")["parts"]
    assert next(part for part in everything if part["name"] == "confirm")["calls"]["likely"] == 2 * (96 - 12)
    run.until("compile")
    assert run.estimate("compile")["parts"][-1]["calls"]["most"] == 0
