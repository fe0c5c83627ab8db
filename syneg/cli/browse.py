"""Show negatives in the terminal: each with its query, positive, mined neighbours, scores and gate figures.

select(run_folder, accepted=None, reason="margin", where={"domain": "oncology"}, program=None) → rows of negatives.jsonl
entry(row, positive="…", mined=[…], width=80) → text of one negative, without control characters
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from syneg.core.errors import ConfigError, DataError, nearest
from syneg.core.storage import read_rows

_SHOWN_WORDS = 90


def select(
    folder: Path, *, accepted: bool | None, reason: str | None, where: Mapping[str, str], program: str | None
) -> list[dict[str, Any]]:
    """Return the rows of negatives.jsonl that pass every filter; None turns a filter off.

    `reason` is the setting of a gate, or a part of a reason. The values of `where` match as substrings, ignoring case.
    `program` must be equal. Raises DataError if the folder has no negatives.jsonl, or no row of that attribute or
    program, and ConfigError for a gate that does not exist.
    """
    path = folder / "negatives.jsonl"
    if not path.exists():
        raise DataError(
            "no written negatives here", where=str(folder), todo="run `syneg-dspy generate` first, or name its folder"
        )
    rows = list(read_rows(path))
    reasons = None if reason is None else _reasons(reason, rows)
    programs = dict.fromkeys(row["program"] for row in rows)
    if program is not None and program not in programs:
        raise DataError(f"no negative is by {program!r}", where=str(path), todo=nearest(program, programs))
    known = sorted({key for row in rows for key in row["attributes"]})
    unknown = [key for key in where if key not in known]
    if unknown:
        raise DataError(
            f"no negative has the attribute {unknown[0]!r}",
            where=str(path),
            todo=nearest(unknown[0], known) if known else "they have none; leave out --attribute",
        )
    return [
        row for row in rows
        if (accepted is None or row["accepted"] == accepted)
        and (reasons is None or row["reason"] in reasons)
        and (program is None or row["program"] == program)
        and all(value.lower() in str(row["attributes"].get(key, "")).lower() for key, value in where.items())
    ]  # fmt: skip


def _reasons(gate: str, rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the reasons of the gate whose setting is `gate`, and all that contain it. Raises ConfigError for none."""
    from syneg.negatives.gates import ADVICE, ANSWERS, ENCODER_GATES, GRADED, REFUSED, TEXT_GATES

    settings = {"judge": {ANSWERS}, "reader": {GRADED}}
    for setting, reason in ((g.setting, g.reason) for gates in (TEXT_GATES, ENCODER_GATES) for g in gates):
        settings.setdefault(setting, set()).add(reason)
    del settings[""]  # gates that are always on
    known = {*ADVICE, REFUSED, *(row["reason"] for row in rows)} - {""}
    found = settings.get(gate, set()) | {reason for reason in known if gate.lower() in reason.lower()}
    if not found:
        raise ConfigError(f"no gate is called {gate!r}", where="--gate", todo=nearest(gate, settings))
    return found


def entries(folder: Path, rows: Sequence[Mapping[str, Any]], positives: Mapping[str, str], width: int) -> Iterator[str]:
    """Yield the text of each row, in order, with its number and two mined neighbours. `positives`: doc_id → passage."""
    mined: dict[str, list[dict[str, Any]]] = {}
    for negative in read_rows(folder / "mined.jsonl"):
        mined.setdefault(negative["query_id"], []).append(negative)
    for number, row in enumerate(rows, 1):
        yield entry(
            row, positives.get(row["doc_id"], "?"), mined.get(row["query_id"], [])[:2], width, f"{number}/{len(rows)}"
        )


def entry(
    row: Mapping[str, Any], positive: str, mined: Sequence[Mapping[str, Any]], width: int, place: str = ""
) -> str:
    """Format one negative as text of at most `width` columns. `place` is its number, such as "3/40"."""
    verdict = "accepted" if row["accepted"] else f"REJECTED: {row['reason']}"
    if not row["accepted"] and row["figure"] is not None:
        verdict += f" ({row['figure']:g}, threshold {row['threshold']:g})"
    lines = [f"{place} {_plain(row['query_id'])}  {verdict}".strip(), ""]
    lines += _block("query", row["query"], width)
    lines += _block("positive", positive, width)
    lines += _block("negative", row["text"] or f"(none: {row['reasoning']})", width)
    for neighbour in mined:
        lines += _block(
            "mined", f"[{neighbour['source']} {neighbour['rank']}, {neighbour['score']:.2f}] {neighbour['text']}", width
        )
    if row["evidence"]:
        lines += _block("judge", row["evidence"], width)
    if row["text"] and row["reasoning"]:
        lines += _block("reason", row["reasoning"], width)
    lines += _block("wanted", "; ".join(f"{key}: {value}" for key, value in row["attributes"].items()), width)
    lines += _block("figures", ", ".join(f"{key} {value:g}" for key, value in row["figures"].items()), width)
    lines += _block(
        "by",
        f"{row['program']}, {row['lm']}, attempt {row['attempt'] + 1}, {row['input_tokens']} + {row['output_tokens']} "
        "tokens",
        width,
    )
    return "\n".join([*lines, "-" * width, ""])


def _block(name: str, text: str, width: int) -> list[str]:
    words = _plain(text).split()
    shown = " ".join(words[:_SHOWN_WORDS]) + (f" … ({len(words)} words)" if len(words) > _SHOWN_WORDS else "")
    return textwrap.wrap(shown, width, initial_indent=f"{name:<9} ", subsequent_indent=" " * 10)


def _plain(text: str) -> str:
    """The text without the escape sequences of terminals."""
    return "".join(c if c.isprintable() else " " for c in text)
