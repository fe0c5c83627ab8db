"""What a report says of a compilation: in words, with a curve, with a reason for each text, and with the change to it."""

from __future__ import annotations

from typing import Any

import pytest

from syneg.verdict.compilation import chosen, compilation, story, what_became

PLANTED = "<script>document.title='planted'</script>"
FIRST = "Write a passage that looks relevant to the query but is not. Keep the style."


def row(number: int, text: str, critic: float, gain: float | None = None, **more: Any) -> dict[str, Any]:
    return {"number": number, "critic": critic, "pairs": 16, "gain": gain, "error": None if gain is None else 0.002, "copies": "",
            "instructions": {"write": text}, "demos": {"write": 0}, "figures": {}, **more}  # fmt: skip


def compiled(**more: Any) -> dict[str, Any]:
    best = "Write a passage that looks relevant to the query but breaks one requirement of it. Keep the style."
    rows = [row(0, FIRST, 0.41, 0.001), row(1, f"Copy {PLANTED}", 0.6, copies=f"a phrase {PLANTED}"), row(2, best, 0.58, 0.009),
            row(3, "Write anything.", 0.2), row(4, "Write a short passage.", 0.5, 0.004)]  # fmt: skip
    confirmed = {"candidate": 2, "mean": (0.412, 0.405), "delta": 0.007, "error": 0.003, "queries": 320,
                 "interval": (0.001, 0.013), "detectable": 0.008, "how": "full training, confirm split"}  # fmt: skip
    state = {"write": {"signature": {"instructions": best}, "demos": []}}
    return {"program": "single_prompt", "optimizer": "search", "state": state, "won": True, "confirmed": confirmed, "stopped": "calls: 60 of 60",
            "used": {"calls": 60.0, "tokens": 31200.0, "usd": 0.043}, "candidates": rows, "baseline": "mined alone", **more}  # fmt: skip


def test_it_is_told_in_words_what_was_done_what_came_out_and_what_it_cost() -> None:
    what, outcome, cost = story(compiled())
    assert (
        "tried 4 other texts beside the author's own (single_prompt, no. 0), by the recipe search: an LLM read" in what
    )
    assert outcome == (
        "No. 2 was chosen. The last word had full training, confirm split: +0.0070 nDCG@10 [+0.0010, +0.0130] against the "
        "author's, on 320 queries that no proposal had seen, which would have shown 0.0080, so it replaced the author's."
    )
    assert cost == "It took 60 calls, 31,200 tokens, $0.04. A limit ended it early (calls: 60 of 60)."
    assert story(compiled(won=False))[1].endswith("so the author's text was kept.")
    assert story(compiled(won=False, confirmed={}))[1] == "No text did better than the author's, which this run used."
    assert story(compiled(confirmed={}))[1] == "No. 2 was chosen and used; no further queries confirmed it."


def test_every_text_has_what_became_of_it() -> None:
    assert what_became(compiled()) == {
        0: "the author's own text",
        1: f"refused: it repeats a phrase of the training data, “a phrase {PLANTED}”",
        2: "won: it is what this run used",
        3: "refused: its answers were worth less than those of the texts that were trained on",
        4: "refused: no. 2 gained more",
    }
    kept = what_became(compiled(won=False))
    assert (kept[0], kept[2]) == (
        "the author's own text: it is what this run used",
        "chosen, and refused: the lead was not confirmed",
    )
    assert chosen(compiled(confirmed={})) == 2


def test_the_change_is_shown_word_by_word_and_nothing_planted_is_code() -> None:
    page = "\n".join(compilation(compiled()))
    assert "<del>is not.</del> <ins>breaks one requirement of it.</ins> Keep the style." in page
    assert page.index("<h3>What changed in no. 2") < page.index("What changed in no. 1")
    assert PLANTED not in page and "&lt;script&gt;" in page
    assert page.count("<figure") == 2
    assert "3 texts; the highest is no. 2 with 0.0090, no. 0 has 0.0010" in page
    assert "+0.0090 ± 0.0039" in page


@pytest.mark.parametrize("candidates", [[], [row(0, FIRST, 0.4)]])
def test_a_compilation_that_tried_nothing_is_told(candidates: list[Any]) -> None:
    page = "\n".join(compilation(compiled(candidates=candidates, won=False, confirmed={})))
    assert "No text did better" in page
    assert "tried 0 other texts" in page
    assert "<figure" not in page
    assert compilation(None) == []


def test_worked_examples_are_counted() -> None:
    rows = [row(0, FIRST, 0.4, 0.0), row(1, FIRST, 0.5, 0.01, demos={"write": 2})]
    state = {"write": {"signature": {"instructions": FIRST}, "demos": [1, 2]}}
    page = "\n".join(compilation(compiled(candidates=rows, state=state, confirmed={}, optimizer="bootstrap")))
    assert "2 worked examples in place of 0 (the instruction is as it was)" in page
