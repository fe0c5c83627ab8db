"""What does each recipe find on one collection and target, and what does it take?

    python benchmarks/recipes.py --dataset beir/scifact --target reader --lm openai/gpt-4o-mini --out runs/recipes
    python benchmarks/recipes.py --quick

Every recipe compiles the same program on the same examples, in a run folder of its own under --out. Results that are
there are used, so the command continues after a stop, and a second call prints the table at once. `--quick` takes a
scripted LM, which answers badly until the instruction says CARE or a demo shows how.

Printed, for each recipe: the programs that it tried; the gain of the best one on the examples, with its standard error;
the difference on the queries that no proposal has seen, with its 95 % interval; whether the program is replaced; calls
and dollars of the search; minutes of search and confirmation.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click
from configured import configured
from made import completing
from options import filled
from turns import Figures, save

from syneg.core.progress import Progress
from syneg.core.storage import read_rows
from syneg.optimizers import RECIPES
from syneg.run.pipeline import Run

NAMES = tuple(name for name in RECIPES if name != "none")
GOOD = "Take CARE: look at every word that is asked for."
_PROPOSED = {
    "better_instruction": GOOD, "proposed_instruction": GOOD, "proposed_prefix_for_output_field": "Answer:",
    "observations": "Texts.", "summary": "Texts.", "program_description": "It answers.",
    "module_description": "It answers.", "discussion": "Some are wrong.",
    "module_advice": dict.fromkeys(("program.grade", "grade", "program.write", "write", "program", "self"), GOOD),
}  # fmt: skip
_COLUMNS = (
    "recipe", "programs", "gain of the best", "on unseen queries", "queries", "replaced", "calls", "$", "minutes"
)  # fmt: skip
_STAGES = ("compile", "choose", "generate", "train", "confirm compiled", "confirm first")  # of a compilation


def scripted(messages: list[dict[str, Any]]) -> str:
    """Fill the fields that are asked for: well if CARE or a demo is shown or for every third text, else badly."""
    text, asked = "\n".join(str(message["content"]) for message in messages), str(messages[-1]["content"])
    if wanted := {name: value for name, value in _PROPOSED.items() if name in text}:
        return json.dumps(wanted)
    shown = re.findall(r"<data>(.*?)</data>", asked, re.DOTALL)
    if not shown or "```" in asked[-400:]:
        return f"```\n{GOOD}\n```"
    own = 6 if "search_query" in text else 2  # messages with the demos of the program itself
    well = "CARE" in text or len(messages) > own or len(shown[-1]) % 3 == 0
    if "search_query" in text:
        words = [word for word in re.findall(r"\w+", shown[-1]) if len(word) > 3]
        return json.dumps({"search_query": " ".join([*words[:6]][::-1]) if well else f"{' '.join(words[-2:])} text"})
    query = set(re.findall(r"\w+", shown[0].lower()))
    grades = []
    for number, passage in re.findall(r"(\d+)\. <data>(.*?)</data>", asked, re.DOTALL):
        share = len(query & set(re.findall(r"\w+", passage.lower()))) / max(1, len(query))
        right = 3 if share >= 0.6 else 1 if share >= 0.3 else 0
        grade = right if well else 2 if right < 3 else 0
        grades.append({"passage": int(number), "span": passage if grade > 1 else "NONE", "grade": grade})
    return json.dumps({"grades": grades})


@contextmanager
def scripted_server() -> Iterator[str]:
    """The address of a server that answers with `scripted`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), completing(scripted))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def figures(outcome: Mapping[str, Any], folder: Path) -> Figures:
    """The figures of one recipe, from compiled.json and the seconds of the run's stages."""
    rows, confirmed = outcome["candidates"], outcome["confirmed"] or {}
    scored = [row for row in rows if row["gain"] is not None]
    best = next((row for row in scored if row["number"] == confirmed.get("candidate")), None)
    best = best or max(scored, key=lambda row: row["gain"], default={"gain": 0.0, "error": 0.0})
    low, high = confirmed.get("interval") or (None, None)
    events = [row for row in read_rows(folder / "events.jsonl") if row["event"] == "done"]
    return {
        "programs": len(rows), "gain": best["gain"], "error": best["error"], "delta": confirmed.get("delta"),
        "low": low, "high": high, "queries": confirmed.get("queries", 0), "replaced": outcome["won"],
        "calls": outcome["used"]["calls"], "usd": outcome["used"]["usd"],
        "minutes": sum(row["seconds"] for row in events if row["stage"] in _STAGES) / 60,
    }  # fmt: skip


def row(name: str, found: Figures) -> str:
    """The line of one recipe."""
    unseen = "not compared" if found["delta"] is None else f"{found['delta']:+.4f}"
    if found["low"] is not None:
        unseen += f" [{found['low']:+.4f}, {found['high']:+.4f}]"
    cells = (
        name, f"{found['programs']}", f"{found['gain']:+.4f} ± {found['error']:.4f}", unseen, f"{found['queries']}",
        "yes" if found["replaced"] else "no", f"{found['calls']:.0f}", f"{found['usd']:.2f}", f"{found['minutes']:.1f}",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


@dataclass(frozen=True)
class Options:
    """What the flags say."""

    dataset: str | None
    target: str
    lm: str
    recipes: str
    quick: bool
    overrides: tuple[str, ...]
    out: Path
    path: Path | None


@click.command()
@click.option("--dataset", help="python-docs if not given")
@click.option("--target", type=click.Choice(["reader", "queries", "writer"]), default="reader", show_default=True)
@click.option("--lm", default="local/qwen2.5-coder-1.5b", show_default=True)
@click.option("--recipes", default=",".join(NAMES), show_default=True)
@click.option("--quick", is_flag=True, help="a scripted LM, a small collection, few examples")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="any other setting")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/recipes"), show_default=True)
@click.option("--json", "path", type=click.Path(path_type=Path))
@filled(Options)
def main(options: Options) -> None:
    if options.quick and options.target == "writer":
        raise click.UsageError("--quick has no scripted writer; give --target reader or queries")
    settings: dict[str, object] = {
        "collection.dataset": options.dataset or ("python-docs-small" if options.quick else "python-docs"),
        "train.arms": ("mined", "verified") if options.target == "reader" else ("mined",),
        "lm.model": options.lm, "compile.target": options.target, "mine.margin": 0.95,
    }  # fmt: skip
    measured: dict[str, list[Figures]] = {}
    with scripted_server() if options.quick else nullcontext("") as url:
        if options.quick:
            settings |= {
                "lm.model": "openai/scripted", "lm.api_base": url, "lm.adapter": "json", "reader.candidates": 6,
                "compile.pairs": 8, "compile.proposals": 3, "compile.confirm_queries": 12,
            }  # fmt: skip
            os.environ.setdefault("OPENAI_API_KEY", "none")
        for name in options.recipes.split(","):
            config = configured(options.overrides, {**settings, "compile.optimizer": name})
            folder = options.out / f"{options.target}-{name}"
            outcome = Run(folder, config, Progress()).until("compile")
            measured[name] = [figures(outcome, folder)]
    click.echo(f"{options.target}, {settings['collection.dataset']}, {settings['lm.model']}\n")
    click.echo(f"| {' | '.join(_COLUMNS)} |\n{'|---' * len(_COLUMNS)}|")
    click.echo("\n".join(row(name, found) for name, (found,) in measured.items()))
    asked = {"dataset": settings["collection.dataset"], "target": options.target, "lm": options.lm}
    save(options.path, "recipes", asked, measured)


if __name__ == "__main__":
    main()
