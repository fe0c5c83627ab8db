"""The compiled reader: scripted LMs that grade badly until the prompt says how; what won is used by `read`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeLM
from test_reading import READS, all_three, reads_well, sparse  # noqa: F401 a fixture

from syneg.core.errors import ConfigError, DataError
from syneg.core.progress import Progress
from syneg.core.settings import load_config
from syneg.core.storage import read_json, read_rows
from syneg.optimizers import RECIPES
from syneg.programs import GradeList, load_reader_program
from syneg.run import compile_reader, reader
from syneg.run.compiled import save_program
from syneg.run.folder import RunFolder
from syneg.run.pipeline import Run

Messages = list[dict[str, Any]]
GOOD = "Grade with CARE: 3 only where action and thing are both right."
RECIPE = {name: "" for name in RECIPES if name != "none"}


def reads_badly(messages: Messages) -> tuple[int, str]:
    """The wrong way round: what answers is on another matter."""
    _, truth = reads_well(messages)
    rows = [{**row, "grade": {3: 0, 1: 2, 0: 1}[row["grade"]]} for row in json.loads(truth)["grades"]]
    return 200, json.dumps({"grades": rows})


def scripted(messages: Messages) -> tuple[int, str]:
    """Grades by the truth where the prompt says CARE, or shows how by demos; sometimes anyway; else the wrong way round."""
    text = "\n".join(str(message["content"]) for message in messages)
    asked = str(messages[-1]["content"])
    proposals = {
        "better_instruction": GOOD, "proposed_instruction": GOOD, "proposed_prefix_for_output_field": "Grades:",
        "observations": "Lists.", "summary": "Lists.", "program_description": "It grades.", "module_description": "It grades.",
        "discussion": "Some are false.", "module_advice": {"program.grade": GOOD, "grade": GOOD, "program": GOOD, "self": GOOD},
    }  # fmt: skip
    wanted = {name: value for name, value in proposals.items() if name in text}
    if wanted:
        return 200, json.dumps(wanted)
    if "passages" in asked and re.search(r"1\. <data>", asked) and "```" not in asked[-400:]:
        query = re.findall(r"<data>(.*?)</data>", asked)[0]
        lucky = len(query) % 3 == 0
        return reads_well(messages) if "CARE" in text or len(messages) > 2 or lucky else reads_badly(messages)
    return 200, f"```\n{GOOD}\n```"


@pytest.fixture
def opened(
    tmp_path: Path,
    sparse: Path,  # noqa: F811
    settings: Callable[..., list[str]],
    fake_lm: Callable[..., FakeLM],
) -> Callable[..., Run]:
    def build(answer: Callable[..., Any] = scripted, **more: object) -> Run:
        server = fake_lm(answer)
        values = {
            **READS, "compile.target": "reader", "compile.optimizer": "search", "compile.pairs": 12,
            "compile.proposals": 3, "compile.confirm_queries": 24, **more,
        }  # fmt: skip
        run = Run(tmp_path / "run", load_config(None, settings(server.url, **values)), Progress(quiet=True))
        run.server = server  # type: ignore[attr-defined]
        return run

    return build


@pytest.mark.parametrize("recipe", RECIPE)
def test_every_recipe_finds_the_planted_instruction(recipe: str, opened: Callable[..., Run]) -> None:
    if recipe == "mipro":
        pytest.importorskip("optuna")
    run = opened(**{"compile.optimizer": recipe})
    outcome = run.until("compile")
    assert outcome["won"], outcome["candidates"]
    confirmed = outcome["confirmed"]
    assert confirmed["queries"] == 24 and confirmed["interval"][0] > 0
    best = next(row for row in outcome["candidates"] if row["number"] == confirmed["candidate"])
    assert best["gain"] > outcome["candidates"][0]["gain"] and best["figures"]["recall of hidden positives"][0] == 1.0
    saved = read_json(run.folder / "reader-program.json")
    assert saved["manifest"]["compiled"]["optimizer"] == recipe and saved["manifest"]["class"] == "grade_list"
    assert not (run.folder / "program.json").exists()
    measured = read_json(run.folder / "reader.json")  # of the reader that is used
    assert measured["agreement"]["lists"] > 0
    again = load_reader_program(str(run.folder / "reader-program.json"))
    assert "CARE" in again.grade.signature.instructions or again.grade.demos
    calls = len(run.server.requests)  # type: ignore[attr-defined]
    assert run.until("compile")["won"] and len(run.server.requests) == calls  # type: ignore[attr-defined]


def test_compiling_the_reader_says_nothing_of_pairs_to_write_for(
    opened: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(Progress, "say", lambda self, line: lines.append(line))
    opened(**{"generate.pairs": 5}).until("compile")
    assert lines and not [line for line in lines if "train pairs are" in line]


def test_the_compiled_reader_reads(opened: Callable[..., Run]) -> None:
    run = opened()
    assert run.estimate("compile")["parts"]
    told = run.until("read")
    assert told["trusted"], told["table"]
    asked = [str(request["messages"]) for request in run.server.requests]  # type: ignore[attr-defined]
    rows = list(read_rows(run.folder / "ledger" / "calls.jsonl"))
    assert {"compile", "confirm", "measure reader", "read"} <= {row["use"] for row in rows}
    assert "CARE" in asked[-1]
    assert (
        "reader's order" in (run.folder / "reader-program.md").read_text()
        or "```diff" in (run.folder / "reader-program.md").read_text()
    )
    calls = len(asked)
    other = Run(
        run.folder.path.parent / "other",
        run.config.model_copy(
            update={
                "compile": run.config.compile.model_copy(update={"optimizer": "none"}),
                "reader": run.config.reader.model_copy(update={"program": str(run.folder / "reader-program.json")}),
            }
        ),
        Progress(quiet=True),
    )
    assert other.until("read")["trusted"]
    assert all("CARE" in str(r["messages"]) for r in run.server.requests[calls:])  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", ["compiled", "saved"])
def test_the_strong_lm_reads_lists_in_doubt_with_the_same_program(
    how: str,
    opened: Callable[..., Run],
    fake_lm: Callable[..., FakeLM],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    better = GradeList()
    better.grade.signature = better.grade.signature.with_instructions(GOOD)
    if how == "compiled":
        monkeypatch.setattr(reader, "compiled", lambda *_: better)
        monkeypatch.setattr(reader, "save_program", lambda *_, **__: None)
        more: dict[str, object] = {}
    else:
        save_program(RunFolder(tmp_path / "saved"), "reader-", better, "grade_list", "json")
        more = {"compile.optimizer": "none", "reader.program": str(tmp_path / "saved" / "reader-program.json")}
    strong = fake_lm(reads_well)
    opened(all_three, **{"reader.strong": "openai/strong", "reader.strong_api_base": strong.url, **more}).until("read")
    assert strong.requests
    assert all(GOOD in str(request["messages"]) for request in strong.requests)


def test_what_no_proposal_has_seen_decides_and_test_stays_unseen(opened: Callable[..., Run]) -> None:
    run = opened(**{"compile.confirm_queries": 0})
    run.until("compile")
    splits = run.workspace.collection.splits
    rows = list(read_rows(run.folder / "ledger" / "calls.jsonl"))
    by_use = {
        use: {row["query_id"].removeprefix("read:") for row in rows if row["use"] == use}
        for use in ("compile", "confirm")
    }
    queries = set(run.workspace.collection.queries)
    tried, decided = by_use["compile"] & queries, by_use["confirm"] & queries
    assert len(tried) == 12 and tried <= set(splits["train"]) and not tried & decided
    assert not (tried | decided) & set(splits["test"])
    left = {*splits["train"], *splits["dev"], *splits["confirm"]} - tried
    assert len(left - decided) == 4  # lists that demos are made of


def test_a_reader_that_is_no_better_does_not_win(opened: Callable[..., Run]) -> None:
    def answer(messages: Messages) -> tuple[int, str]:
        if "better_instruction" in str(messages):
            return 200, json.dumps({"better_instruction": "Grade them in another way, as you like it best."})
        return reads_badly(messages)

    outcome = opened(answer).until("compile")
    assert not outcome["won"] and len(outcome["candidates"]) > 1


def test_a_list_that_cannot_be_read_is_worth_nothing(opened: Callable[..., Run]) -> None:
    """The new instruction makes the LM answer with nothing; the first one puts relevant passages last."""

    def answer(messages: Messages) -> tuple[int, str]:
        text = str(messages)
        if "better_instruction" in text:
            return 200, json.dumps({"better_instruction": "Say NOTHING at all of them."})
        return (200, json.dumps({"grades": []})) if "NOTHING" in text else reads_badly(messages)

    outcome = opened(answer, **{"compile.proposals": 1}).until("compile")
    first, silent = outcome["candidates"][:2]
    assert (silent["critic"], silent["figures"].get("lists read", (0.0, 0))[0]) == (0.0, 0.0)
    assert first["critic"] > 0 and not outcome["won"]


def test_the_feedback_names_what_was_put_wrong(opened: Callable[..., Run]) -> None:
    import dspy

    run = opened()
    target = run.readings.reader.plan.target()
    run.workspace.close()
    query_id, ask = next(iter(target.asks.items()))
    asked = target._lists[query_id]
    (relevant,), (known,) = asked.positives, asked.checks
    grades = [{relevant: 0, known: 3}.get(doc_id, 1) for doc_id in asked.doc_ids]
    spans = ["it is" if doc_id == known else "" for doc_id in asked.doc_ids]
    worth = target.judge(query_id, dspy.Prediction(grades=grades, spans=spans, failed=""))
    texts = dict(zip(asked.doc_ids, ask["passages"], strict=True))
    assert f"{texts[relevant]}</data> is relevant and was graded 0; it should have had 3." in worth.feedback
    assert (
        f"{texts[known]}</data> is known not to be relevant and was graded 3 for the words <data>it is</data>"
        in worth.feedback
    )
    perfect = target.judge(
        query_id, dspy.Prediction(grades=[3 * (d == relevant) for d in asked.doc_ids], spans=spans, failed="")
    )
    assert (perfect.value, perfect.recalled, perfect.false) == (1.0, 1, 0)
    assert "Every relevant passage has the grade" in perfect.feedback
    demo = target.demos()[0]["grade"][0]
    assert {row["grade"] for row in demo.grades} == {3, 1, 0}
    assert not {demo.query} & {f"<data>{ask['query']}</data>" for ask in target.asks.values()}


@pytest.mark.parametrize(
    ("more", "error", "match"),
    [
        ({"reader.cross_encoder": "x"}, ConfigError, "reader.cross_encoder reads"),
        ({"compile.confirm_queries": 1}, DataError, "too few labelled queries are left .*: 1; lower"),
    ],
)
def test_what_cannot_be_compiled_is_said_before_any_call(
    more: dict[str, object], error: type[Exception], match: str, opened: Callable[..., Run]
) -> None:
    run = opened(**more)
    with pytest.raises(error, match=match):
        run.until("compile")
    assert not run.server.requests  # type: ignore[attr-defined]


def test_a_reader_that_won_is_tested_once_on_the_test_queries_if_asked(opened: Callable[..., Run]) -> None:
    run = opened(**{"compile.test": True})
    outcome = run.until("compile")
    queries = len(run.workspace.collection.pairs("test"))
    tested = outcome["confirmed"]["test"]
    assert outcome["won"] and tested["queries"] == queries > 0
    assert tested["mean"][0] > tested["mean"][1] and tested["interval"][0] > 0
    for text in ((run.folder / "reader-program.md").read_text(), (run.folder / "reader-compiled.html").read_text()):
        assert f"{tested['mean'][0]:.4f}" in text and f"{queries} test queries" in " ".join(text.split())


def test_the_estimate_counts_the_lists_of_the_test_queries(opened: Callable[..., Run]) -> None:
    def confirming(**more: object) -> float:
        run = opened(**more)
        return next(part["calls"]["likely"] for part in run.estimate("compile")["parts"] if part["name"] == "confirm")

    queries = len(opened().workspace.collection.pairs("test"))
    assert confirming(**{"compile.test": True}) == confirming() + 2 * queries


def test_a_reader_that_lost_is_not_tested(opened: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_reader, "by_grade", lambda asked, grades: list(asked.doc_ids))
    run = opened(**{"compile.test": True})
    outcome = run.until("compile")
    assert not outcome["won"] and outcome["confirmed"]["test"] is None


def test_a_test_of_another_target_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"compile.test is for --target reader.*the verdict"):
        load_config(None, ["compile.test=true"])
