"""What a person reads of a run: report.html, and README.md as the card of the data set that was made.

html_report(verdict, queries, rows, …) → one page without scripts or outside resources, all foreign text escaped
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from .verdict import second_table, table

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}
pre{background:#f4f4f2;padding:.8rem;overflow-x:auto;font-size:13px}dt{font-weight:600;margin-top:.6rem}
article{border-top:1px solid #ccc;margin-top:1rem}dd{margin-left:1rem;overflow-wrap:anywhere}small{color:#555}"""


def html_report(
    found: Mapping[str, Any], queries: Mapping[str, str], rows: Sequence[Mapping[str, Any]], shares: str
) -> str:
    """A page with the verdict, the queries that gained and lost most, what generation gave and why it refused, and up to 20
    negatives to read. `queries` are texts by id, `rows` those of negatives.jsonl."""
    generation = found["generation"]
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width'>",
        f"<title>{escape(found['collection'])}: syneg-dspy</title><style>{_STYLE}</style>",
        f"<h1>{escape(found['collection'])}</h1><p>{escape(found['sentence'])}</p>",
        f"<pre>{escape(table(found))}</pre><pre>{escape(second_table(found))}</pre>",
        *_changes(found, queries),
        f"<h2>Synthetic negatives</h2><p>{escape(generation_line(generation))}</p>",
    ]
    if generation is not None and coverage_table(generation):
        parts.append(f"<pre>{escape(coverage_table(generation))}</pre>")
    accepted = [row for row in rows if row["accepted"]]
    parts += [_article(row) for row in accepted[:20]]
    parts.append(f"<h2>Time</h2><p>{escape(shares)}</p></html>")
    return "\n".join(parts)


def _changes(found: Mapping[str, Any], queries: Mapping[str, str]) -> list[str]:
    """The test queries that gained and lost most from the base to the best arm."""
    row = next((c for c in found["comparisons"] if "gained" in c), None)
    if row is None:
        return []
    parts = [f"<h2>From {escape(row['a'])} to {escape(row['b'])}</h2>"]
    for name in ("gained", "lost"):
        items = [f"<li>{delta:+.2f} {escape(queries[q])}</li>" for q, delta in row[name].items()]
        parts.append(f"<p>{name} most, nDCG@10</p><ul>{''.join(items) or '<li>none</li>'}</ul>")
    return parts


def _article(row: Mapping[str, Any]) -> str:
    attributes = ", ".join(f"{key}: {value}" for key, value in row["attributes"].items())
    figures = ", ".join(f"{key} {value:.2f}" for key, value in row["figures"].items())
    return (
        f"<article><dl><dt>query <small>{escape(row['query_id'])}</small></dt><dd>{escape(row['query'])}</dd>"
        f"<dt>hard negative</dt><dd>{escape(row['text'])}</dd></dl>"
        f"<small>{escape(row['program'])}; {escape(attributes)}; {escape(figures)}</small></article>"
    )


def generation_line(generation: Mapping[str, Any] | None) -> str:
    """Counts, tokens and dollars of generation in one sentence."""
    if generation is None:
        return "no arm of this run uses synthetic negatives"
    usd = generation["usd"]
    money = "price unknown" if usd is None else f"${usd:.4f}"
    reasons = ", ".join(f"{reason} {count}" for reason, count in generation["reasons"].items())
    return (
        f"{generation['accepted']} of {generation['written']} negatives accepted for {generation['covered']} of "
        f"{generation['pairs']} pairs by {generation['program']} with {generation['lm']}; "
        f"{generation['input_tokens']} + {generation['output_tokens']} tokens, {money}"
        + (f"; rejected: {reasons}" if reasons else "")
    )


def coverage_table(generation: Mapping[str, Any]) -> str:
    """Attribute values with how many negatives were wanted and accepted, in at most 80 columns; attributes with one value
    only are left out. "" where there is nothing to say."""
    lines = [f"{'attribute':<12}{'value':<50}{'wanted':>8}{'got':>8}"]
    for key, values in generation["coverage"].items():
        if len(values) > 1:
            lines += [f"{key:<12}{value[:48]:<50}{n[0]:>8}{n[1]:>8}" for value, n in values.items()]
    return "\n".join(lines) if len(lines) > 1 else ""


def data_card(found: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """README.md of the run folder."""
    return "\n".join(
        [
            f"# Hard negatives for {found['collection']}", "",
            "Made by `syneg-dspy run`. The synthetic passages in `negatives.jsonl` were written by an LLM: facts and",
            "numbers in them are invented. They are for training retrievers, not for reading.", "",
            f"{generation_line(found['generation'])}.", "", "## Verdict", "", found["sentence"], "",
            "```", table(found), "```", "", "```", second_table(found), "```", "",
            "## Files", "",
            "- `negatives.jsonl`: every synthetic negative, accepted or not, with attributes, figures, reason, tokens, dollars",
            "- `near-misses.jsonl`: those of the boundary test; `mined.jsonl`: retrieved negatives with source, rank and score",
            "- `ledger/calls.jsonl`: every LM call; `program.json`, `program.md`: the program and its prompts",
            "- `best/`: the best model on dev, the base included; `models/`: all of them; `runs/*.trec`; `verdict.json`",
            "", f"Encoder: {config['encoder']['model']}; LM: {config['lm']['model']}.", "",
        ]
    )  # fmt: skip
