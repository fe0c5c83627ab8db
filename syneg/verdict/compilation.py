"""The section of report.html on a compilation, for readers who do not know DSPy.

    compilation(compiled)  → ["<h2>How the prompt was improved</h2>", "<p>…", "<figure …", …]
    what_became(compiled)  → {0: "the author's own text", 1: "refused: it repeats …", 3: "won: it is what this run …"}

`compiled` is the data of compiled.json. Text of users and LMs is escaped.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from .figures import Figure, intervals
from .markup import drawn, html_table
from .report import short

_95 = 1.96  # standard errors in half of a 95 % interval
_FEW_WORDS = 3  # fewer unchanged words between two changes are shown as part of one change
Compiled = Mapping[str, Any]
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


def compilation(compiled: Compiled | None) -> list[str]:
    """The section as parts of HTML; [] without a compilation."""
    if not compiled:
        return []
    rows = compiled.get("candidates", ())
    became = what_became(compiled)
    columns = ("text", "what became of it", "value of its answers", f"nDCG@10 over {_baseline(compiled)}", "queries")
    cells = [
        (str(row["number"]), became[row["number"]], f"{row['critic']:.3f}", _gain(row), str(row["pairs"]))
        for row in rows
    ]
    figures = [figure for figure in (_gains(compiled), _values(compiled)) if figure is not None]
    return [
        "<h2>How the prompt was improved</h2>", *(f"<p>{escape(text)}</p>" for text in story(compiled)),
        *(drawn(figure, 3) for figure in figures), "<h3>What was tried</h3>", html_table(columns, cells),
        *_diffs(compiled),
    ]  # fmt: skip


def story(compiled: Compiled) -> list[str]:
    """Three paragraphs: what the compilation did, its outcome, and its cost."""
    rows, used = compiled.get("candidates", ()), compiled.get("used", {})
    tried = max(0, len(rows) - 1)
    how = _RECIPES.get(compiled["optimizer"], "other texts were proposed")
    texts = "text" if tried == 1 else "texts"
    what = (
        f"A program is the text that tells the LLM what to write. This run tried {tried} other {texts} beside the "
        f"author's own ({compiled['program']}, no. 0), by the recipe {compiled['optimizer']}: {how}. Each text wrote "
        "for some train queries. The value of its answers, 0 to 1, says how many pass the gates and how hard they are "
        "for the encoder. The best texts were then compared by a short training on their answers: the gain in nDCG@10 "
        "decides which text is chosen."
    )
    money = f"{used.get('calls', 0):,.0f} calls, {used.get('tokens', 0):,.0f} tokens, ${used.get('usd', 0.0):.2f}"
    cost = f"It took {money}."
    if compiled.get("stopped"):
        cost += f" A limit ended it early ({compiled['stopped']})."
    return [what, _outcome(compiled), cost]


def _outcome(compiled: Compiled) -> str:
    best, confirmed = chosen(compiled), compiled.get("confirmed") or {}
    if best == 0:
        return "No text did better than the author's, which this run used."
    if not confirmed:
        return f"No. {best} was chosen and used; no further queries confirmed it."
    interval = confirmed.get("interval")
    gain = f"{confirmed['delta']:+.4f} nDCG@10" + (f" [{interval[0]:+.4f}, {interval[1]:+.4f}]" if interval else "")
    gain += f" against the author's, on {confirmed['queries']} queries that no proposal had seen"
    if confirmed.get("detectable") is not None:
        gain += f", which would have shown {confirmed['detectable']:.4f}"
    how = confirmed.get("how", "full training, confirm split")
    verdict = "so it replaced the author's" if compiled["won"] else "so the author's text was kept"
    return f"No. {best} was chosen. The last word had {how}: {gain}, {verdict}."


def chosen(compiled: Compiled) -> int:
    """The number of the text that was chosen, confirmed or not; 0 is the author's own text."""
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
    scored = {row["number"]: row["gain"] for row in rows if row["gain"] is not None}
    became = {}
    for row in rows:
        number = row["number"]
        if row["copies"]:
            text = f"refused: it repeats a phrase of the training data, “{short(row['copies'], 60)}”"
        elif number == best and number:
            text = (
                "won: it is what this run used"
                if compiled["won"]
                else "chosen, and refused: the lead was not confirmed"
            )
        elif number == 0:
            text = "the author's own text" + ("" if compiled["won"] else ": it is what this run used")
        elif number not in scored:
            text = "refused: its answers were worth less than those of the texts that were trained on"
        elif best in scored and scored[number] <= scored[best]:
            text = (
                f"refused: no. {best} gained more"
                if scored[number] < scored[best]
                else f"refused: no better than no. {best}"
            )
        else:
            text = f"refused: gain and value together were less than those of no. {best}"
        became[number] = text
    return became


def _baseline(compiled: Compiled) -> str:
    return str(compiled.get("baseline", "mined alone"))


def _gain(row: Mapping[str, Any]) -> str:
    return "" if row["gain"] is None else f"{row['gain']:+.4f} ± {_95 * (row['error'] or 0.0):.4f}"


def _gains(compiled: Compiled) -> Figure | None:
    points = [
        (row["number"], row["gain"], _95 * (row["error"] or 0.0))
        for row in compiled.get("candidates", ()) if row["gain"] is not None
    ]  # fmt: skip
    return intervals("Gain of each text that was trained on", points, f"nDCG@10 over {_baseline(compiled)}, with 95 %")


def _values(compiled: Compiled) -> Figure | None:
    points = [(row["number"], row["critic"], 0.0) for row in compiled.get("candidates", ())]
    return intervals("Value of the answers to each text", points, "value of an answer, 0 to 1")


def _diffs(compiled: Compiled) -> list[str]:
    """The changes in the chosen text, then those in every other text, folded."""
    rows: Sequence[Mapping[str, Any]] = compiled.get("candidates", ())
    if len(rows) < 2:
        return []
    first, best = rows[0], chosen(compiled)
    parts = []
    for row in sorted(rows[1:], key=lambda row: row["number"] != best):
        body = "".join(_diff(name, first, row) for name in row["instructions"])
        head = f"no. {row['number']}"
        if row["number"] == best:
            parts.append(f"<h3>What changed in no. {best}, the text that was chosen</h3>{body}")
        else:
            parts.append(f"<details><summary>What changed in {head}</summary>{body}</details>")
    return parts


def _diff(name: str, first: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """The changes in one step of a program: removed and added words, and its number of worked examples."""
    before, after = first["instructions"].get(name, "").split(), row["instructions"][name].split()
    words, a, c = list[str](), 0, 0
    for block in difflib.SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks():
        if 0 < block.size < _FEW_WORDS and block.b + block.size < len(after):
            continue  # a few words between two changes belong to one change
        old, new = escape(" ".join(before[a : block.a])), escape(" ".join(after[c : block.b]))
        words += [f"<del>{old}</del>"] * bool(old) + [f"<ins>{new}</ins>"] * bool(new)
        a, c = block.a + block.size, block.b + block.size
        words.append(escape(" ".join(after[block.b : c])))
    examples, others = row["demos"].get(name, 0), first["demos"].get(name, 0)
    shown = f"; {examples} worked examples in place of {others}" if examples != others else ""
    same = " (the instruction is as it was)" if before == after else ""
    return f"<p><small>step {escape(name)}{shown}{same}</small></p><blockquote>{' '.join(words)}</blockquote>"
