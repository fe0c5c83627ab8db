"""What a report says of a compilation: in words, with a curve, with a reason for each text, and with the change to it."""

from __future__ import annotations

from typing import Any

import pytest

from syneg.verdict.compilation import chosen, compilation, compilation_page, front, story, what_became
from syneg.verdict.compiling_cost import curve

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
        "No. 2, here the candidate, was chosen. The last word (full training, confirm split): nDCG@10 0.4120, and 0.4050 "
        "with the author's (+0.0070 ± 0.0030 [+0.0010, +0.0130], 320 queries, which would have shown 0.0080). The interval "
        "lies over 0, so the candidate replaces the program."
    )
    assert cost == (
        "The search took 60 calls, 31,200 tokens, $0.04; the comparison that had the last word is not counted. A limit ended "
        "the search early (calls: 60 of 60)."
    )
    used = {"calls": 60.0, "tokens": 31200.0, "usd": 0.043, "minutes": 11.46}
    last = {"calls": 1200.0, "tokens": 802000.0, "usd": 0.61, "minutes": 40.0}
    assert story(compiled(used=used, used_to_confirm=last, stopped=""))[2] == (
        "The search took 60 calls, 31,200 tokens, $0.04 and 11.5 minutes; the comparison that had the last word took "
        "1,200 calls, 802,000 tokens, $0.61 and 40.0 minutes."
    )
    assert story(compiled(used=used, stopped="", confirmed={}))[2].endswith("$0.04 and 11.5 minutes.")
    tie = {**compiled()["confirmed"], "interval": (-0.001, 0.013), "cost": (1200.0, 900.0)}
    assert story(compiled(won=False, confirmed=tie))[1].endswith(
        "No difference is shown. An accepted negative takes 1,200 tokens with the candidate and 900 tokens with the program "
        "as it was, so the program as it was is used."
    )
    assert story(compiled(won=False, confirmed={}))[1] == "No text did better than the author's, which is used."
    alone = compiled(won=False, confirmed={}, candidates=[row(0, FIRST, 0.41)])
    assert story(alone)[1] == "No other text was proposed, so the author's is used."
    copies = compiled(won=False, confirmed={}, candidates=[row(0, FIRST, 0.41), row(1, "Copy", 0.6, copies="a phrase")])
    assert story(copies)[1] == "Every other text repeats a phrase of the training data, so the author's is used."
    unusable = compiled(won=False, confirmed={}, unusable=2)
    assert story(unusable)[1] == (
        "No. 2 was chosen, but nothing that it wrote for the queries that decide could be used, so the author's is used."
    )
    assert what_became(unusable)[2] == "chosen, and refused: none of its last answers could be used"
    assert story(compiled(confirmed={}))[1] == "No. 2 was chosen and is used; no further queries confirmed it."


def test_the_curve_is_told_as_text() -> None:
    assert curve(compiled(candidates=[row(0, FIRST, 0.4, 0.001, critic_error=0.05), row(1, "Copy", 0.9, copies="a phrase"),
                                      row(2, "Two.", 0.55), row(3, "Three.", 0.5)])["candidates"]) == [
        "no. 0   0.400 ± 0.098  ########              gain +0.0010  best so far",
        "no. 1   0.900 ± 0.000  ##################",
        "no. 2   0.550 ± 0.000  ###########           best so far",
        "no. 3   0.500 ± 0.000  ##########",
    ]  # fmt: skip


def test_every_text_has_what_became_of_it() -> None:
    assert what_became(compiled()) == {
        0: "the author's own text",
        1: f"refused: it repeats a phrase of the training data, “a phrase {PLANTED}”",
        2: "won: it is used",
        3: "refused: its answers were worth less than those of the texts that were compared",
        4: "refused: no. 2 gained more",
    }
    kept = what_became(compiled(won=False))
    assert (kept[0], kept[2]) == (
        "the author's own text: it is used",
        "chosen, and refused: the lead was not confirmed",
    )
    assert chosen(compiled(confirmed={})) == 2
    rows = [row(0, FIRST, 0.4, 0.0), row(1, "One.", 0.5, 0.02, refused="standard nDCG@10 falls by 0.0100 ± 0.0071"),
            row(2, "Two.", 0.1, stopped="behind program 0 after 4 examples")]  # fmt: skip
    became = what_became(compiled(candidates=rows, won=False, confirmed={}))
    assert became[1] == "refused: standard nDCG@10 falls by 0.0100 ± 0.0071"
    assert became[2] == "refused: behind program 0 after 4 examples"


def test_the_change_is_shown_word_by_word_and_nothing_planted_is_code() -> None:
    page = "\n".join(compilation(compiled()))
    assert "<del>is not.</del> <ins>breaks one requirement of it.</ins> Keep the style." in page
    assert page.index("<h3>What changed in no. 2") < page.index("What changed in no. 1")
    assert PLANTED not in page and "&lt;script&gt;" in page
    assert page.count("<figure") == 2
    assert "3 texts; the highest is no. 2 with 0.0090, no. 0 has 0.0010" in page
    assert "+0.0090 ± 0.0039" in page


@pytest.mark.parametrize(
    ("target", "head", "tried"),
    [
        ("writer", "How the prompt was improved", "Each text wrote for some train queries."),
        (
            "reader",
            "How the reader&#x27;s prompt was improved",
            "Each text graded the passages of labelled train queries.",
        ),
        (
            "queries",
            "How the prompt for queries was improved",
            "Each text wrote a query for some passages of the corpus.",
        ),
    ],
)
def test_each_target_is_told_in_its_own_words(target: str, head: str, tried: str) -> None:
    page = "\n".join(compilation(compiled(target=target, measure="nDCG@10 of something", baseline="nothing")))
    assert f"<h2>{head}</h2>" in page and tried in page
    assert (
        "<th class=long>nDCG@10 of something over nothing</th>" in page
        and "the gain in nDCG@10 of something decides" in page
    )


def test_every_target_has_words_of_its_own() -> None:
    from syneg.run.targets import TARGETS
    from syneg.verdict.compilation import _HEADS, _TRIED

    assert {*_HEADS, "sampler"} == {*_TRIED, "sampler"} == {*TARGETS}


def test_the_texts_that_none_beats_in_both_figures_are_marked() -> None:
    rows = [row(n, f"Text {n}.", 0.5, gain, figures={"recall": (second, 0.05)})
            for n, (gain, second) in enumerate([(0.1, 0.9), (0.2, 0.5), (0.1, 0.5)])]  # fmt: skip
    assert front(rows, "recall") == {0, 1} and front([row(0, "x", 0.5)], "recall") == set()
    page = "\n".join(compilation(compiled(candidates=rows, second="recall", won=False, confirmed={})))
    assert "<th>recall</th><th>*</th>" in page and page.count("<td>*</td>") == 2
    assert "<td class=n>0.900 ± 0.098</td>" in page and "* no other text is better in both figures" in page


def test_races_are_told_one_by_one() -> None:
    def raced(number: int, about: str, name: str, gain: float, **more: Any) -> dict[str, Any]:
        return {
            **row(number, "", 0.1, gain),
            "instructions": {about: f"{name}: {{}}"},
            "origin": f"{name} {PLANTED}",
            **more,
        }

    rows = [raced(0, "places of a row", "3 places", 0.0), raced(1, "places of a row", "1 places", 0.012),
            raced(2, "written negatives", "as set", 0.0), raced(3, "written negatives", "none", -0.02, stopped="after block 1")]  # fmt: skip
    state = {"mine.margin": 1e9, "mix.negatives": 1}
    page = "\n".join(
        compilation(
            compiled(
                target="sampler", candidates=rows, state=state, confirmed={}, used={"probes": 7}, notes=["a <note>"]
            )
        )
    )
    assert "The races changed the settings. They took 7 probes." in page
    assert "<td>mix.negatives</td><td class=n>1</td>" in page and "a &lt;note&gt;" in page
    assert "<td>mine.margin</td><td>none</td>" in page
    assert page.count("<figure") == 2 and "Race: places of a row" in page
    assert "nDCG@10 over 3 places" in page and "stopped after block 1" in page and "+0.0120 ± 0.0039" in page
    assert PLANTED not in page


def test_a_page_of_its_own_is_a_whole_document() -> None:
    page = compilation_page(compiled(target="reader"))
    assert page.startswith("<!doctype html>") and "<title>reader compiled: syneg-dspy</title>" in page


@pytest.mark.parametrize("candidates", [[], [row(0, FIRST, 0.4)]])
def test_a_compilation_that_tried_nothing_is_told(candidates: list[Any]) -> None:
    page = "\n".join(compilation(compiled(candidates=candidates, won=False, confirmed={})))
    assert "No other text was proposed, so the author" in page
    assert "tried 0 other texts" in page
    assert "<figure" not in page
    assert compilation(None) == []


def test_worked_examples_are_counted() -> None:
    rows = [row(0, FIRST, 0.4, 0.0), row(1, FIRST, 0.5, 0.01, demos={"write": 2})]
    state = {"write": {"signature": {"instructions": FIRST}, "demos": [1, 2]}}
    page = "\n".join(compilation(compiled(candidates=rows, state=state, confirmed={}, optimizer="bootstrap")))
    assert "2 worked examples in place of 0 (the instruction is as it was)" in page
