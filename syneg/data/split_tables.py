"""Read pairs from one table per split: a folder of your own, or a data set of the Hugging Face hub.

    my-set/train.jsonl, my-set/validation.jsonl, my-set/test.jsonl      (or data/train-00000-of-00001.parquet)
    my-set/dataset_dict.json, my-set/train/, …                          a folder of `save_to_disk`
    sentence-transformers/natural-questions                             load_dataset(id); `id:subset` for one subset
      → PairsReader over all rows; the name of a file or table gives the split of its rows

If a data set of the hub has the subsets `corpus` and `queries`, as those of MTEB do, it is read as passages, queries
and qrels. `datasets` reads tables only, so no code of a data set is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from syneg.core.errors import DataError, one_line
from syneg.core.hub import on_hub

from .columns import ColumnNames
from .encodings import PACKED
from .folders import check_files, is_passages, judged_rows, no_rows, note_unused, qrels_cells, text_rows
from .pairs import PairsReader
from .read_log import ReadLog
from .readers import NamesNoNegatives, Qrel, Text
from .splits import SPLIT_NAMES, check_names, split_name
from .tables import Row, kind_of, read_table

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(?::[\w.-]+)?")


def split_files(folder: Path) -> dict[Path, str]:
    """Tables in a folder, or in its subfolder `data`, whose name begins with a split: path → split. {} for none."""
    for inside in (folder, folder / "data"):
        tables = [path for path in sorted(inside.iterdir()) if kind_of(path)] if inside.is_dir() else []
        named = {path: split_name(_stem(path)) for path in tables if _first_word(path) in SPLIT_NAMES}
        if named:
            return named
    return {}


def _stem(path: Path) -> str:
    return path.name[: -len("".join(path.suffixes[-2:] if path.suffix.lower() in PACKED else path.suffixes[-1:]))]


def _first_word(path: Path) -> str:
    return re.split(r"[\s_.\-]+", path.name.casefold())[0]


def open_split_folder(folder: Path, corpus: Path | None, columns: ColumnNames, encoding: str) -> PairsReader:
    """Read a folder with `split_files`. `corpus` is a file of passages; None takes the folder's own, if it has one."""
    log, named = ReadLog(), split_files(folder)
    check_names(map(_stem, named), folder.name)
    folders = [inside for inside in (folder, folder / "data") if inside.is_dir()]
    check_files(*folders)
    if corpus is None:
        corpus = next((path for path in sorted(folder.iterdir()) if kind_of(path) and is_passages(path)), None)

    def rows() -> Iterator[Row]:
        for path, split in named.items():
            name = str(path.relative_to(folder))
            yield from _with_split(read_table(path, log, encoding, name), split)
            if not log.has_rows(name):
                raise no_rows(name)

    for inside in folders:
        note_unused(inside, (*named, *filter(None, [corpus])), log)
    passages = None if corpus is None else read_table(corpus, log, encoding)
    return PairsReader(folder.name, rows(), passages, columns, log)


def _with_split(rows: Iterator[Row], split: str) -> Iterator[Row]:
    for where, row in rows:
        yield where, {**{name: cell for name, cell in row.items() if str(name).casefold() != "split"}, "split": split}


def is_saved(folder: Path) -> bool:
    """Whether `datasets` wrote the folder, with `save_to_disk`."""
    return any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))


def open_saved(folder: Path, corpus: Path | None, columns: ColumnNames, encoding: str) -> PairsReader:
    """Read a folder of `save_to_disk`: one table, or one for each split. Raises DataError if that fails."""
    from datasets import load_from_disk

    try:
        saved = load_from_disk(str(folder))
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise DataError(
            f"cannot read a folder of save_to_disk: {one_line(error)}", where=str(folder), todo="save it again"
        ) from error
    log = ReadLog()
    check_names(saved if isinstance(saved, dict) else (), folder.name)
    rows = _split_rows(folder.name, saved, log) if isinstance(saved, dict) else _rows(folder.name, saved, log)
    passages = None if corpus is None else read_table(corpus, log, encoding)
    return PairsReader(folder.name, rows, passages, columns, log)


# the Hugging Face hub


def may_be_on_hub(name: str) -> bool:
    """Whether a name looks like an id of the hub, `owner/name` or `owner/name:subset`. Asks no network."""
    return _HUB_ID.fullmatch(name) is not None


class HubPairs(PairsReader):
    """Reads pairs from a data set of the hub."""

    published = True


class HubCollection(NamesNoNegatives):
    """Reads passages, queries and qrels from subsets of a data set of the hub."""

    published = True

    def __init__(self, name: str, columns: ColumnNames, judged: str) -> None:
        """`judged` is the subset of the qrels."""
        self.name, self.log, self._columns, self._judged = name, ReadLog(), columns, judged

    def passages(self) -> Iterator[Text]:
        return text_rows(self._rows("corpus"), self._columns, ("doc_id", "title", "text"), self.log)

    def queries(self) -> Iterator[Text]:
        return text_rows(self._rows("queries"), self._columns, ("query_id", "text"), self.log)

    def qrels(self) -> Iterator[Qrel]:
        for split, table in _load(self.name, self._judged).items():
            rows = _rows(f"{self.name} {split}", table, self.log)
            yield from judged_rows(qrels_cells(rows, self._columns), split, self.log)

    def _rows(self, subset: str) -> Iterator[Row]:
        for table in _load(self.name, subset).values():
            yield from _rows(f"{self.name} {subset}", table, self.log)


def open_hub(name: str, columns: ColumnNames) -> HubPairs | HubCollection:
    """Read `owner/name` or `owner/name:subset` with `datasets.load_dataset`. Raises DataError if that fails."""
    dataset, _, subset = name.partition(":")
    _ask_hub(dataset)
    subsets = () if subset else _subsets(dataset)
    if {"corpus", "queries"} <= {*subsets}:
        judged = next((part for part in ("qrels", "default") if part in subsets), "default")
        return HubCollection(dataset, columns, judged)
    log = ReadLog()
    return HubPairs(name, _split_rows(name, _load(dataset, subset or None), log), None, columns, log)


def _split_rows(name: str, tables: Mapping[str, Any], log: ReadLog) -> Iterator[Row]:
    for split, table in tables.items():
        yield from _with_split(_rows(f"{name} {split}", table, log), split_name(split, name))


def _rows(name: str, table: Any, log: ReadLog) -> Iterator[Row]:
    number = 0
    for batch in table.iter(batch_size=1000):
        for cells in zip(*batch.values(), strict=True):
            number += 1
            log.row(name)
            yield f"{name}:{number}", dict(zip(batch, cells, strict=True))


def _ask_hub(dataset: str) -> None:
    """Raise DataError if the hub has no such data set, or cannot be reached. HF_HUB_OFFLINE leaves it to the cache."""
    from huggingface_hub import is_offline_mode

    if is_offline_mode():
        return
    there = on_hub(dataset, "dataset")
    if there is None:
        raise DataError(
            f"the Hugging Face hub cannot be reached for {dataset!r}",
            todo="check the network; HF_HUB_OFFLINE=1 reads a set that is in its cache",
        )
    if not there:
        raise DataError(
            f"no file, folder or data set of the Hugging Face hub: {dataset!r}",
            todo="check the name; a private data set needs HF_TOKEN",
        )


def _subsets(dataset: str) -> tuple[str, ...]:
    from datasets import get_dataset_config_names

    try:
        return tuple(get_dataset_config_names(dataset))
    except (OSError, ValueError, RuntimeError) as error:
        raise _cannot_load(dataset, error) from error


def _load(dataset: str, subset: str | None) -> Mapping[str, Any]:
    """Load the tables of a data set, keyed by split."""
    from datasets import load_dataset

    try:
        return dict(load_dataset(dataset, subset))
    except (OSError, ValueError, RuntimeError) as error:
        raise _cannot_load(dataset if subset is None else f"{dataset}:{subset}", error) from error


def _cannot_load(name: str, error: Exception) -> DataError:
    return DataError(
        f"cannot load {name!r} from the Hugging Face hub: {one_line(error)[:200]}",
        todo="check the name and the network; name a subset with `owner/name:subset`; data sets with code are refused",
    )
