"""A trusted reader decides about written texts over the margin; all others pass as they are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import ACTIONS, THINGS, FakeLM

from syneg.core.config import GatesConfig
from syneg.core.progress import Progress
from syneg.core.records import Draft, GateVerdict, HardNegative, Pair
from syneg.core.settings import load_config
from syneg.core.storage import read_rows
from syneg.negatives import text_reading
from syneg.negatives.gates import GRADED
from syneg.negatives.reading import Answers, Reading, ToRead
from syneg.negatives.text_reading import TrustedReader
from syneg.programs import GradeList
from syneg.run.pipeline import Run

OVER = "over the margin of the positive"


def draft(query_id: str, text: str, near: float, reason: str = "") -> Draft:
    figures = {"query_cosine": near, "positive_query_cosine": 0.5, "margin": near / 0.5}
    pair = Pair(query_id, f"query {query_id}", f"d{query_id}", f"positive of {query_id}")
    return Draft(pair, HardNegative(text, "x"), GateVerdict(reason, figures=figures))


def test_only_texts_over_the_margin_are_read_beside_a_positive(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[list[str]] = []

    def by_lm(lists: Sequence[ToRead], lm: Any, task: str, texts: Any, tick: Any, program: Any) -> Answers:
        answers = Answers()
        for asked in lists:
            shown = [texts[doc_id] for doc_id in asked.doc_ids]
            read.append(shown)
            if "unread" in shown:
                continue
            for doc_id, text in zip(asked.doc_ids, shown, strict=True):
                blind = "blind" in shown and text.startswith("positive")
                grade = 1 if blind else 3 if text.startswith("positive") else {"part": 2, "answer": 3}.get(text, 1)
                answers.readings.append(Reading(asked.query_id, doc_id, grade))
        return answers

    monkeypatch.setattr(text_reading, "read_by_lm", by_lm)
    drafts = [
        draft("1", "easy", 0.3), draft("1", "valid", 0.49), draft("1", "answer", 0.6), draft("1", "part", 0.5),
        draft("2", "unread", 0.5), draft("3", "blind", 0.5), draft("3", "copied", 0.5, "copies a positive"),
    ]  # fmt: skip
    reader = TrustedReader(SimpleNamespace(identity="lm"), GradeList(), "lm@1", 3)  # type: ignore[arg-type]
    decided = reader.decide(drafts, "task", GatesConfig(margin=0.95, floor=0))
    assert [d.verdict.reason for d in decided] == ["", "", GRADED, GRADED, OVER, OVER, "copies a positive"]
    assert [d.negative for d in decided] == [d.negative for d in drafts]
    assert decided[1].verdict.figures["grade"] == 1 and decided[2].verdict.figure == 3
    assert read == [["positive of 1", "valid", "answer"], ["positive of 1", "part"],
                    ["positive of 2", "unread"], ["positive of 3", "blind"]]  # fmt: skip
    read.clear()
    assert reader.decide(drafts, "task", GatesConfig(margin=0, floor=0)) == drafts and not read


@pytest.mark.parametrize(
    ("grade", "more", "reason"),
    [
        (1, {"reader.use": "on"}, ""),
        (2, {"reader.use": "on"}, GRADED),
        (1, {"reader.use": "off", "train.arms": '["hybrid"]'}, OVER),
        (1, {"reader.use": "auto", "train.arms": '["hybrid"]'}, OVER),  # no arm reads, so none is measured
    ],
)
def test_a_reader_that_is_used_decides_where_no_judge_does(
    grade: int, more: dict[str, Any], reason: str, tmp_path: Path, settings: Callable[..., list[str]],
    fake_lm: Callable[..., FakeLM],
) -> None:  # fmt: skip
    def answer(messages: list[dict[str, Any]]) -> tuple[int, str]:
        text = str(messages[-1]["content"])
        action, thing = re.findall(rf"({'|'.join(ACTIONS)}) a ({'|'.join(THINGS)})", text)[-1]
        if "hard_negative" not in text:
            count = len(re.findall(r"\d+\. <data>", text))
            shown = re.findall(r"(\d+)\. <data>(.*?)</data>", text)
            right = {int(n) for n, words in shown if words.startswith(f"to {action} the {thing} it")}
            rows = [{"passage": n, "span": "again" if n in right or grade > 1 else "NONE", "grade": 3 if n in right else grade}
                    for n in range(1, count + 1)]  # fmt: skip
            return 200, json.dumps({"grades": rows})
        other = THINGS[(THINGS.index(thing) + 3) % len(THINGS)]
        return 200, json.dumps({"hard_negative": f"slowly and twice it is to {action} the {other} again"})

    server = fake_lm(answer)
    values = {"lm.adapter": "json", "gates.margin": 0.1, "gates.positive_cosine": 0, "generate.pairs": 8, "generate.attempts": 1,
              "reader.candidates": 6, "reader.pairs": 8, **more}  # fmt: skip
    run = Run(tmp_path / "run", load_config(None, settings(server.url, **values)), Progress(quiet=True))
    run.until("generate")
    reasons = {row["reason"] for row in read_rows(run.folder / "negatives.jsonl")}
    assert reasons == {reason}
    uses = {row["use"] for row in read_rows(run.folder / "ledger" / "calls.jsonl")}
    assert ("read texts" in uses) == (reason != OVER)
    assert not [part for part in run.estimate("generate")["parts"] if part["calls"]["most"]]
