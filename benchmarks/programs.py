"""Compare programs on one collection: cost of an accepted negative, accepted share, reasons of rejections, nearness,
and the source probe.

    python benchmarks/programs.py --dataset beir/scifact --pairs 100 --out runs/programs-scifact

Each program has its own run folder under --out. Existing results are used, so a second call prints the table at once.
There is no judge and only one attempt. The source probe compares accepted negatives with mined ones of the same
queries, cut to the length that the programs were asked for.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from configured import configured
from made import answering, beir, static_encoder
from options import filled
from turns import Figures, save

from syneg.core.progress import Progress
from syneg.core.storage import read_rows
from syneg.programs import PROGRAMS
from syneg.run.pipeline import Run
from syneg.verdict.source_probe import source_probe

SHORT = {
    "over the margin of the positive": "margin", "copies a positive": "copy",
    "far shorter than positive or corpus": "short",
    "unparseable answer": "unparseable", "too far from the query": "far", "equals a positive": "copy",
    "means the same as a positive": "copy", "repeats the query": "query", "empty or too short": "short",
    "copies its parent": "parent", "far longer than positive or corpus": "long", "truncated": "truncated",
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What the flags say."""

    dataset: str
    pairs: int
    lm: str
    words: int
    out: Path
    programs: str
    overrides: tuple[str, ...]
    quick: bool
    path: Path | None


@click.command()
@click.option("--dataset", default="python-docs")
@click.option("--pairs", default=100)
@click.option("--lm", default="local/qwen2.5-coder-1.5b")
@click.option("--words", default=60, help="passages shown are cut to this, and so is what is asked for")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/programs"), show_default=True)
@click.option("--programs", default=",".join(PROGRAMS))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="any other setting")
@click.option("--quick", is_flag=True, help="a scripted LM, a made collection, four pairs, one program")
@click.option("--json", "path", type=click.Path(path_type=Path))
@filled(Options)
def main(options: Options) -> None:
    if not options.quick:
        compare(options)
        return
    with tempfile.TemporaryDirectory() as name, answering() as url:
        own = (
            f"lm.api_base={url}", "lm.engine=native", f"encoder.model={static_encoder(Path(name) / 'encoder', 32)}",
            "encoder.precision=fp32", "gates.floor=0", "gates.margin=0", "gates.language=0",
        )  # fmt: skip
        compare(
            replace(
                options, dataset=str(beir(Path(name) / "made", 500, 40)), pairs=4, lm="openai/made",
                out=Path(name) / "runs", programs="single_prompt", overrides=(*own, *options.overrides),
            )
        )  # fmt: skip


def compare(options: Options) -> None:
    """Run the programs one after the other, and print a row for each."""
    lines = [
        "| program | calls | tokens in + out | s | each accepted: calls, tokens, s | accepted | rejected | "
        "cos query (positive) | cos positive | AUC length, n-grams, embedding |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|---|---|")
    measured: dict[str, list[Figures]] = {}
    for name in options.programs.split(","):
        settings = {
            "collection.dataset": options.dataset, "generate.pairs": options.pairs, "generate.program": name,
            "lm.model": options.lm, "judge.use": "off", "generate.attempts": 1,
            "generate.passage_words": options.words, "mine.margin": 0.95,
        }  # fmt: skip
        config = configured(options.overrides, settings)
        run = Run(options.out / name, config, Progress())
        found = run.until("generate")
        lines.append(row(run, found, options.words, config.lm.concurrency))
        measured[name] = [{"accepted": found["accepted"], **each(found, config.lm.concurrency)}]
    click.echo("\n".join(lines))
    save(options.path, "programs", {"dataset": options.dataset, "pairs": options.pairs, "lm": options.lm}, measured)


def each(found: dict[str, Any], concurrency: int) -> Figures:
    """What one accepted negative took: calls, tokens, seconds, and dollars where they are known; infinite for none."""
    whole = {
        "calls": found["calls"], "tokens": found["input_tokens"] + found["output_tokens"],
        "seconds": found["call_seconds"] / concurrency, "usd": found["usd"] or 0.0,
    }  # fmt: skip
    return {name: value / found["accepted"] if found["accepted"] else float("inf") for name, value in whole.items()}


def row(run: Run, found: dict[str, Any], words: int, concurrency: int) -> str:
    negatives = list(read_rows(run.folder / "negatives.jsonl"))
    accepted = [n for n in negatives if n["accepted"]]
    compared = [n["figures"] for n in negatives if "query_cosine" in n["figures"]]
    asked = {n["query_id"] for n in negatives}
    mined = [
        " ".join(n.text.split()[:words]) for q, ns in sorted(run.workspace.mined.items()) if q in asked for n in ns
    ]
    random.Random(0).shuffle(mined)
    auc = source_probe([n["text"] for n in accepted], mined, run.workspace.encoder, seed=0)
    reasons = Counter[str]()
    for reason, n in found["reasons"].items():
        reasons[SHORT.get(reason, reason)] += n
    one = each(found, concurrency)
    return (
        f"| {found['program']} | {found['calls']} | {found['input_tokens']} + {found['output_tokens']} | "
        f"{found['call_seconds'] / concurrency:.0f} | {one['calls']:.1f}, {one['tokens']:.0f}, {one['seconds']:.1f} | "
        f"{found['accepted']}/{found['written']} | "
        f"{', '.join(f'{reason} {n}' for reason, n in reasons.most_common())} | "
        f"{mean(compared, 'query_cosine')} ({mean(compared, 'positive_query_cosine')}) | "
        f"{mean(compared, 'positive_cosine')} | "
        f"{', '.join(f'{value:.2f}' for value in auc.values()) or 'too few'} |"
    )


def mean(figures: list[dict[str, float]], key: str) -> str:
    found = [f[key] for f in figures if key in f]
    return f"{sum(found) / len(found):.3f}" if found else "-"


if __name__ == "__main__":
    main()
