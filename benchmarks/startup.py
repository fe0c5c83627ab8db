"""Seconds that the first commands of a user take, each in a new process.

    python benchmarks/startup.py --turns 5

`python -c pass` is the least that any of them can take. `import sentence_transformers` is what a user's own script
would wait for.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import click
from turns import Figures, save

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import syneg": ["-c", "import syneg"],
    "syneg-dspy --version": ["-P", "-m", "syneg", "--version"],
    "syneg-dspy --help": ["-P", "-m", "syneg", "--help"],
    "syneg-dspy run --help": ["-P", "-m", "syneg", "run", "--help"],
    "syneg-dspy doctor": ["-P", "-m", "syneg", "doctor"],
    "import sentence_transformers": ["-c", "import sentence_transformers"],
}


@click.command()
@click.option("--turns", default=5, show_default=True)
@click.option("--quick", is_flag=True, help="one turn")
@click.option("--json", "path", type=click.Path(path_type=Path))
def main(turns: int, quick: bool, path: Path | None) -> None:
    measured: dict[str, list[Figures]] = {name: [] for name in COMMANDS}
    for _ in range(1 if quick else turns):
        for name, arguments in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
            measured[name].append({"seconds": time.perf_counter() - start})
    for name, rows in measured.items():
        seconds = sorted(row["seconds"] for row in rows)
        print(f"{name:30s} {seconds[len(seconds) // 2]:6.2f} s   [{seconds[0]:.2f}, {seconds[-1]:.2f}]")
    save(path, "startup", {"turns": turns}, measured)


if __name__ == "__main__":
    main()
