"""Run the full form of every benchmark that needs no GPU, one after the other: the tables of docs/benchmarks.md.

    python benchmarks/full.py --out bench            about 50 minutes on two quiet cores; the longest parts come last
    python benchmarks/full.py --only calls           one part

Each part is a script of this folder in a new process. It prints its tables, and writes OUT/NAME.json. `minutes` is an
estimate. The collections SciFact and Vaswani are downloaded or found by ir_datasets; `--also` adds one for the
objective. A part that fails does not stop the others; the status is then 1.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click

FOLDER = Path(__file__).resolve().parent
SHORT = ("--set", "encoder.max_tokens=128")


@dataclass(frozen=True)
class Part:
    """One script with its arguments. `minutes` on two quiet cores. `scratch` is the option for a folder of its own."""

    script: str
    arguments: tuple[str, ...]
    minutes: float
    scratch: str = ""


PARTS = {
    "startup": Part("startup", ("--turns", "3"), 1),
    "ray": Part("ray_workers", ("--workers", "1,2", "--calls", "320"), 2),
    "run": Part("whole_path", ("--turns", "1"), 3),
    "embedded": Part("embedded_lm", ("--pairs", "6", "--slots", "1,4", "--turns", "2"), 3),
    "training": Part("training_speed", ("--batch", "16", "--steps", "6", "--rounds", "2", *SHORT), 3, "--out"),
    "mining": Part("mining", ("--dataset", "beir/scifact", "--turns", "1", *SHORT), 4),
    "mining-made": Part("mining", ("--passages", "100000", "--turns", "1"), 4),
    "calls": Part("lm_overhead", ("--latency", "0.1,0.5,2", "--turns", "2"), 5),
    "ledger": Part("ledger", ("--rows", "10000,100000,1000000,5000000"), 5),
    "growth": Part("growth", ("--passages", "1000,10000,100000,1000000", "--pairs", "100,1000,10000"), 7),
    "corpus": Part("corpus_size", ("--passages", "100000,1000000"), 6),
    "objective": Part("objective_cost", ("--dataset", "beir/scifact,python-docs,vaswani", *SHORT), 7),
}


def command(name: str, out: Path, also: tuple[str, ...] = ()) -> list[str]:
    """The command of a part. `also` are further collections for the objective."""
    part = PARTS[name]
    options = list(part.arguments)
    if name == "objective":
        options[1] = ",".join((options[1], *also))
    if part.scratch:
        options += [part.scratch, str(out / name)]
    return [sys.executable, str(FOLDER / f"{part.script}.py"), *options, "--json", str(out / f"{name}.json")]


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(PARTS)), help="some of the parts")
@click.option("--also", multiple=True, metavar="DATASET", help="one more collection for the objective")
@click.option("--out", type=click.Path(path_type=Path), default=Path("bench"), show_default=True)
def main(only: tuple[str, ...], also: tuple[str, ...], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    names, failed = only or tuple(PARTS), []
    print(f"about {sum(PARTS[name].minutes for name in names):.0f} min on two quiet cores")
    for name in names:
        print(f"\n== {name}: about {PARTS[name].minutes:g} min; load {os.getloadavg()[0]:.1f}", flush=True)
        start = time.monotonic()
        if subprocess.run(command(name, out, also)).returncode:
            failed.append(name)
        print(f"== {name} took {(time.monotonic() - start) / 60:.1f} min", flush=True)
    if failed:
        raise click.ClickException(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
