"""Read the rows of a CSV, TSV, JSONL, JSON or Parquet file. All but Parquet may be compressed (`PACKED`).

    pairs.csv   query;positive            →   ("pairs.csv:2", {"query": "close a file", "positive": "Call close() …"})
                close a file;Call close() …

The separator of a CSV is the one that divides its first line into most columns. A bad row becomes a problem in the log.
An error that would end the file early, such as an open quotation mark or a broken Parquet file, raises DataError.
So do two columns of one name. In JSON that is an error of one row.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from syneg.core.errors import DataError, misspelled
from syneg.core.storage import JsonObject
from syneg.core.text import is_blank

from .encodings import PACKED, open_text
from .read_log import ReadLog

Row = tuple[str, JsonObject]
KINDS = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
_OTHER_KINDS = {".tab": ".tsv", ".ndjson": ".jsonl"}
_OTHER_FILES = (  # endings that mark a name as a file, though not as a table
    *PACKED, ".zip", ".tar", ".7z", ".txt", ".trec", ".xml", ".xlsx", ".xls", ".ods", ".arrow",
    ".feather", ".pkl",
)  # fmt: skip
_ARRAY = re.compile(r"\s*\[\s*(\{|$)")  # the first line of a JSON array of objects
_NAMED_SEPARATOR = re.compile(r'"?sep=([,;|\t])"?[ \t]*\r?\n?$', re.IGNORECASE)
_COMMENT = re.compile(r"#+(\s|$)")
_LONGEST_CELL = 2**31 - 1  # characters; csv's own limit is 131,072


def kind_of(path: Path) -> str:
    """One of KINDS by the name of a file, "" for another file. `.CSV`, `.jsonl.gz` and `.ndjson` are known."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    zipped = bool(suffixes) and suffixes[-1] in PACKED
    last = suffixes[-2] if zipped and len(suffixes) > 1 else suffixes[-1] if suffixes else ""
    kind = _OTHER_KINDS.get(last, last)
    return kind if kind in KINDS and not (zipped and kind == ".parquet") else ""


def names_a_file(dataset: str) -> bool:
    """Whether a name looks like a path, and not like an id of a published collection. The file may be missing.

    >>> names_a_file("pairs.NDJSON.gz"), names_a_file("./scifact"), names_a_file("beir/scifact")
    (True, True, False)
    """
    last = Path(dataset).suffix.lower()
    return last in (*KINDS, *_OTHER_KINDS, *_OTHER_FILES) or dataset.startswith((".", "/", "~"))


def is_dead_link(path: Path) -> bool:
    """Whether a path is a symbolic link to a file or folder that is not there."""
    return path.is_symlink() and not path.exists()


def look_at(name: str) -> str:
    """Say what to do about a file or folder that is not there: take the name beside it, if one is much like it.

    A link to nothing has a name, so it is named as such.

    >>> look_at("/nosuch/pairs.cvs")
    'check the path'
    """
    path = Path(name).expanduser()
    if is_dead_link(path):
        return f"it is a link to {str(path.readlink())!r}, where nothing is"
    try:
        beside = [other.name for other in path.parent.iterdir()]
    except OSError:
        return "check the path"
    near = misspelled(path.name, beside)
    return f"did you mean {str(path.with_name(near))!r}?" if near else "check the path"


def read_table(path: Path, log: ReadLog, encoding: str = "auto", name: str = "") -> Iterator[Row]:
    """Yield (file:line, row) for each good row; log the others. `name` replaces the file name in messages.

    Raises DataError for an unknown kind, a wrong encoding, or an error that would end the file early.
    """
    name = name or path.name
    kind = kind_of(path)
    if not kind:
        known = ", ".join(KINDS)
        raise DataError(
            f"cannot read {path.name!r}",
            where=str(path),
            todo=f"give one of {known} (or packed as .gz, .zst, .bz2 or .xz)",
        )
    if kind == ".parquet":
        yield from _parquet(path, name, log)
        return
    with open_text(path, encoding) as file:
        if kind in (".csv", ".tsv"):
            yield from _csv(name, file, log, lambda: open_text(path, encoding))
        elif kind == ".json" and not _is_jsonl(path, encoding):
            yield from _json(name, file, log)
        else:
            yield from _jsonl(name, file, log)


def _csv(name: str, file: TextIO, log: ReadLog, again: Callable[[], AbstractContextManager[TextIO]]) -> Iterator[Row]:
    csv.field_size_limit(_LONGEST_CELL)
    with again() as lines:
        above, separator = _before_header(name, lines)
    quoted = True
    if separator == "\t":
        with again() as raw, again() as whole:
            quoted = _has_quoting(islice(raw, above, None), islice(whole, above, None))
    reader = csv.reader(
        islice(file, above, None), delimiter=separator, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        skipinitialspace=True, strict=True,
    )  # fmt: skip
    header: list[str] | None = None
    while True:
        start = above + reader.line_num + 1
        where = f"{name}:{start}"
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if header is None or above + reader.line_num > start or "unexpected end" in str(error):
                raise DataError(
                    f"not valid CSV: a quotation mark that opens in line {start} is not closed",
                    where=where,
                    todo='write quotation marks inside a field as "", or save the file as TSV or JSONL',
                ) from error
            log.row(name)
            log.problem(where, f"not valid CSV: {error}")
            continue
        if is_blank("".join(fields)):
            continue
        if header is None:
            header = [column.strip() for column in fields]
            _each_once(header, where)
            continue
        log.row(name)
        if [field.strip() for field in fields] == header:
            log.problem(where, "repeats the header")
        elif len(fields) != len(header):
            log.problem(where, f"has {len(fields)} fields, the header {len(header)}")
        else:
            yield where, dict(zip(header, fields, strict=True))


def _before_header(name: str, lines: Iterable[str]) -> tuple[int, str]:
    """The number of lines above the header, and the separator: what a line `sep=` of Excel names, else by the header.

    A line of "#" and a space, or of "#" alone, is a comment there; "#query" is the name of a column.
    """
    above, named = 0, ""
    for line in lines:
        if sep := _NAMED_SEPARATOR.match(line):
            named = sep[1]
        elif line.strip() and not _COMMENT.match(line):
            tab = "\t" in line and ".tsv" in name.lower()
            return above, named or ("\t" if tab else max(",;\t|", key=line.count))
        above += 1
    return above, named or ","


def _each_once(header: list[str], where: str) -> None:
    if doubled := next((column for column in header if column and header.count(column) > 1), ""):
        raise DataError(f"two columns are called {doubled!r}", where=where, todo="rename one of them")


def _has_quoting(raw: Iterable[str], whole: Iterable[str]) -> bool:
    """Whether a TSV uses CSV's rules for quotation marks, as pandas does. Search logs and BEIR do not use them.

    It uses them in three cases: all fields outside the header are in quotation marks; only fields that need them are;
    or only with these rules do all lines have the same number of fields.
    """
    widths: set[int] = set()
    quotes, all_quoted, only_needed = False, True, True
    for number, line in enumerate(raw):
        fields = line.rstrip("\r\n").split("\t")
        widths.add(len(fields))
        for field in fields:
            inner = field[1:-1]
            wrapped = len(field) > 1 and field[0] == field[-1] == '"' and '"' not in inner.replace('""', "")
            all_quoted &= wrapped or not number or not any(map(str.isalpha, field))
            if '"' in field:
                quotes = True
                only_needed &= wrapped and '""' in inner
    if not quotes:
        return False
    if len(widths) == 1:
        return all_quoted or only_needed
    try:
        return len({len(fields) for fields in csv.reader(whole, delimiter="\t", strict=True) if fields}) == 1
    except csv.Error:
        return False


def _is_jsonl(path: Path, encoding: str) -> bool:
    """Whether a .json file holds one object per line. A single line of lists or objects holds a whole table."""
    with open_text(path, encoding) as file:
        lines = (line for line in file if line.strip())
        first, second = next(lines, "").strip(), next(lines, "")
    if not first.startswith("{"):
        return False
    try:
        cells = json.loads(first).values()
    except ValueError:
        return False
    is_table = any(isinstance(cell, list) for cell in cells) or all(isinstance(cell, dict) for cell in cells)
    return bool(second) or not is_table


def _jsonl(name: str, file: TextIO, log: ReadLog) -> Iterator[Row]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        where = f"{name}:{number}"
        if not log.has_rows(name) and _ARRAY.match(line):
            raise DataError("a JSON array, not one object per line", where=where, todo="name the file .json")
        log.row(name)
        try:
            row = json.loads(line, object_pairs_hook=json_object)
        except (ValueError, RecursionError) as error:
            log.problem(where, f"not valid JSON: {error}")
            continue
        if isinstance(row, dict):
            yield where, row
        else:
            log.problem(where, "is not a JSON object")


def json_object(pairs: list[tuple[str, Any]]) -> JsonObject:
    """An object of JSON. Raises ValueError for a name that occurs twice; `json` would keep the last value alone."""
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"two values are called {next(name for name in names if names.count(name) > 1)!r}")
    return row


def _json(name: str, file: TextIO, log: ReadLog) -> Iterator[Row]:
    try:
        data = json.load(file, object_pairs_hook=json_object)
    except UnicodeDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise DataError(f"not valid JSON: {error}", where=name, todo="write a list of objects, or JSONL") from error
    if isinstance(data, dict):
        if all(isinstance(cells, dict) and cells.keys() == next(iter(data.values())).keys() for cells in data.values()):
            data = {column: [*cells.values()] for column, cells in data.items()}  # as pandas writes a DataFrame
        lists = [value for value in data.values() if isinstance(value, list)]
        if len(lists) == len(data) and len({len(column) for column in lists}) == 1:
            data = [dict(zip(data, cells, strict=True)) for cells in zip(*lists, strict=True)]
        elif len(lists) == 1:
            data = lists[0]
        else:
            raise DataError("not a list of rows", where=name, todo="write a list of objects, or JSONL")
    yield from rows_of(data, name, log)


def rows_of(data: Any, name: str, log: ReadLog) -> Iterator[Row]:
    """Yield (name:number, row) for each dict of an iterable, counted from 1; log the items that are no dicts.

    Raises DataError if `data` is no iterable.
    """
    if not isinstance(data, Iterable):
        raise DataError("not a list of rows", where=name, todo="write a list of objects, or JSONL")
    for number, row in enumerate(data, 1):
        log.row(name)
        if isinstance(row, dict):
            yield f"{name}:{number}", row
        else:
            log.problem(f"{name}:{number}", "is not an object with columns")


def _parquet(path: Path, name: str, log: ReadLog) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            _each_once(file.schema_arrow.names, name)
            rows = (row for batch in file.iter_batches(4096) for row in batch.to_pylist())
            yield from rows_of(rows, name, log)
    except pyarrow.ArrowException as error:
        raise DataError(f"not a Parquet file: {error}", where=str(path), todo="check the file") from error
