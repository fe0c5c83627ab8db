"""One path from answers to gated drafts: what generate rejects, the critic and confirm reject, too."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pytest
from conftest import THINGS, FakeLM, write_negative

from syneg.core.progress import Progress
from syneg.core.records import Draft, HardNegative
from syneg.core.settings import load_config
from syneg.core.storage import read_rows
from syneg.negatives.gates import ANSWERS
from syneg.programs import SinglePrompt
from syneg.run.compile_writer import Tried
from syneg.run.pipeline import Run

Messages = list[dict[str, Any]]
REJECTED = 0.1  # what the critic gives an answer that a gate rejects


class Copier(SinglePrompt):
    """Asks the LM, and returns the mined passage word for word."""

    def forward(
        self, *, query: str, positive: str, task: str, attributes: Any, candidates: Any = ()
    ) -> dspy.Prediction:
        super().forward(query=query, positive=positive, task=task, attributes=attributes, candidates=candidates)
        parent = candidates[0]
        return dspy.Prediction(negatives=[HardNegative(parent.text, "copier", parent_doc_id=parent.doc_id)])


def answering(messages: Messages, *, finish_reason: str = "stop") -> tuple[int, str, str]:
    """Writes, proposes, and judges: relevant is what says the positive, or tells of something merged."""
    text = str(messages)
    if "better_instruction" in text:
        return 200, json.dumps({"better_instruction": f"Write about another thing, way {len(text)}."}), "stop"
    if "Judge whether" in text:
        query, passage = messages[-1]["content"].split("<data>")[1:3]
        words = query.partition("</data>")[0].split()
        yes = "merged" in passage or passage.startswith(f"to {words[0]} the {words[-1]} ")
        span = " ".join(passage.partition("</data>")[0].split()[:4]) if yes else "NONE"
        return 200, json.dumps({"span": span, "relevant": "yes" if yes else "no"}), "stop"
    if len(text) % 2:
        return (
            200,
            json.dumps({"hard_negative": f"the {THINGS[len(text) % 12]} is opened twice and counted"}),
            finish_reason,
        )
    return *write_negative(messages), finish_reason


@pytest.fixture
def opened(tmp_path: Path, settings: Callable[..., list[str]], fake_lm: Callable[..., FakeLM]) -> Callable[..., Run]:
    def build(answer: Callable[[Messages], Any] = answering, folder: str = "run", **more: object) -> Run:
        values = {
            "lm.adapter": "json", "compile.optimizer": "search", "compile.pairs": 8, "compile.proposals": 1,
            "compile.confirm_seeds": 1, "probe.steps": 2, "probe.passages": 96, "gates.positive_ngram": 0,
            "gates.positive_cosine": 0, "generate.pairs": 16, **more,
        }  # fmt: skip
        return Run(tmp_path / folder, load_config(None, settings(fake_lm(answer).url, **values)), Progress(quiet=True))

    return build


def merged(messages: Messages) -> Any:
    """Writes only what the judge rejects."""
    text = str(messages)
    return (
        write_negative(messages)
        if "hard_negative" in text and "better_instruction" not in text
        else answering(messages)
    )


@pytest.mark.parametrize(
    ("reason", "answer", "more"),
    [
        ("truncated", lambda messages: answering(messages, finish_reason="length"), {}),
        ("copies its parent", answering, {"generate.program": f"{__name__}:Copier"}),
        (ANSWERS, merged, {"judge.use": "on"}),
    ],
)
def test_the_critic_rejects_what_generate_rejects(
    reason: str, answer: Any, more: dict[str, object], opened: Callable[..., Run]
) -> None:
    outcome = opened(answer, **more, **{"compile.confirm": False}).until("compile")
    assert [row["critic"] for row in outcome["candidates"][:1]] == [REJECTED]
    run = opened(answer, "plain", **more, **{"compile.optimizer": "none", "generate.pairs": 4})
    assert set(run.until("generate")["reasons"]) >= {reason}


@pytest.mark.parametrize("use", ["off", "on"])
def test_confirm_trains_on_what_generate_accepts(
    use: str, opened: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = dict[str, dict[str, list[str]]]()

    def keep(trials: Any, workspace: Any, drafts: list[Draft], near: Any, label: str) -> Tried:
        of_label = trained.setdefault(label, {})
        for draft in drafts:
            if draft.accepted:
                of_label.setdefault(draft.pair.query_id, []).append(draft.negative.text)
        return Tried({"q1": 0.5, "q2": 0.5}, {}, drafts)

    monkeypatch.setattr("syneg.run.compile_writer._trained", keep)
    monkeypatch.setattr(
        "syneg.run.compile.choose", lambda compiling, tick: list(compiling.register.candidates.values())[::-1]
    )
    run = opened(**{"judge.use": use, "generate.pairs": 16})
    run.until("generate")
    accepted: dict[str, list[str]] = {}
    for row in read_rows(run.folder.negatives()):
        if row["accepted"]:
            accepted.setdefault(row["query_id"], []).append(row["text"])
    assert trained["first"] == accepted
    assert any("merged" in text for texts in accepted.values() for text in texts) == (use == "off")
