"""Shared by all benchmarks: run sides in turn, each in a new process; print ratios with their spread; write JSON.

    measured = in_turn({"ours": ours, "theirs": theirs}, turns=3)     ours() → {"cold_s": 9.1, "rss_mb": 812}
    print(table(measured, "theirs"))                                  cold_s   ours 9.1   theirs 8.3   1.10 [1.08, 1.12]

A ratio is taken within a turn, because the machine may be slow in one turn and fast in the next for both sides. The
table shows its median, smallest and largest value. A new process gives each side its own peak memory, and an
interpreter that the other side has not warmed up.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

Figures = dict[str, Any]
Side = Callable[[], Figures]
_PACKAGES = ("syneg-dspy", "torch", "sentence-transformers", "faiss-cpu", "dspy", "litellm")


def _child(work: Side, end: Connection) -> None:
    figures = work()
    figures["rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    end.send_bytes(json.dumps(figures).encode())


def in_turn(sides: Mapping[str, Side], turns: int) -> dict[str, list[Figures]]:
    """Run each side once a turn, in turns, each time in a new process; name → its figures of every turn.

    A side must be picklable: a function of a module, or a partial of one. Raises RuntimeError if a side fails.
    """
    spawn = multiprocessing.get_context("spawn")
    measured: dict[str, list[Figures]] = {name: [] for name in sides}
    for turn in range(turns):
        # the order changes, so that neither side is always the one that finds files in memory
        for name in list(sides)[:: 1 if turn % 2 == 0 else -1]:
            ours, theirs = spawn.Pipe(duplex=False)
            process = spawn.Process(target=_child, args=(sides[name], theirs))
            process.start()
            theirs.close()
            try:
                figures = json.loads(ours.recv_bytes())
            except EOFError:
                process.join()
                raise RuntimeError(f"{name} failed, see above") from None
            process.join()
            measured[name].append(figures)
    return measured


def table(measured: Mapping[str, Sequence[Figures]], base: str) -> str:
    """One line for each figure: each side's median, and the ratio of every other side to `base`, median [least,
    most]."""
    others = [name for name in measured if name != base]
    numbers = [key for key, value in measured[base][0].items() if isinstance(value, int | float)]
    lines = [f"{'':24}" + "".join(f"{name:>22}" for name in (base, *others)) + "   ratio to " + base]
    for key in numbers:
        line = f"{key:24}"
        for name in (base, *others):
            line += f"{statistics.median(turn[key] for turn in measured[name]):22.3f}"
        for name in others:
            ratios = [
                turn[key] / before[key]
                for turn, before in zip(measured[name], measured[base], strict=True)
                if before[key]
            ]
            if ratios:
                line += f"   {spread(ratios)}"
        lines.append(line)
    return "\n".join(lines)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median, least and most.

    >>> spread([1.0, 1.5, 1.25])
    '1.25 [1.00, 1.50]'
    """
    middle, least, most = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} [{least}, {most}]"


def machine() -> Figures:
    """The machine of a benchmark: cores, processor, versions."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "cores": os.cpu_count(), "machine": platform.machine(), "system": platform.system(),
        "python": platform.python_version(), "versions": versions,
    }  # fmt: skip


def save(path: Path | None, name: str, settings: Figures, measured: Mapping[str, Sequence[Figures]]) -> None:
    """Write figures, settings and machine as JSON, if a path is given."""
    if path:
        report = {"benchmark": name, "settings": settings, "machine": machine(), "measured": measured}
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
