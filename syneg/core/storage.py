"""Read and write files so that a crash, a kill or a full disk loses nothing.

    cache_home()                          → ~/.cache/syneg-dspy   (SYNEG_HOME or XDG_CACHE_HOME change it)
    write_json(run / "verdict.json", {…}) → the complete new file, or the old one unchanged
    Log(run / "calls.jsonl").append({…})  → one line, on disk when the call returns

A crash may cut the last line of a `Log`. The next `Log` of the file drops that line.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from .errors import DataError

try:
    import fcntl
except ImportError:  # Windows has no flock
    fcntl = None  # type: ignore[assignment]

JsonObject = dict[str, Any]
"""An object of JSON or TOML from outside: user settings before they are checked, an LM's answer, a row of a file."""


def cache_home() -> Path:
    """The user's cache folder, which holds models and embeddings."""
    named = os.environ.get("SYNEG_HOME")
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "syneg-dspy"


def nameless_file() -> IO[bytes]:
    """A file for large arrays and texts of this process, in the cache folder: the system removes it when it is closed,
    also after a crash. A folder for temporary files may be held in memory."""
    folder = cache_home() / "scratch"
    folder.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryFile(dir=folder)


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step: write a draft beside it, then rename the draft."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("w", encoding="utf-8", errors="replace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def sync(folder: Path) -> None:
    """Put all files of a folder on disk with their names, so that a power failure takes none of them."""
    for path in (*folder.rglob("*"), folder):
        _sync(path)


def replace_folder(draft: Path, target: Path) -> None:
    """Put a complete folder in the place of `target`, which at no time holds only a part of its files."""
    sync(draft)
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.replace(old)
    draft.replace(target)
    _sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    if os.name == "nt" or not (path.is_file() or path.is_dir()):  # Windows syncs only what is open for writing
        return
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno in DISK_ERRORS:  # others: some network disks sync no folder
            raise
    finally:
        os.close(file)


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file in one step, with sorted keys."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def as_read(value: Any) -> Any:
    """What `read_json` gives after `write_json`: tuples are lists, and keys are sorted.

    >>> as_read({"b": (1, 2), "a": None})
    {'a': None, 'b': [1, 2]}
    """
    return json.loads(json.dumps(value, sort_keys=True))


def read_json(path: Path) -> Any:
    """Read JSON; None if the file does not exist. Raises DataError for invalid JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DataError(f"not valid JSON: {error}", where=str(path), todo="delete the file to make it again") from error


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Replace a file of JSON lines in one step."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows))


def read_rows(path: Path) -> Iterator[JsonObject]:
    """Read JSON lines; yields nothing if the file does not exist. Raises DataError for a line without an object."""
    if path.exists():
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    row = row_of(line)
                except ValueError as error:
                    raise DataError(str(error), where=f"{path}:{number}", todo="delete the line") from error
                if row:
                    yield row


_BLANK = b"\0 \t\r\n"


def row_of(line: bytes) -> JsonObject:
    """The JSON object of a line; {} for an empty line, also one of the zero bytes that a power failure leaves.

    Raises ValueError for a line that holds something else.
    """
    try:
        row = json.loads(line.strip(_BLANK) or b"{}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON: {error}") from error
    if not isinstance(row, dict):
        raise ValueError("a line is no JSON object")
    return row


DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
_NUMBER = re.compile(r"(?:os error |errno )(\d+)", re.IGNORECASE)
_CUT = re.compile(r"file write failed|unexpected pos|\d+ requested and \d+ written")  # torch and numpy name no number


def disk_error(error: BaseException) -> OSError | None:
    """The error of the disk behind a library's own exception, such as safetensors' for a full disk; None for another.

    >>> disk_error(RuntimeError("Error while serializing: No space left on device (os error 28)"))
    OSError(28, 'No space left on device')
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error
    text = str(error)
    if _CUT.search(text):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    found = _NUMBER.search(text)
    number = int(found.group(1)) if found else 0
    return OSError(number, os.strerror(number)) if number in DISK_ERRORS else None


_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}


def lock(file: IO[Any] | int, *, shared: bool = False) -> bool:
    """Lock an open file until it is closed; returns False if another process holds it.

    A shared lock waits for its turn. Windows and some file systems of clusters have no such locks; nothing is then
    guarded.
    """
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
    return True


class Log:
    """An append-only JSONL file, safe for threads of one process. A row is on disk when its `append` returns; rows that
    threads append at once share one write and one fsync."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._joining, self._writing = threading.Lock(), threading.Lock()
        self._batch = _Batch()
        self._file: IO[bytes] = path.open("a+b", buffering=0)
        self._mend()

    def append(self, row: Mapping[str, object]) -> tuple[int, int]:
        """Write one row. Returns the start and the length of its line, in bytes.

        Raises OSError if the row cannot be written; earlier rows stay.
        """
        line = json.dumps(row, ensure_ascii=False, sort_keys=True).encode("utf-8", "replace") + b"\n"
        with self._joining:
            batch = self._batch
            offset = batch.add(line)
        with self._writing:  # the first thread to come here writes for all that joined while another one wrote
            if not batch.written:
                with self._joining:
                    self._batch = _Batch()
                self._write(batch)
        if batch.error is not None:
            raise OSError(*batch.error.args) from batch.error
        return batch.start + offset, len(line)

    def _write(self, batch: _Batch) -> None:
        batch.written, batch.start = True, self._file.seek(0, os.SEEK_END)
        view = memoryview(b"".join(batch.lines))
        try:
            while view:
                view = view[self._file.write(view) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            batch.error = error
            os.ftruncate(self._file.fileno(), batch.start)  # a full disk leaves no half row

    def close(self) -> None:
        self._file.close()

    def _mend(self) -> None:
        """End a last line that is whole, and remove one that a crash cut."""
        end = self._file.seek(0, os.SEEK_END)
        start = self._last_line(end)
        if start < end:
            self._file.seek(start)
            try:
                whole = bool(row_of(self._file.read()))
            except ValueError:
                whole = False
            if whole:
                self._file.write(b"\n")
            else:
                os.ftruncate(self._file.fileno(), start)

    def _last_line(self, end: int) -> int:
        """The byte after the last line end."""
        start = end
        while start:
            step = min(65536, start)
            self._file.seek(start - step)
            cut = self._file.read(step).rfind(b"\n")
            if cut >= 0:
                return start - step + cut + 1
            start -= step
        return 0


class _Batch:
    """Lines that are written together."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.size, self.start = 0, 0  # bytes; where they begin in the file, once written
        self.written = False
        self.error: OSError | None = None

    def add(self, line: bytes) -> int:
        """Returns the offset of the line from the first one."""
        offset = self.size
        self.lines.append(line)
        self.size += len(line)
        return offset


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
