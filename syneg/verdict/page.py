"""report.html: the verdict as one self-contained page, for light and dark screens, phones and paper.

    html_report(verdict, Evidence(queries, rows, mined, positives, settings), …) → "<!doctype html>…"

The page shows the sentence, then pictures (`figures`) with their numbers, all arms, samples of negatives, a glossary
and the settings. Text of users and LMs is escaped. The only script filters the samples; without it all are visible.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from . import figures
from .figures import Figure
from .records import Verdict
from .report import arm_cells, generation_line, notes

_SAMPLES = 60
_STYLE = """:root{color-scheme:light dark;--back:#fff;--fore:#1a1a1a;--soft:#f4f4f2;--line:#bbb;--mild:#555}
@media(prefers-color-scheme:dark){:root{--back:#16181c;--fore:#e6e6e6;--soft:#23262b;--line:#4a4d52;--mild:#aaa}}
@media print{:root{--back:#fff;--fore:#000;--soft:#fff;--mild:#333}.filters{display:none}
figure,article{break-inside:avoid}body{font-size:11px}svg{max-height:15rem;max-width:28rem}}
*{box-sizing:border-box}
body{overflow-wrap:anywhere;font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem;
color:var(--fore);background:var(--back)}
pre,.wide{overflow-x:auto;background:var(--soft);padding:.6rem;font-size:13px;max-width:100%}
@media(max-width:600px){pre{font-size:9px}}@media print{pre{font-size:9px;white-space:pre-wrap}}
table{border-collapse:collapse;font-size:13px}
td,th{border-bottom:1px solid var(--line);padding:.2rem .4rem;text-align:left;overflow-wrap:break-word;
max-width:30rem}th{white-space:nowrap}
figure{margin:1rem 0}svg{width:100%;height:auto;max-width:42rem;max-height:34rem}
td.n{text-align:right;white-space:nowrap}label{display:inline-block;margin-right:.6rem}
article{border-top:1px solid var(--line);padding:.6rem 0}
.sides{display:grid;grid-template-columns:repeat(auto-fit,minmax(15rem,1fr));gap:1rem}
.sides p{margin:0;overflow-wrap:anywhere}
small,figcaption{color:var(--mild)}.lead{font-size:1.25rem}.no{color:#c03a1c}
@media(prefers-color-scheme:dark){.no{color:#ff9a7c}}
ins{color:#1f8a3b;text-decoration:none}del{color:#c0392b}input,select{font:inherit;max-width:100%;margin:.2rem}"""
_SCRIPT = """for(const e of document.querySelectorAll(".filters *"))e.addEventListener("input",()=>{
const [q,p,g]=["query","program","gate"].map(n=>document.getElementById("by-"+n).value);
for(const a of document.querySelectorAll("article"))a.hidden=!(a.textContent.toLowerCase().includes(q.toLowerCase())
&&(!p||a.dataset.program===p)&&(!g||a.dataset.gate===g))})"""
_GLOSSARY = {
    "arm": "one way to choose the negatives of the training rows, with its settings",
    "base": "the encoder before training",
    "nDCG@10": "how high the relevant passages rank among the first ten, 1 at best",
    "interval": "the mean difference lies in it for 95 % of samples drawn again from the same queries",
    "p (Holm)": "how often chance alone gives a difference this large, corrected for the number of comparisons",
    "near-miss": "a passage written to look relevant to a held-out query, although it does not answer",
    "boundary": "the share of near-misses that the encoder ranks below the positive of their query",
    "source probe": "how well a linear model tells synthetic from mined negatives: .5 is chance, 1 is always right",
    "gate": "a test that a synthetic negative must pass before it is trained on",
}


@dataclass(frozen=True)
class Evidence:
    """What the page shows beside the verdict.

    `queries` and `positives` are texts by query_id and doc_id. `rows` are those of negatives.jsonl, `mined` the mined
    negatives by query_id. `times` is a sentence on the seconds of the stages, `command` the command line. `compiled`
    holds the data of compiled.json, `prompts` the program's prompts before and after compiling.
    """

    queries: Mapping[str, str]
    rows: Sequence[Mapping[str, Any]] = ()
    positives: Mapping[str, str] = field(default_factory=dict)
    mined: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    times: str = ""
    command: str = ""
    compiled: Mapping[str, Any] | None = None
    prompts: tuple[str, str] = ("", "")


def document(title: str, parts: Iterable[str]) -> str:
    """A whole HTML page: `parts`, in order, with the style of all pages."""
    head = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width,initial-scale=1'>",
        f"<title>{escape(title)}: syneg-dspy</title><style>{_STYLE}</style></head><body>",
    ]
    return "\n".join((*head, *parts, "</body></html>"))


def html_report(verdict: Verdict, evidence: Evidence) -> str:
    """The whole HTML page of one run."""
    parts = [
        f"<h1>{escape(verdict.collection)}</h1><p class=lead>{escape(verdict.sentence)}</p>",
        f"<p>{escape(generation_line(verdict.generation))}.</p>",
        *map(drawn, _figures(verdict, evidence)),
        *_arms(verdict),
        *_changes(verdict, evidence.queries), *_compilation(evidence), *_samples(evidence), *_glossary(),
        *_settings(evidence), f"<script>{_SCRIPT}</script>",
    ]  # fmt: skip
    return document(verdict.collection, parts)


def _arms(verdict: Verdict) -> list[str]:
    """A table of all arms with their figures, without empty columns, and the notes on it."""
    columns = (
        "arm", "nDCG@10", "MRR@10", "recall@100", "dev", "vs base", "95 %", "p (Holm)", "won/lost", "seeds", "seeds ±",
        "boundary", "train s", "LM tokens", "$",
    )  # fmt: skip
    rows = [arm_cells(verdict, arm) for arm in verdict.arms]
    filled = [place for place in range(len(columns)) if any(row[place] for row in rows)]
    counts = verdict.queries
    remarks = [f"Test: {counts.get('test', 0)} queries, dev: {counts.get('dev', 0)}; * best on dev.", *notes(verdict)]
    if verdict.left_out:
        remarks.append(f"left out, because no synthetic negative was accepted: {', '.join(verdict.left_out)}")
    return [
        "<h2>Arms</h2>",
        html_table([columns[i] for i in filled], [[row[i] for i in filled] for row in rows]),
        *(f"<p><small>{escape(note)}</small></p>" for note in remarks),
    ]


def _figures(verdict: Verdict, evidence: Evidence) -> Iterable[Figure]:
    generation = verdict.generation
    mined = [n.score for negatives in evidence.mined.values() for n in negatives]
    cosines: dict[str, list[float]] = {"mined": mined, "accepted": [], "rejected": [], "positive": []}
    for row in evidence.rows:
        if "query_cosine" in row["figures"]:
            cosines["accepted" if row["accepted"] else "rejected"].append(row["figures"]["query_cosine"])
        if "positive_query_cosine" in row["figures"]:
            cosines["positive"].append(row["figures"]["positive_query_cosine"])
    runs = {
        f"{arm}, seed {seed}": run
        for arm, result in verdict.arms.items()
        for seed, run in zip(result.test_by_seed, result.training, strict=False)
    }
    dev = {name: [(float(step), float(value)) for step, value in run.dev] for name, run in runs.items()}
    losses = {name: [(float(step), float(value)) for step, value in run.losses] for name, run in runs.items()}
    drawn = [
        figures.effect(verdict), figures.wins(verdict),
        figures.bars("Why negatives were rejected", generation.reasons, "negatives") if generation else None,
        figures.histogram("Cosine to the query", cosines, "cosine under the base encoder"),
        figures.coverage(generation) if generation else None,
        figures.curves("Training loss", losses, "loss"), figures.curves("Score on dev while training", dev, "nDCG@10"),
        figures.bars("Source probe", verdict.source_probe, (
            "AUC of telling synthetic from mined (.5 = indistinguishable)"
        )),
    ]  # fmt: skip
    return [figure for figure in drawn if figure is not None]


def drawn(figure: Figure) -> str:
    """A figure as HTML: title, picture, its words for screen readers, and its numbers in a table to unfold."""
    return (
        f"<figure role=group aria-label='{escape(figure.title)}'><h2>{escape(figure.title)}</h2>"
        f"<div role=img aria-label='{escape(figure.text)}'>{figure.svg}</div>"
        f"<details><summary>as a table</summary>{html_table(figure.columns, figure.rows)}</details></figure>"
    )


def html_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """An HTML table that scrolls sideways if it is wider than the page. All cells are escaped."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    return f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _cell(value: object) -> str:
    text = str(value)
    number = text[:1] in "+-[.0123456789" and len(text) < 24
    return f"<td{' class=n' if number and text else ''}>{escape(text)}</td>"


def _changes(verdict: Verdict, queries: Mapping[str, str]) -> list[str]:
    """The test queries that gained and lost most nDCG@10 from the base to the best arm."""
    row = next((row for row in verdict.comparisons if row.gained or row.lost), None)
    if row is None:
        return []
    parts = [f"<h2>From {escape(row.a)} to {escape(row.b)}</h2>"]
    for name, changes in (("gained", row.gained), ("lost", row.lost)):
        items = [f"<li>{delta:+.2f} {escape(queries.get(q, q))}</li>" for q, delta in changes.items()]
        parts.append(f"<p>{name} most, nDCG@10</p><ul>{''.join(items) or '<li>none</li>'}</ul>")
    return parts


def _compilation(evidence: Evidence) -> list[str]:
    """The result of a compilation, its candidates, and a diff of the prompt before and after."""
    compiled = evidence.compiled
    if not compiled:
        return []
    outcome = "its program replaced the author's" if compiled.get("won") else "the author's program was kept"
    confirmed = compiled.get("confirmed") or {}
    if confirmed:
        outcome += (
            f": {confirmed['delta']:+.4f} ± {confirmed['error']:.4f} nDCG@10 on {confirmed['queries']} confirm queries"
        )
    parts = ["<h2>Compilation</h2>", f"<p>By {escape(str(compiled.get('optimizer', '')))}; {escape(outcome)}.</p>"]
    candidates = compiled.get("candidates", ())
    if candidates:
        keys = ("number", "critic", "gain", "boundary", "copies")
        cells = [["" if row.get(key) is None else str(row[key]) for key in keys] for row in candidates]
        parts.append(html_table(keys, cells))
    before, after = evidence.prompts
    if before != after:
        lines = []
        for line in difflib.unified_diff(before.splitlines(), after.splitlines(), "before", "after", lineterm=""):
            tag = {"+": "ins", "-": "del"}.get(line[:1], "")
            lines.append(f"<{tag}>{escape(line)}</{tag}>" if tag else escape(line))
        parts.append(f"<h3>The prompt, before and after</h3><pre>{chr(10).join(lines)}</pre>")
    return parts


def _samples(evidence: Evidence) -> list[str]:
    """Up to 60 negatives, accepted ones first, each beside its query, its positive and a mined negative."""
    accepted = [row for row in evidence.rows if row["accepted"]]
    rejected = [row for row in evidence.rows if not row["accepted"] and row["text"]]
    half = _SAMPLES // 2
    chosen = [*accepted[: _SAMPLES - min(half, len(rejected))], *rejected[: _SAMPLES - min(half, len(accepted))]]
    if not chosen:
        return []
    options = {
        "program": sorted({row["program"] for row in chosen}),
        "gate": sorted({row["reason"] or "accepted" for row in chosen}),
    }
    picks = "".join(
        f"<label>{name} <select id=by-{name}><option value=''>all</option>"
        + "".join(f"<option>{escape(value)}</option>" for value in values)
        + "</select></label> "
        for name, values in options.items()
    )
    search = "<label>text <input id=by-query type=search></label> "
    count = f"{len(chosen)} of {len(evidence.rows)} negatives."
    head = f"<h2>Samples</h2><p>{count}</p><div class=filters>{search}{picks}</div>"
    return [head, *(_sample(row, evidence) for row in chosen)]


def _sample(row: Mapping[str, Any], evidence: Evidence) -> str:
    mined = next((n.text for n in evidence.mined.get(row["query_id"], ())), "")
    if row["accepted"]:
        why = "accepted"
    else:
        figure = "" if row["figure"] is None else f" ({row['figure']:.3g}, threshold {row['threshold']:.3g})"
        why = f"rejected: {row['reason']}{figure}"
    sides = (("positive", evidence.positives.get(row["doc_id"], "")), ("mined", mined), ("synthetic", row["text"]))
    texts = "".join(f"<div><small>{name}</small><p>{escape(text[:1200])}</p></div>" for name, text in sides if text)
    attributes = "; ".join(f"{key}: {value}" for key, value in row["attributes"].items())
    return (
        f'<article data-program="{escape(row["program"])}" data-gate="{escape(row["reason"] or "accepted")}">'
        f"<h3>{escape(row['query'])}</h3><div class=sides>{texts}</div>"
        f"<small class={'yes' if row['accepted'] else 'no'}>{escape(why)}</small> "
        f"<small>{escape(row['program'])}{escape('; ' + attributes if attributes else '')}</small></article>"
    )


def _glossary() -> list[str]:
    return ["<h2>Words</h2>", html_table(("word", "meaning"), _GLOSSARY.items())]


def _settings(evidence: Evidence) -> list[str]:
    flat = [
        (f"{section}.{key}", str(value))
        for section, values in evidence.settings.items() if isinstance(values, Mapping)
        for key, value in values.items()
    ]  # fmt: skip
    return [
        "<h2>How it was made</h2>", f"<p>{escape(evidence.times)}</p><pre>{escape(evidence.command)}</pre>",
        "<details><summary>versions</summary>"
        f"{html_table(('package', 'version'), evidence.versions.items())}</details>",
        f"<details><summary>settings</summary>{html_table(('setting', 'value'), flat)}</details>",
    ]  # fmt: skip
