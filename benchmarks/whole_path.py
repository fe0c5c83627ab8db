"""Seconds of every stage of a plain `syneg-dspy run`, and its peak memory.

    python benchmarks/whole_path.py --turns 3
    python benchmarks/whole_path.py -- --dataset beir/scifact --preset quick          arguments of `run`

Each turn has a new run folder and an empty cache of embeddings. The weights of the embedded models are fetched before.
Memory is that of the largest process; the embedded LLM has its own process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
from turns import Figures, save


def run(arguments: tuple[str, ...]) -> Figures:
    """Seconds by stage, of all stages, and of the whole command; peak memory in MB."""
    from syneg.core.storage import cache_home

    with tempfile.TemporaryDirectory() as name:
        home, folder = Path(name) / "home", Path(name) / "run"
        home.mkdir()
        for entry in cache_home().iterdir():
            if entry.name != "embeddings":
                (home / entry.name).symlink_to(entry)
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "syneg", "run", "--run", str(folder), *arguments],
            stdout=subprocess.DEVNULL, stderr=sys.stderr, env={**os.environ, "SYNEG_HOME": str(home)},
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise click.ClickException(f"the run ended with {os.waitstatus_to_exitcode(status)}")
        whole = time.perf_counter() - start
        seconds: dict[str, float] = {}
        for line in (folder / "events.jsonl").read_text().splitlines():
            event = json.loads(line)
            if event["event"] == "done":
                seconds[event["stage"]] = seconds.get(event["stage"], 0.0) + event["seconds"]
    return {**seconds, "between": whole - sum(seconds.values()), "whole": whole, "rss_mb": usage.ru_maxrss / 1e3}


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--turns", default=3, show_default=True)
@click.option("--quick", is_flag=True, help="one turn, a few pairs")
@click.option("--json", "path", type=click.Path(path_type=Path))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(turns: int, quick: bool, path: Path | None, arguments: tuple[str, ...]) -> None:
    if quick:
        turns, arguments = 1, ("--pairs", "2", "--train-pairs", "8", *arguments)
    rows = [run(arguments) for _ in range(turns)]
    for stage in rows[0]:
        values = [row.get(stage, 0.0) for row in rows]
        print(f"{stage:12s}" + "".join(f"{value:10.1f}" for value in values))
    save(path, "whole_path", {"arguments": arguments}, {"run": rows})


if __name__ == "__main__":
    main()
