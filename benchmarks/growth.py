"""Measure how seconds and memory of each stage grow with the corpus and with the pairs, as fitted exponents.

    python benchmarks/growth.py --passages 1000,10000,100000,1000000 --pairs 100,1000,10000
    python benchmarks/growth.py --quick

The script runs `syneg-dspy generate` on generated collections (made.py). The encoder is a table of word vectors and the
LM a server that answers at once, so the seconds are those of the code around them. An exponent of 1 is linear. The fit
is a line through log size and log seconds, over the sizes for which a stage takes a tenth of a second or more; it needs
two of them. Start-up (imports, loading the encoder) is part of no stage.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from made import WORDS, answering, beir, static_encoder
from turns import Figures, save, sizes

LEAST_S = 0.1
STAGES = ("collection", "mine", "generate")


def arguments(data: Path, run: Path, url: str, encoder: str) -> list[str]:
    """What `syneg-dspy` is called with."""
    return [
        "generate", "--dataset", str(data), "--run", str(run),
        "--lm", "openai/made", "--api-base", url, "--program", "single_prompt", "--pairs", "0", "--judge", "off",
        "--concurrency", "8", "--set", f"encoder.model={json.dumps(encoder)}", "--set", "lm.engine=native",
        "--set", "gates.margin=0", "--set", "mine.margin=0.95",
        "--set", "generate.attempts=1", "--set", "lm.max_rpm=1000000", "--set", "reader.use=off",
    ]  # fmt: skip


def called(arguments: list[str], home: Path) -> Figures:
    """Seconds and peak memory of one command in a new process."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "syneg", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "SYNEG_HOME": str(home)},
    )
    assert process.stderr is not None
    errors = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise click.ClickException(errors)
    return {"whole": time.perf_counter() - start, "rss_mb": usage.ru_maxrss / 1e3}


def stages(folder: Path, url: str, encoder: str, passages: int, pairs: int, words: int = WORDS) -> Figures:
    """Seconds of each stage, and the peak memory, of one command on a new collection."""
    data = beir(folder / "data", passages, pairs, words)
    whole = called(arguments(data, folder / "run", url, encoder), folder / "home")
    seconds = dict.fromkeys(STAGES, 0.0)
    for line in (folder / "run" / "events.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "done" and event["stage"] in seconds:
            seconds[event["stage"]] += event["seconds"]
    return {**seconds, **whole}


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float | None:
    """Slope of log seconds over log size; None if fewer than two sizes take LEAST_S seconds."""
    told = [(size, taken) for size, taken in zip(sizes, seconds, strict=True) if taken >= LEAST_S]
    return float(np.polyfit(*np.log(np.array(told).T), 1)[0]) if len(told) > 1 else None


@click.command()
@click.option("--passages", default="1000,10000,100000", show_default=True, callback=sizes, help="with 100 pairs")
@click.option("--pairs", default="100,1000,10000", show_default=True, callback=sizes, help="over 10,000 passages")
@click.option("--dim", default=384, show_default=True)
@click.option("--words", default=WORDS, show_default=True, help="in each passage")
@click.option("--quick", is_flag=True, help="one small corpus")
@click.option("--json", "path", type=click.Path(path_type=Path))
def main(passages: list[int], pairs: list[int], dim: int, words: int, quick: bool, path: Path | None) -> None:
    if quick:
        passages, pairs, dim = [500], [], 32
    measured: dict[str, list[Figures]] = {}
    with tempfile.TemporaryDirectory() as name, answering() as url:
        encoder = static_encoder(Path(name) / "encoder", dim)
        for what, asked in (("passages", passages), ("pairs", pairs)):
            rows = []
            for size in asked:
                corpus, queries = (size, min(100, size)) if what == "passages" else (pairs[-1], size)
                with tempfile.TemporaryDirectory(dir=name) as folder:  # a million passages take 2 GB of disk
                    rows.append({"size": size, **stages(Path(folder), url, encoder, corpus, queries, words)})
            if not rows:
                continue
            measured[what] = rows
            print(f"{what:>12s}" + "".join(f"{key:>12s}" for key in rows[0] if key != "size"))
            for row in rows:
                print(f"{row['size']:12,d}" + "".join(f"{row[key]:12.2f}" for key in row if key != "size"))
            fits = {key: exponent(asked, [row[key] for row in rows]) for key in (*STAGES, "whole")}
            print(
                f"{'exponent':>12s}" + "".join(f"{'-' if fit is None else f'{fit:.2f}':>12s}" for fit in fits.values())
            )
    save(path, "growth", {"dim": dim, "words": words}, measured)


if __name__ == "__main__":
    main()
