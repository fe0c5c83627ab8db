"""The ledger keeps every LM call as it happens, and answers the same request when it comes again.

    {"key": "5f0c…", "query_id": "bisect.insort", "attempt": 0, "model": "local/qwen2.5-coder-1.5b@cc324af0…",
     "prompt": "a94e…", "answer": "{\\"hard_negative\\": …}", "finish_reason": "stop", "input_tokens": 412,
     "output_tokens": 88, "usd": 0.0, "seconds": 3.2, "error": null, "use": "write neighbour_rewrite"}

The key is a hash of everything that decides an answer: the model with its endpoint (or the hash of its weights), the
whole request (messages, schema, sampling) and the attempt. So a killed run resumes at the first missing call, and a
changed prompt, model or setting never gets a stale answer.

- A failed call has a row, but is made again. A call without a text in its answer is a failed call.
- A refused prompt (`"refused": true`) is not sent again, because the endpoint would refuse it again.
- A call that the budget of a compilation stopped (`"stopped": true`) has a row, so that a replay stops there, too.
- `thinking` holds the thinking before an answer. `use` names the purpose of a call; a dry run takes the usual cost of
  such calls from it.
- A prompt is kept as a hash, because its text comes from the collection.

An index of keys in sqlite (`calls.jsonl.index`) keeps memory constant. It may be deleted at any time. Rows that it
lacks after a crash are read again, and an index that is damaged or does not fit the file is built again.
"""

from __future__ import annotations

import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import cast

from syneg.core.errors import BackendError, DataError
from syneg.core.failing import on_failure
from syneg.core.storage import DISK_ERRORS, Log, row_of

from .rows import CallRow, is_answer, unanswered

_EDITED: CallRow = unanswered({"key": "", "query_id": "", "attempt": 0, "model": "", "prompt": ""}, "error", "edited")
_TABLES = """
    CREATE TABLE IF NOT EXISTS calls (key TEXT PRIMARY KEY, start INTEGER, length INTEGER) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS state (id INTEGER PRIMARY KEY, done INTEGER, last INTEGER, checksum INTEGER);
"""
_ROWS_PER_COMMIT = 4_000  # rows between two commits of the index; sorted ones keep a large index fast


class Ledger:
    """The calls of one run folder. `on_row` is called with each new row. `use` is the purpose of the current calls.

    Safe for threads. Only one process may use a run folder at a time.
    """

    def __init__(self, path: Path, on_row: Callable[[CallRow], None] | None = None) -> None:
        self._on_row = on_row
        self._log = Log(path)  # mends a line that a crash cut, so open it before reading
        try:
            self._index = Index(path, path.with_name(f"{path.name}.index"), _own_key)
        except DataError:
            self._log.close()
            raise
        self._lock = threading.Lock()
        self._under_way: dict[str, Future[CallRow]] = {}
        self.use = ""

    def find(self, key: str) -> CallRow | None:
        """The row of a call with an answer, else None. The row has an `error` if the prompt was refused, or the answer
        was cut before its text."""
        return self._index.find(key)

    def once(self, key: str, make: Callable[[], CallRow]) -> tuple[CallRow, bool]:
        """Return the row of a call, and whether it existed before. `make` makes and keeps a missing row.

        Threads that ask for the same missing call wait for one `make`, and each raises its error.
        """
        with self._lock:
            row, mine = self.find(key), False
            if row is not None:
                return row, True
            pending = self._under_way.get(key)
            if pending is None:
                pending, mine = Future(), True
                self._under_way[key] = pending
        if not mine:
            return pending.result(), True
        try:
            with on_failure(pending.set_exception):
                row = make()
            pending.set_result(row)
            return row, False
        finally:
            with self._lock:
                del self._under_way[key]

    def keep(self, row: CallRow) -> None:
        """Append a row. It is on disk when this returns.

        Raises OSError on a full or read-only disk, and BackendError if the file cannot be written for another reason,
        as on a network disk that is gone. Both end a run: no call is made whose answer cannot be kept.
        """
        try:
            start, length = self._log.append(row)
        except OSError as error:
            if error.errno in DISK_ERRORS:
                raise
            raise BackendError(
                f"the ledger cannot be written: {error.strerror or error}", where=str(self._log.path),
                todo="check the disk, then run the same command again",
            ) from error  # fmt: skip
        self._index.add(row, start, length)
        if self._on_row:
            self._on_row(row)

    def failed(self, name: str) -> Iterator[tuple[int, CallRow]]:
        """The calls without an answer that were made within the compilation `name`, each with its place in the file."""
        with self._log.path.open("rb") as file:
            for place, line in enumerate(file):
                if name.encode() in line:  # parse only these
                    row = cast(CallRow, row_of(line))
                    if row.get("within") == name and not is_answer(row):
                        yield place, row

    def close(self) -> None:
        self._log.close()
        self._index.close()


class Index:
    """Finds rows of a growing JSONL file by key; safe for threads.

    `key_of` returns the key of a row, or "" for a row that `find` must not return. `place` is the file of the index; if
    it cannot be written, the index is in memory.
    """

    def __init__(self, path: Path, place: Path, key_of: Callable[[CallRow], str]) -> None:
        self._path, self._place, self._key_of = path, place, key_of
        self._lock = threading.Lock()
        self._file = path.open("rb")
        self._waiting: dict[str, tuple[int, int]] = {}  # rows that are not in the database yet
        self._last = (0, 0)
        self._database = self._opened()
        try:
            self._read_on()
        except DataError:
            self._database.close()
            self._file.close()
            raise

    def find(self, key: str) -> CallRow | None:
        with self._lock:
            try:
                row = self._at(key)
                fits = row is None or self._key_of(row) == key  # else a user has edited the file
            except sqlite3.DatabaseError:
                fits = False
            if not fits:
                self._anew()
                row = self._at(key)
            return row

    def add(self, row: CallRow, start: int, length: int) -> None:
        """Index a row that was appended to the file at byte `start`."""
        with self._lock:
            self._note(self._key_of(row), start, length)

    def close(self) -> None:
        with self._lock:
            self._commit()
            self._database.close()
            self._file.close()

    def _opened(self) -> sqlite3.Connection:
        """Open the index if it fits the file, else make an empty one."""
        try:
            database = self._connected(str(self._place))
        except sqlite3.DatabaseError:
            return self._emptied()
        try:
            state = database.execute("SELECT done, last, checksum FROM state").fetchone()
            fits = not state or self._checksum(state[1], state[0]) == state[2]
        except sqlite3.DatabaseError:
            fits = False
        if not fits:
            database.close()
            database = self._emptied()
        return database

    def _emptied(self) -> sqlite3.Connection:
        """Make an empty index, in memory if `place` cannot be written."""
        try:
            self._place.unlink(missing_ok=True)
            return self._connected(str(self._place))
        except (OSError, sqlite3.DatabaseError):
            return self._connected(":memory:")

    def _connected(self, place: str) -> sqlite3.Connection:
        database = sqlite3.connect(place, check_same_thread=False, isolation_level="DEFERRED")
        try:
            database.execute("PRAGMA synchronous = NORMAL")  # its journal is on disk: a kill loses no row unnoticed
            database.executescript(_TABLES)
        except sqlite3.DatabaseError:
            database.close()
            raise
        return database

    def _anew(self) -> None:
        self._database.close()
        self._waiting.clear()
        self._database = self._emptied()
        self._read_on()

    def _read_on(self) -> None:
        """Index the rows after the last indexed row."""
        state = self._database.execute("SELECT done FROM state").fetchone()
        for line, start in self._lines(state[0] if state else 0):
            try:
                if row := row_of(line):
                    self._note(self._key_of(cast(CallRow, row)), start, len(line))
            except (ValueError, KeyError) as error:
                what = f"a line is no call: it has no {error}" if isinstance(error, KeyError) else str(error)
                raise DataError(what, where=self._line_at(start), todo="delete the line") from error
        self._commit()

    def _lines(self, start: int) -> Iterator[tuple[bytes, int]]:
        """The lines from byte `start` on, each with the byte where it begins."""
        while True:
            self._file.seek(start)  # a commit between two rows moves the position
            line = self._file.readline()
            if not line:
                return
            yield line, start
            start += len(line)

    def _line_at(self, start: int) -> str:
        """`calls.jsonl:17`, the line that begins at byte `start`."""
        self._file.seek(0)
        before = self._file.read(start).count(b"\n")
        return f"{self._path}:{before + 1}"

    def _note(self, key: str, start: int, length: int) -> None:
        self._last = start, length
        if key:
            self._waiting[key] = start, length
        if len(self._waiting) >= _ROWS_PER_COMMIT:
            self._commit()

    def _at(self, key: str) -> CallRow | None:
        place = (
            self._waiting.get(key)
            or self._database.execute("SELECT start, length FROM calls WHERE key = ?", (key,)).fetchone()
        )
        if place is None:
            return None
        self._file.seek(place[0])
        try:
            return cast(CallRow, row_of(self._file.read(place[1]))) or _EDITED
        except ValueError:
            return _EDITED

    def _commit(self) -> None:
        """Move waiting rows into the database, and record the end of the last indexed line."""
        start, length = self._last
        if not length:
            return
        rows = sorted((key, *place) for key, place in self._waiting.items())  # by key, as the database is
        state = (1, start + length, start, self._checksum(start, start + length))
        try:
            with self._database:
                self._database.executemany("INSERT OR REPLACE INTO calls VALUES (?, ?, ?)", rows)
                self._database.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?, ?)", state)
            self._waiting.clear()
        except sqlite3.OperationalError:
            pass  # another process holds the database; the rows are indexed again next time
        except sqlite3.DatabaseError:
            self._anew()

    def _checksum(self, start: int, end: int) -> int:
        self._file.seek(start)
        return zlib.crc32(self._file.read(end - start)) if end > start else -1


def _own_key(row: CallRow) -> str:
    return str(row["key"]) if is_answer(row) else ""
