"""Answers to a closed question: plain spellings are read, in every layout, and what is ambiguous is not guessed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import dspy
import pytest
from conftest import FakeLM

from syneg.core.choices import chosen
from syneg.core.config import LMConfig
from syneg.llm.ledger import Ledger
from syneg.llm.lms import LanguageModel
from syneg.negatives.judging import ask_all
from syneg.programs import Judge

YES_NO = ("yes", "no")
GRADES = (0, 1, 2, 3)
HOW = ("entity shift", "action shift", "means only")


@pytest.mark.parametrize(
    ("value", "allowed", "read"),
    [
        ("yes", YES_NO, "yes"),
        ("Yes", YES_NO, "yes"),
        ("YES.", YES_NO, "yes"),
        (" **No** ", YES_NO, "no"),
        ("“No”", YES_NO, "no"),
        ("`no`", YES_NO, "no"),
        ("(yes)", YES_NO, "yes"),
        ("- yes", YES_NO, "yes"),
        ("ＹＥＳ", YES_NO, "yes"),
        ("Y", YES_NO, "yes"),
        ("true", YES_NO, "yes"),
        ("False.", YES_NO, "no"),
        (True, YES_NO, "yes"),
        (False, YES_NO, "no"),
        ("relevant: No", YES_NO, "no"),
        ("**Answer:** yes", YES_NO, "yes"),
        ("Yes, because it tells how.", YES_NO, "yes"),
        ("No\nThe passage is about locks.", YES_NO, "no"),
        ("No — it is about locks", YES_NO, "no"),
        ("yes and no", YES_NO, None),
        ("yes/no", YES_NO, None),
        ("Yes, and it says that no lock is held.", YES_NO, None),
        ("Yes, but only in part", YES_NO, None),
        ("yes?", YES_NO, None),
        ("No doubt it is relevant.", YES_NO, None),
        ("not yes", YES_NO, None),
        ("irrelevant: yes", YES_NO, None),
        ("n/a", YES_NO, None),
        ("none", YES_NO, None),
        ("perhaps", YES_NO, None),
        ("", YES_NO, None),
        (None, YES_NO, None),
        (1, YES_NO, None),
        (["yes"], YES_NO, None),
        ("yes", (True, False), True),
        ("No.", (True, False), False),
        (False, (True, False), False),
        (3, GRADES, 3),
        ("3", GRADES, 3),
        (2.0, GRADES, 2),
        ("2.0", GRADES, 2),
        ("3/3", GRADES, 3),
        ("1 out of 3", GRADES, 1),
        ("Grade: 2", GRADES, 2),
        ("grade 2", GRADES, 2),
        ("**2**", GRADES, 2),
        ("Three", GRADES, 3),
        ("３", GRADES, 3),
        ("2 (in part)", GRADES, 2),
        ("3: it answers", GRADES, 3),
        ("2/5", GRADES, None),
        ("2-3", GRADES, None),
        ("2 or 3", GRADES, None),
        ("2.5", GRADES, None),
        (2.5, GRADES, None),
        ("-1", GRADES, None),
        (-1, GRADES, None),
        ("4", GRADES, None),
        ("30", GRADES, None),
        ("3%", GRADES, None),
        (True, GRADES, None),
        ("true", GRADES, None),
        ("Entity shift", HOW, "entity shift"),
        ("action_shift", HOW, "action shift"),
        ("means-only.", HOW, "means only"),
        ("entity shift, action shift", HOW, None),
        ("shift", HOW, None),
    ],
)
def test_a_plain_spelling_is_read_and_an_ambiguous_one_is_not(value: Any, allowed: tuple[Any, ...], read: Any) -> None:
    found = chosen(value, allowed, "relevant" if allowed == YES_NO else "grade")
    assert (found, type(found)) == (read, type(read))


class Check(dspy.Signature):
    """Check."""

    text: str = dspy.InputField()
    good: bool = dspy.OutputField()
    grade: Literal[0, 1, 2, 3] = dspy.OutputField()
    maybe: Literal["low", "high"] | None = dspy.OutputField()


def said(layout: str, fields: dict[str, Any]) -> str:
    if layout == "chat":
        return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items())
    if layout == "xml":
        return "\n".join(f"<{name}>{value}</{name}>" for name, value in fields.items())
    return json.dumps(fields)


@pytest.fixture
def opened(fake_lm: Callable[..., FakeLM], tmp_path: Path) -> Iterator[Callable[..., tuple[LanguageModel, FakeLM]]]:
    ledger = Ledger(tmp_path / "calls.jsonl")

    def start(layout: str, fields: dict[str, Any]) -> tuple[LanguageModel, FakeLM]:
        server = fake_lm(lambda messages: (200, said(layout, fields)))
        config = LMConfig(model="openai/fake", api_base=server.url, retries=0, adapter=layout)
        return LanguageModel.open(config, ledger), server

    yield start
    ledger.close()


LAYOUTS = ["json", "compact", "chat", "xml"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_judge_is_read_in_every_layout(layout: str, opened: Callable[..., Any]) -> None:
    judge_lm, server = opened(layout, {"span": "the socket is closed", "relevant": "**Yes**."})
    asked = [("q", "close a socket", "here the socket is closed")]
    assert ask_all(asked, Judge(), judge_lm, "task") == [(True, "the socket is closed")]
    assert len(server.requests) == 1


@pytest.mark.parametrize("layout", ["json", "compact"])
def test_null_is_no_quotation_and_no_verdict(layout: str, opened: Callable[..., Any]) -> None:
    asked = [("q", "close a socket", "None of the sockets is closed")]
    for verdict, read in (("no", (False, "")), ("yes", (False, "")), (None, None)):
        judge_lm, _ = opened(layout, {"span": None, "relevant": verdict})
        assert ask_all(asked, Judge(), judge_lm, "task") == [read]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_program_has_its_closed_fields_read(layout: str, opened: Callable[..., Any]) -> None:
    lm, _ = opened(layout, {"good": "YES.", "grade": "Grade: 2", "maybe": "High"})
    with dspy.context(lm=lm.lm, adapter=lm.adapter):
        found = dspy.Predict(Check)(text="a")
    assert (found.good, found.grade, found.maybe) == (True, 2, "high")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_ambiguous_verdict_is_none(layout: str, opened: Callable[..., Any]) -> None:
    judge_lm, _ = opened(layout, {"span": "the socket is closed", "relevant": "yes and no"})
    assert ask_all([("q", "close a socket", "here the socket is closed")], Judge(), judge_lm, "task") == [None]
