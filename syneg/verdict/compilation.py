"""The section of report.html on a compilation, for readers who do not know DSPy; also as a page of its own.

    compilation(compiled)       → ["<h2>How the prompt was improved</h2>", "<p>…", "<figure …", …]
    compilation_page(compiled)  → "<!doctype html>…"
    what_became(compiled)       → {0: "the author's own text", 1: "refused: it repeats …", 3: "won: it is used"}
    front(rows, second)         → {0, 3}      the texts that no other one beats in both figures

`compiled` is the data of compiled.json. Text of users and LMs is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from .compiling_cost import cost
from .confirmed import Confirmed
from .diffs import diffs
from .figures import Figure, intervals
from .markup import document, drawn, html_table
from .raced import races
from .report import short
from .statistics import ERRORS_95

Compiled = Mapping[str, Any]
Rows = Sequence[Mapping[str, Any]]
_RECIPES = {
    "search": "an LLM read what went wrong with an earlier text and wrote a better one",
    "gepa": (
        "an LLM read feedback on single answers and rewrote one instruction at a time; every text that was best for "
        "some query stayed"
    ),
    "mipro": "an LLM wrote instructions, and these were combined with good answers as examples by Bayesian search",
    "simba": "rules and examples were drawn from the answers to one query that differed most in value",
    "copro": "an LLM wrote instructions in rounds and saw how well those of the round before had done",
    "bootstrap": "the program's own good answers were shown to it as examples; the instructions stayed",
}
_HEADS = {
    "writer": "How the prompt was improved",
    "reader": "How the reader's prompt was improved",
    "queries": "How the prompt for queries was improved",
}
# what the texts did, what the value of an answer is, and what is compared
_TRIED = {
    "writer": (
        "Each text wrote for some train queries. The value of its answers, 0 to 1, says how many pass the gates and "
        "how hard they are for the encoder. The best texts were then compared by a short training on their answers"
    ),
    "reader": (
        "Each text graded the passages of labelled train queries. The value of an answer, 0 to 1, is nDCG@10 of the "
        "passages in the order of its grades, and 0 for an answer that could not be read. The best texts were then "
        "compared on all of these queries"
    ),
    "queries": (
        "Each text wrote a query for some passages of the corpus. The value of an answer, 0 to 1, says how high a "
        "search with the query ranks its own passage. The best texts were then compared on all of these passages"
    ),
}


def compilation(compiled: Compiled | None) -> list[str]:
    """The section as parts of HTML; [] without a compilation."""
    if not compiled:
        return []
    if _target(compiled) == "sampler":
        return races(compiled)
    figures = [figure for figure in (_gains(compiled), _values(compiled)) if figure is not None]
    rows = compiled.get("candidates", ())
    star = "<p><small>* no other text is better in both figures</small></p>" if front(rows, _second(compiled)) else ""
    return [
        f"<h2>{escape(_HEADS[_target(compiled)])}</h2>", *(f"<p>{escape(text)}</p>" for text in story(compiled)),
        *(drawn(figure, 3) for figure in figures), "<h3>What was tried</h3>", _table(compiled), star,
        *diffs(rows, chosen(compiled)),
    ]  # fmt: skip


def compilation_page(compiled: Compiled) -> str:
    """The section as a page of its own."""
    return document(f"{_target(compiled)} compiled", compilation(compiled))


def story(compiled: Compiled) -> list[str]:
    """Three paragraphs: what the compilation did, its outcome, and its cost."""
    rows = compiled.get("candidates", ())
    tried = max(0, len(rows) - 1)
    how = _RECIPES.get(compiled["optimizer"], "other texts were proposed")
    texts = "text" if tried == 1 else "texts"
    what = (
        f"A program is the text that tells the LLM what to do. This run tried {tried} other {texts} beside the "
        f"author's own ({compiled['program']}, no. 0), by the recipe {compiled['optimizer']}: {how}. "
        f"{_TRIED[_target(compiled)]}: the gain in {_measure(compiled)} decides which text is chosen."
    )
    return [what, _outcome(compiled), cost(compiled)]


def _outcome(compiled: Compiled) -> str:
    best = chosen(compiled)
    if best == 0 or compiled.get("unusable"):
        return unchanged(compiled)
    if not compiled.get("confirmed"):
        return f"No. {best} was chosen and is used; no further queries confirmed it."
    confirmed = Confirmed.from_json(compiled["confirmed"])
    return (
        f"No. {best}, here the candidate, was chosen. The last word ({confirmed.how}): {confirmed.measure} "
        f"{confirmed.mean[0]:.4f}, and {confirmed.mean[1]:.4f} with the author's ({confirmed.figures}). "
        f"{confirmed.verdict} {confirmed.tested}".rstrip()
    )


def unchanged(compiled: Compiled) -> str:
    """Why the author's own text is used although nothing was compared at the end."""
    others = [row for row in compiled.get("candidates", ()) if row["number"]]
    if best := compiled.get("unusable"):
        which = "nothing that it wrote for the queries that decide could be used"
        return f"No. {best} was chosen, but {which}, so the author's is used."
    if not others:
        return "No other text was proposed, so the author's is used."
    if all(row["copies"] for row in others):
        return "Every other text repeats a phrase of the training data, so the author's is used."
    return "No text did better than the author's, which is used."


def chosen(compiled: Compiled) -> int:
    """The number of the text that was chosen, confirmed or not; 0 is the author's own text."""
    if compiled.get("unusable"):
        return int(compiled["unusable"])
    confirmed = compiled.get("confirmed") or {}
    if confirmed:
        return int(confirmed["candidate"])
    state = compiled.get("state", {})
    for row in reversed(compiled.get("candidates", ())):
        parts = [state.get(name, {}) for name in row["instructions"]]
        texts = [part.get("signature", {}).get("instructions") for part in parts]
        demos = [len(part.get("demos", ())) for part in parts]
        if compiled["won"] and (texts, demos) == ([*row["instructions"].values()], [*row["demos"].values()]):
            return int(row["number"])
    return 0


def what_became(compiled: Compiled) -> dict[int, str]:
    """number of a text → why it was refused or used."""
    rows, best = compiled.get("candidates", ()), chosen(compiled)
    gains = {row["number"]: row["gain"] for row in rows if row["gain"] is not None}
    return {row["number"]: _became(compiled, row, best, gains) for row in rows}


def _became(compiled: Compiled, row: Mapping[str, Any], best: int, gains: Mapping[int, float]) -> str:
    number = row["number"]
    if row["copies"]:
        return f"refused: it repeats a phrase of the training data, “{short(row['copies'], 60)}”"
    if number == best and number:
        lost = "none of its last answers could be used" if compiled.get("unusable") else "the lead was not confirmed"
        return "won: it is used" if compiled["won"] else f"chosen, and refused: {lost}"
    if number == 0:
        return "the author's own text" + ("" if compiled["won"] else ": it is used")
    if row.get("refused"):
        return f"refused: {row['refused']}"
    if row.get("stopped"):
        return f"refused: {row['stopped']}"
    if number not in gains:
        return "refused: its answers were worth less than those of the texts that were compared"
    if best in gains and gains[number] < gains[best]:
        return f"refused: no. {best} gained more"
    if best in gains and gains[number] == gains[best]:
        return f"refused: no better than no. {best}"
    return f"refused: gain and value together were less than those of no. {best}"


def front(rows: Rows, second: str) -> set[int]:
    """The Pareto front: numbers of the scored texts that none beats in one of gain and `second` and equals in the
    other."""
    both = {
        row["number"]: (row["gain"], row["figures"].get(second, (0.0, 0.0))[0])
        for row in rows if row["gain"] is not None
    }  # fmt: skip
    return {
        number for number, own in both.items()
        if not any(other != own and other[0] >= own[0] and other[1] >= own[1] for other in both.values())
    }  # fmt: skip


def _table(compiled: Compiled) -> str:
    """Every text: what became of it, its value, its gain, all further figures, and whether none beats it in both."""
    rows, became = compiled.get("candidates", ()), what_became(compiled)
    names = list(dict.fromkeys(name for row in rows for name in row["figures"]))
    unbeaten = front(rows, _second(compiled))
    columns = ("text", "what became of it", "examples", "value of its answers", _gain_name(compiled), *names, "*")
    cells = [
        (
            str(row["number"]), became[row["number"]], str(row["pairs"]),
            _within(row["critic"], row.get("critic_error") or 0.0, 3, ""), _gain(row),
            *(_figure(name, row["figures"].get(name)) for name in names),
            "*" if row["number"] in unbeaten else "",
        )
        for row in rows
    ]  # fmt: skip
    return html_table(columns, cells)


def _gain(row: Mapping[str, Any]) -> str:
    return "" if row["gain"] is None else _within(row["gain"], row["error"] or 0.0, 4, "+")


def _figure(name: str, found: tuple[float, float] | None) -> str:
    """A further figure; one over a baseline has its sign."""
    return "" if found is None else _within(*found, 3, "+" if " over " in name else "")


def _within(value: float, error: float, digits: int, sign: str) -> str:
    """A value with half of its 95 % interval."""
    return f"{value:{sign}.{digits}f}" + (f" ± {ERRORS_95 * error:.{digits}f}" if error else "")


def _target(compiled: Compiled) -> str:
    return str(compiled.get("target", "writer"))


def _measure(compiled: Compiled) -> str:
    return str(compiled.get("measure", "nDCG@10"))


def _second(compiled: Compiled) -> str:
    return str(compiled.get("second", ""))


def _gain_name(compiled: Compiled) -> str:
    return f"{_measure(compiled)} over {compiled.get('baseline', 'mined alone')}"


def _gains(compiled: Compiled) -> Figure | None:
    points = [
        (row["number"], row["gain"], ERRORS_95 * (row["error"] or 0.0))
        for row in compiled.get("candidates", ()) if row["gain"] is not None
    ]  # fmt: skip
    return intervals("Gain of each text that was compared", points, f"{_gain_name(compiled)}, with 95 %")


def _values(compiled: Compiled) -> Figure | None:
    points = [
        (row["number"], row["critic"], ERRORS_95 * (row.get("critic_error") or 0.0))
        for row in compiled.get("candidates", ())
    ]
    return intervals("Value of the answers to each text", points, "value of an answer, 0 to 1, with 95 %")
