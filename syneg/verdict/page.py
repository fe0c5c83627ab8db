"""report.html: the verdict as one self-contained page, for light and dark screens, phones and paper.

    html_report(verdict, Evidence(queries, rows, mined, positives, settings), …) → "<!doctype html>…"

The page shows the sentence, then pictures (`figures`) with their numbers, all arms, samples of negatives, a glossary
and the settings. Text of users and LMs is escaped. The only script filters the samples; without it all are visible.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from syneg.core.text import cut
from syneg.core.toml import as_typed

from . import figures
from .compilation import compilation
from .figures import Figure
from .markup import document, drawn, html_table
from .raced import window
from .records import Verdict
from .report import arm_cells, generation_line, notes

_SAMPLES, _WORDS = 60, 200  # negatives that are shown, and words of each text
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
    holds the data of compiled.json. `reader` is the table of what was measured of the reader; "" if none was.
    `window` holds the data of window.json.
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
    reader: str = ""
    window: Mapping[str, Any] | None = None


def html_report(verdict: Verdict, evidence: Evidence) -> str:
    """The whole HTML page of one run."""
    parts = [
        f"<h1>{escape(verdict.collection)}</h1><p class=lead>{escape(verdict.sentence)}</p>",
        f"<p>{escape(generation_line(verdict.generation))}.</p>",
        *map(drawn, _figures(verdict, evidence)),
        *_arms(verdict),
        *_changes(verdict, evidence.queries), *compilation(evidence.compiled), *_reader(evidence.reader),
        *window(evidence.window), *_samples(evidence), *_glossary(), *_settings(evidence),
        f"<script>{_SCRIPT}</script>",
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
        remarks.append(f"left out, without accepted negatives or a trusted reader: {', '.join(verdict.left_out)}")
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
    own = ", of the run's own split" if verdict.folds else ""  # the table has dev over all folds
    drawn = [
        figures.effect(verdict), figures.wins(verdict),
        figures.bars("Why negatives were rejected", generation.reasons, "negatives") if generation else None,
        figures.histogram("Cosine to the query", cosines, "cosine under the base encoder"),
        figures.coverage(generation) if generation else None,
        figures.curves(f"Training loss{own}", losses, "loss"),
        figures.curves(f"Score on dev while training{own}", dev, "nDCG@10"),
        figures.bars("Source probe", verdict.source_probe, (
            "AUC of telling synthetic from mined (.5 = indistinguishable)"
        )),
    ]  # fmt: skip
    return [figure for figure in drawn if figure is not None]


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


def _reader(table: str) -> list[str]:
    return [f"<h2>Reader</h2><pre>{escape(table)}</pre>"] if table else []


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
    shown = ((name, cut(text, _WORDS)) for name, text in sides if text)
    texts = "".join(f"<div><small>{name}</small><p>{escape(text)}</p></div>" for name, text in shown)
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
        (f"{section}.{key}", as_typed(value))
        for section, values in evidence.settings.items() if isinstance(values, Mapping)
        for key, value in values.items()
    ]  # fmt: skip
    return [
        "<h2>How it was made</h2>", f"<p>{escape(evidence.times)}</p><pre>{escape(evidence.command)}</pre>",
        "<details><summary>versions</summary>"
        f"{html_table(('package', 'version'), evidence.versions.items())}</details>",
        f"<details><summary>settings</summary>{html_table(('setting', 'value'), flat)}</details>",
    ]  # fmt: skip
