"""Run all benchmarks for a GPU by one command: embedding, mining, training, quality and a whole run.

    python benchmarks/gpu.py --out gpu            prints every table, and writes one JSON file for each
    python benchmarks/gpu.py --only training      one of them

It takes about ten minutes. Without a CUDA device it says so in one line and ends with status 0. Each part is a script
of this folder with `--device cuda`, in a new process; the sides that are compared use the same card. A part that fails
does not stop the others; the status is then 1.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

FOLDER = Path(__file__).resolve().parent
CUDA = ("--set", "encoder.device=cuda")
DOCS = ("--device", "cuda", "--dataset", "python-docs")
PARTS: dict[str, tuple[str, ...]] = {
    "tests": ("-m", "pytest", "-q", "-m", "gpu", str(FOLDER.parent / "tests" / "test_gpu.py")),
    "embedding": ("embedding", *DOCS, "--texts", "50000"),
    "mining": ("mining", "--dataset", "python-docs", "--turns", "2", *CUDA),
    "training": ("training_speed", *DOCS, "--batch", "16,64,256,1024", "--steps", "8"),
    "quality": ("quality", *DOCS, "--seeds", "3"),
    "run": ("whole_path", "--turns", "1", "--", *CUDA),
}  # fmt: skip


def command(name: str, quick: bool, out: Path) -> list[str]:
    """The command of a part."""
    first, *rest = PARTS[name]
    if first == "-m":
        return [sys.executable, first, *rest]
    before, mark, after = ("\0".join(rest)).partition("\0--\0")
    options = [part for part in before.split("\0") if part]
    if name in ("training", "quality"):
        options += ["--out" if name == "training" else "--run", str(out / f"{name}-run")]
    options += ["--json", str(out / f"{name}.json"), *(["--quick"] if quick else [])]
    return [sys.executable, str(FOLDER / f"{first}.py"), *options, *(["--", *after.split("\0")] if mark else [])]


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(PARTS)), help="some of the parts")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/gpu"), show_default=True)
@click.option("--quick", is_flag=True, help="the quick form of each part")
def main(only: tuple[str, ...], out: Path, quick: bool) -> None:
    import torch

    if not torch.cuda.is_available():
        print("no CUDA device: nothing is measured")
        return
    out.mkdir(parents=True, exist_ok=True)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}", flush=True)
    failed = []
    for name in only or PARTS:
        print(f"== {name}", flush=True)
        if subprocess.run(command(name, quick, out)).returncode:
            failed.append(name)
    if failed:
        raise click.ClickException(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
