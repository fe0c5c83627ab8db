"""Take the rows that an arm trained on to another trainer, as texts, with a file beside them that says where each is
from.

    export(RunFolder(Path("runs/pairs")), "flagembedding")   writes into runs/pairs/export/flagembedding
      train.jsonl         {"query": "close a socket", "pos": ["Call close() …"], "neg": ["Call open() …", …]}
      provenance.ndjson   {"row": 0, "query_id": "q-8d0e…", "positives": [{"id": "p-51f2…"}], "negatives":
                           [{"id": "s-7c1e…", "source": "synthetic", "program": "multi_attribute", "lm": …}, …]}

Texts carry no prompts: give the encoder's own to your trainer. The trainers named here weigh all negatives alike; what
a negative weighed in the run stands in the provenance. What each format looks like: `syneg.run.formats`.
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
from .folder import RunFolder
from .formats import FORMATS, Origins, hub_card, lines_of

PROVENANCE = "provenance.ndjson"  # trainers that read every .json, .jsonl or .parquet of a folder leave it alone


@dataclass(frozen=True)
class Exported:
    """Where an export lies, whose rows they are, how many, and what the reader should know."""

    path: Path
    arm: str
    seed: int
    rows: int
    notes: tuple[str, ...]


def export(
    folder: RunFolder, to: str, out: Path | None = None, arm: str = "", seed: int | None = None, parquet: bool = False
) -> Exported:
    """Write the rows of one arm in the format `to` (a key of FORMATS) into `out`, by default FOLDER/export/FORMAT.

    By default `arm` and `seed` are the trained ones that did best on dev. Raises ConfigError for an
    unknown format or arm, DataError where the folder has no verdict or `out` holds other files.
    """
    if to not in FORMATS:
        raise ConfigError(f"unknown format {to!r}", todo=nearest(to, FORMATS))
    chosen = FORMATS[to]
    if parquet and not chosen.parquet:
        raise ConfigError(f"the reader of {to} reads no Parquet", todo="leave out --parquet")
    arm, seed, notes = _arm(folder, arm, seed)
    lines, remarks = lines_of(read_trained(_file(folder, arm, seed)), chosen.shape, _origins(folder))
    target = out or folder / "export" / to
    _make_room(target)
    for name, rows in chosen.tables(lines).items():
        _write(target / name, rows, parquet=parquet)
    write_rows(target / PROVENANCE, [line.provenance(number) for number, line in enumerate(lines)])
    if chosen.card:
        write_text(target / "README.md", hub_card(read_json(folder.verdict)["collection"], arm, parquet=parquet))
    return Exported(target, arm, seed, len(lines), (*notes, *remarks))


def trained_rows(epochs: Sequence[Sequence[Instance]]) -> Iterator[JsonObject]:
    """The lines of rows/ARM-SEED.jsonl: each row of each epoch, flat."""
    for epoch, rows in enumerate(epochs):
        for row in rows:
            yield {
                "epoch": epoch, "query_id": row.pair.query_id, "query": row.pair.query, "doc_id": row.pair.doc_id,
                "positive": row.pair.positive, "negatives": row.negatives, "sources": row.sources,
                "weights": row.weights, "doc_ids": row.doc_ids,
            }  # fmt: skip


def read_trained(path: Path) -> list[Instance]:
    """The rows of all epochs, in order; raises DataError where the file is missing."""
    if not path.is_file():
        raise DataError("no training rows on disk", where=str(path), todo="run `syneg-dspy train --run FOLDER` again")
    return [
        Instance(Pair(row["query_id"], row["query"], row["doc_id"], row["positive"]),
                 *(tuple(row[key]) for key in ("negatives", "sources", "weights", "doc_ids")))
        for row in read_rows(path)
    ]  # fmt: skip


def _arm(folder: RunFolder, arm: str, seed: int | None) -> tuple[str, int, list[str]]:
    """The arm and seed to take, and why where that is not plain."""
    data = read_json(folder.verdict)
    if data is None:
        raise DataError("no verdict in this run folder", where=str(folder), todo="finish it with `syneg-dspy run`")
    verdict = Verdict.from_json(data)
    trained = {name: result for name, result in verdict.arms.items() if name != BASE}
    notes = []
    if not arm:
        arm = max(trained, key=lambda name: trained[name].dev.get(verdict.metric, 0.0))
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


def _file(folder: RunFolder, arm: str, seed: int) -> Path:
    return folder.rows(named(arm, load_config(folder.config)).file_name(seed))


def _origins(folder: RunFolder) -> Origins:
    """Where the negatives of a run are from, by query and passage or text."""
    mined = {}
    for path in sorted(folder.path.glob("mined*.jsonl"), reverse=True):  # mined.jsonl last: it counts
        for row in read_rows(path):
            mined[row["query_id"], row["doc_id"]] = {key: row[key] for key in ("source", "rank", "score")}
    written: dict[tuple[str, str], Mapping[str, Any]] = {}
    for path in sorted(folder.path.glob("negatives*.jsonl")):
        for row in read_rows(path):
            if row["accepted"]:
                known = {key: row[key] for key in ("program", "lm", "attributes", "calls", "parent_doc_id")}
                written.setdefault((row["query_id"], row["text"]), {**known, "gates": row["figures"]})
    return Origins(mined, written)


def _make_room(target: Path) -> None:
    """Remove the files of an earlier export; raises DataError where there are others."""
    names = {PROVENANCE, "README.md", "qrels"}
    names |= {f"{stem}.{end}" for stem in ("train", "corpus", "queries") for end in ("jsonl", "parquet")}
    others = sorted({path.name for path in target.iterdir()} - names) if target.is_dir() else []
    if others:
        raise DataError(
            f"the folder holds other files, such as {others[0]}", where=str(target), todo="give another --out"
        )
    for name in sorted(names - {"README.md", "qrels"}):
        (target / name).unlink(missing_ok=True)


def _write(path: Path, rows: list[JsonObject], *, parquet: bool) -> None:
    """A table by the end of its name, .jsonl or .tsv; JSONL as Parquet where that is asked for."""
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
    else:  # columns in the order of the row: sentence-transformers goes by it
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
