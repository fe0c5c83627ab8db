"""Collect what the report shows beside the verdict: queries, sample rows, the reader, settings and times.

    evidence_of(workspace, rows) → Evidence(queries={"q1": "close a file"}, rows=[…], times="1227 s: mine 14 s (1%), …")

The time of a stage is that of the command that made its result. A later command that reuses the result adds no time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from syneg.core.secrets import masked_values
from syneg.core.storage import read_json, read_rows
from syneg.verdict.page import Evidence

from .arms import arms
from .measured import Measured
from .targets import TARGETS
from .workspace import Workspace


def evidence_of(workspace: Workspace, rows: Sequence[Mapping[str, Any]]) -> Evidence:
    """Collect queries, samples, the reader's figures, settings and times. `rows` are negatives as plain data."""
    folder = workspace.folder
    target, path = workspace.config.compile.target, folder.compiled(TARGETS[workspace.config.compile.target].prefix)
    made = (workspace.config.compile.improves(target) or target == "sampler") and path.exists()
    compiled = read_json(path) if made else None
    reads = workspace.config.reader.use == "auto" and any(arm.reads for arm in arms(workspace.config))
    raced = (workspace.config.mine.margin == "auto" or target == "sampler") and folder.window.exists()
    measured = read_json(folder.reader) if reads and folder.reader.exists() else None
    return Evidence(
        queries=workspace.collection.queries, rows=rows,
        positives={row["doc_id"]: workspace.collection.passages.get(row["doc_id"], "") for row in rows},
        mined=workspace.mined, settings=masked_values(workspace.config.model_dump()),
        versions=workspace.manifest.facts.get("versions", {}), times=times(folder.events),
        command=f"syneg-dspy run --run {folder}", compiled=compiled,
        reader=Measured.from_json(measured).table() if measured else "",
        window=read_json(folder.window) if raced else None,
    )  # fmt: skip


def times(events: Path) -> str:
    """Return one line: start of the first stage, total seconds, and seconds of each stage; "" if there are no events.

    A stage counts only the seconds of the first command that finished a part of it, and those of commands before it
    that were stopped in this stage. Stages under half a second are not named.
    """
    seconds: dict[str, float] = {}
    stopped: dict[str, float] = {}  # since the stage was last finished
    first, command = "", 0
    made_by: dict[tuple[str, str], int] = {}
    for row in read_rows(events):
        first = first or row["time"]
        command += (row["event"], row.get("stage")) == ("begun", "collection")  # every command begins with this event
        if row["event"] == "stopped":
            stopped[row["stage"]] = stopped.get(row["stage"], 0.0) + row["seconds"]
        if row["event"] == "done":
            before = stopped.pop(row["stage"], 0.0)
            if made_by.setdefault(_what(row), command) == command:
                seconds[row["stage"]] = seconds.get(row["stage"], 0.0) + before + row["seconds"]
    total = sum(seconds.values())
    parts = [f"{name} {value:.0f} s ({value / total:.0%})" for name, value in seconds.items() if value >= 0.5]
    return f"Begun {first}; {total:.0f} s: {', '.join(parts)}" if seconds else ""


def _what(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return what a row timed, as stage and model: ("train", "mined-0"). The model is "" for stages without models."""
    return row["stage"], row.get("text", "").partition(":")[0] if row["stage"] in ("train", "evaluate") else ""
