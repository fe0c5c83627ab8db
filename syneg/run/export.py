"""Export the rows that an arm trained on for another trainer, as texts. A second file gives the source of each text.

    export(RunFolder(Path("runs/pairs")), "flagembedding")   writes into runs/pairs/export/flagembedding
      train.jsonl         {"query": "close a socket", "pos": ["Call close() …"], "neg": ["Call open() …", …]}
      provenance.ndjson   {"row": 0, "query_id": "q-8d0e…", "positives": [{"id": "p-51f2…"}], "negatives":
                           [{"id": "s-7c1e…", "source": "synthetic", "program": "multi_attribute", "lm": …}, …]}

Texts carry no prompts: set the encoder's prompts in your trainer. The trainers of these formats weigh all negatives
alike; the provenance holds the weight that each negative had in the run. `syneg.run.formats` shows every format.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syneg.core.errors import ConfigError, DataError, nearest
from syneg.core.records import Instance, Pair
from syneg.core.settings import load_config
from syneg.core.storage import JsonObject, read_json, read_rows, write_rows, write_text
from syneg.verdict.records import BASE, Verdict

from .arms import named
from .current import check_current
from .folder import RunFolder
from .formats import FORMATS, Origins, hub_card, lines_of
from .manifest import check_files

PROVENANCE = "provenance.ndjson"  # not .json, .jsonl or .parquet: some trainers read all such files of a folder


@dataclass(frozen=True)
class Exported:
    """The folder of an export, the arm and seed of its rows, their number, and remarks for the user."""

    path: Path
    arm: str
    seed: int
    rows: int
    notes: tuple[str, ...]


def export(
    folder: RunFolder, to: str, out: Path | None = None, arm: str = "", seed: int | None = None, parquet: bool = False
) -> Exported:
    """Write the rows of one arm in the format `to` (a key of FORMATS) into `out`, by default FOLDER/export/FORMAT.

    By default `arm` is the trained arm with the best dev score, and `seed` its best seed. `parquet` writes Parquet in
    place of JSONL. Raises ConfigError for an unknown format, arm or seed and for a format without Parquet; DataError if
    the folder has no verdict or one of other settings, no training rows or damaged ones, or if `out` holds other files.
    """
    if to not in FORMATS:
        raise ConfigError(f"unknown format {to!r}", todo=nearest(to, FORMATS))
    chosen = FORMATS[to]
    if parquet and not chosen.parquet:
        raise ConfigError(f"the reader of {to} reads no Parquet", todo="leave out --parquet")
    check_current(folder)
    arm, seed, notes = _arm(folder, arm, seed)
    name = named(arm, load_config(folder.config)).file_name(seed)
    check_files(folder, [folder.rows(name), *_tables(folder, "mined"), *_tables(folder, "negatives")])
    lines, remarks = lines_of(read_trained(folder.rows(name)), chosen.shape, _origins(folder))
    target = out or folder / "export" / to
    _make_room(target, ours=out is None)
    write_rows(target / PROVENANCE, [line.provenance(number) for number, line in enumerate(lines)])  # first: our mark
    for name, rows in chosen.tables(lines).items():
        _write(target / name, rows, parquet=parquet)
    if chosen.card:
        write_text(target / "README.md", hub_card(read_json(folder.verdict)["collection"], arm, parquet=parquet))
    return Exported(target, arm, seed, len(lines), (*notes, *remarks))


def rows_stage(name: str) -> str:
    """The stage of rows/NAME.jsonl in the manifest."""
    return f"rows {name}"


def trained_rows(epochs: Sequence[Sequence[Instance]]) -> Iterator[JsonObject]:
    """Yield the lines of rows/ARM-SEED.jsonl: every row of every epoch as a flat object with its epoch (from 0)."""
    for epoch, rows in enumerate(epochs):
        for row in rows:
            yield {
                "epoch": epoch, "query_id": row.pair.query_id, "query": row.pair.query, "doc_id": row.pair.doc_id,
                "positive": row.pair.positive, "negatives": row.negatives, "sources": row.sources,
                "weights": row.weights, "doc_ids": row.doc_ids,
            }  # fmt: skip


def read_trained(path: Path) -> list[Instance]:
    """Read rows/ARM-SEED.jsonl: the rows of all epochs, in order. Raises DataError if the file is missing."""
    if not path.is_file():
        raise DataError("no training rows on disk", where=str(path), todo="run `syneg-dspy train --run FOLDER` again")
    return [
        Instance(Pair(row["query_id"], row["query"], row["doc_id"], row["positive"]),
                 *(tuple(row[key]) for key in ("negatives", "sources", "weights", "doc_ids")))
        for row in read_rows(path)
    ]  # fmt: skip


def _arm(folder: RunFolder, arm: str, seed: int | None) -> tuple[str, int, list[str]]:
    """Choose the arm and the seed to export; the list holds a note if the best model is the untuned base."""
    verdict = Verdict.from_json(read_json(folder.verdict))
    trained = {name: result for name, result in verdict.arms.items() if name != BASE}
    notes = []
    if not arm:
        by_dev = max(trained, key=lambda name: trained[name].dev.get(verdict.metric, 0.0))
        arm = verdict.best if verdict.best in trained else by_dev  # of equal arms the one that best/ holds
        if verdict.best == BASE:
            notes.append(f"no arm beat the untuned encoder on dev; these are the rows of {arm}, the best of the others")
    if arm not in trained:
        raise ConfigError(f"no arm {arm!r} in this run", todo=nearest(arm, trained))
    seeds = trained[arm].dev_by_seed
    if seed is None:
        seed = max(seeds, key=lambda number: seeds[number])
    if seed not in seeds:
        raise ConfigError(f"{arm} was not trained with seed {seed}", todo=f"known: {', '.join(map(str, seeds))}")
    return arm, seed, notes


def _origins(folder: RunFolder) -> Origins:
    """Read the origins of a run's negatives: mined by (query_id, doc_id), written by (query_id, text)."""
    mined = {}
    for path in reversed(_tables(folder, "mined")):  # mined.jsonl, the last, overrides the others
        for row in read_rows(path):
            mined[row["query_id"], row["doc_id"]] = {key: row[key] for key in ("source", "rank", "score")}
    written: dict[tuple[str, str], Mapping[str, Any]] = {}
    for path in _tables(folder, "negatives"):
        for row in read_rows(path):
            if row["accepted"]:
                known = {key: row[key] for key in ("program", "lm", "attributes", "calls", "parent_doc_id")}
                written.setdefault((row["query_id"], row["text"]), {**known, "gates": row["figures"]})
    return Origins(mined, written)


def _tables(folder: RunFolder, kind: str) -> list[Path]:
    """The files KIND*.jsonl of a run folder, sorted."""
    return sorted(folder.path.glob(f"{kind}*.jsonl"))


def _make_room(target: Path, *, ours: bool) -> None:
    """Remove the files of an earlier export. Raises DataError if the folder holds other files.

    A data set of the user's own may have files of the same names. An export has its provenance beside them, unless the
    folder is `ours` anyway.
    """
    names = {PROVENANCE, "README.md", "qrels", "qrels/train.tsv"}
    names |= {f"{stem}.{end}" for stem in ("train", "corpus", "queries") for end in ("jsonl", "parquet")}
    held = {str(path.relative_to(target)) for pattern in ("*", "qrels/*") for path in target.glob(pattern)}
    others = sorted(held - names if ours or PROVENANCE in held else held)
    if others:
        raise DataError(
            f"the folder holds other files, such as {others[0]}", where=str(target), todo="give another --out"
        )
    for name in sorted(names - {"README.md", "qrels"}):
        (target / name).unlink(missing_ok=True)


def _write(path: Path, rows: list[JsonObject], *, parquet: bool) -> None:
    """Write a table as TSV or JSONL, by the suffix of `path`. `parquet` writes .parquet in place of .jsonl."""
    if path.suffix == ".tsv":
        text = io.StringIO()
        table = csv.DictWriter(text, list(rows[0]), delimiter="\t", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        write_text(path, text.getvalue())
    elif parquet:
        import pyarrow
        from pyarrow import parquet as files

        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_table(pyarrow.Table.from_pylist(rows), path.with_suffix(".parquet"), compression="zstd")
    else:  # sentence-transformers tells columns apart by their order
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
