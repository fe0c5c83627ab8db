"""Shared by all benchmarks: run sides in turn, each in a new process; print ratios with their spread; write JSON.

    measured = in_turn({"ours": ours, "theirs": theirs}, turns=3)     ours() → {"cold_s": 9.1, "rss_mb": 812}
    print(table(measured, "theirs"))                                  cold_s   ours 9.1   theirs 8.3   1.10 [1.08, 1.12]

A ratio is taken within a turn, because the machine may be slow in one turn and fast in the next for both sides. The
table shows its median, smallest and largest value. A new process gives each side its own peak memory, and an
interpreter that the other side has not warmed up. A side that fails is left out of the turns that follow; what was
measured is still printed and written, and the benchmark ends with status 1.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click

Figures = dict[str, Any]
Side = Callable[[], Figures]
_PACKAGES = ("syneg-dspy", "torch", "sentence-transformers", "faiss-cpu", "dspy", "litellm")


def peak_mb() -> float:
    """Peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def _child(work: Side, end: Connection) -> None:
    figures = work()
    figures.setdefault("rss_mb", peak_mb())
    end.send_bytes(json.dumps(figures).encode())


class Measured(dict[str, list[Figures]]):
    """Name of a side → its figures of every turn. `failed` has the turn, from 1, in which a side failed."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__({name: [] for name in names})
        self.failed: dict[str, int] = {}


def in_turn(sides: Mapping[str, Side], turns: int) -> Measured:
    """Run each side once a turn, in turns, each time in a new process.

    A side must be picklable: a function of a module, or a partial of one. A side without any figures is left out.
    Raises RuntimeError if that holds for all of them.
    """
    spawn = multiprocessing.get_context("spawn")
    measured = Measured(sides)
    for turn in range(turns):
        # the order changes, so that neither side is always the one that finds files in memory
        for name in list(sides)[:: 1 if turn % 2 == 0 else -1]:
            if name in measured.failed:
                continue
            ours, theirs = spawn.Pipe(duplex=False)
            process = spawn.Process(target=_child, args=(sides[name], theirs))
            process.start()
            theirs.close()
            try:
                measured[name].append(json.loads(ours.recv_bytes()))
            except EOFError:
                measured.failed[name] = turn + 1
            process.join()
    for name in [name for name in measured if not measured[name]]:
        del measured[name]
    if not measured:
        raise RuntimeError(f"all failed, see above: {', '.join(measured.failed)}")
    return measured


def table(measured: Mapping[str, Sequence[Figures]], base: str) -> str:
    """One line for each figure: each side's median, and the ratio of every other side to `base`, median [least,
    most]. Without a base that was measured there are no ratios."""
    names = sorted(measured, key=lambda name: name != base)
    others = [name for name in names if name != base and base in measured]
    numbers = [key for key, value in measured[names[0]][0].items() if isinstance(value, int | float)]
    lines = [f"{'':24}" + "".join(f"{name:>22}" for name in names) + (f"   ratio to {base}" if others else "")]
    for key in numbers:
        line = f"{key:24}"
        for name in names:
            line += f"{statistics.median(turn[key] for turn in measured[name]):22.3f}"
        for name in others:
            ratios = [
                turn[key] / before[key]
                for turn, before in zip(measured[name], measured[base], strict=False)  # a failed side has fewer
                if before[key]
            ]
            if ratios:
                line += f"   {spread(ratios)}"
        lines.append(line)
    return "\n".join(lines)


def columns(measured: Mapping[str, Sequence[Figures]], what: str) -> str:
    """One line for each figure that is a number, with the median over turns for each side; `what` names the sides."""
    width = 2 + max(len(name) for rows in measured.values() for name in rows[0])
    lines = [f"{what:{width}}" + "".join(f"{name:>14}" for name in measured)]
    for figure, first in next(iter(measured.values()))[0].items():
        if isinstance(first, int | float):
            values = [statistics.median(turn[figure] for turn in turns) for turns in measured.values()]
            lines.append(
                f"{figure:{width}}"
                + "".join(f"{value:14,.3f}" if value < 10 else f"{value:14,.0f}" for value in values)
            )
    return "\n".join(lines)


def sizes(_: click.Context, __: click.Parameter, text: str) -> list[int]:
    """The numbers of an option such as "1000,10000"; a callback of click."""
    return [int(size) for size in text.split(",") if size]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median, least and most.

    >>> spread([1.0, 1.5, 1.25])
    '1.25 [1.00, 1.50]'
    """
    middle, least, most = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} [{least}, {most}]"


def machine() -> Figures:
    """The machine of a benchmark: processor, cores, load of the last 1, 5 and 15 minutes, date, versions."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "processor": _processor(), "cores": os.cpu_count(), "machine": platform.machine(),
        "system": platform.system(), "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "python": platform.python_version(),
        "versions": versions,
    }  # fmt: skip


def _processor() -> str:
    """The model of the processor; "" where the system does not say it."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").splitlines() if about.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor())


def save(path: Path | None, name: str, settings: Figures, measured: Mapping[str, Sequence[Figures]]) -> None:
    """Write figures, settings and machine as JSON, if a path is given. Ends the program if a side failed."""
    failed = getattr(measured, "failed", {})
    if path:
        report = {"benchmark": name, "settings": settings, "machine": machine(), "measured": measured}
        report |= {"failed": failed} if failed else {}
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if failed:
        sys.exit(f"error: {', '.join(f'{side} failed in turn {turn}' for side, turn in failed.items())}, see above")
