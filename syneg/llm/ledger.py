"""The ledger: every call of an LM, kept as it happens, and answered from when the same call comes again.

    {"key": "5f0c…", "query_id": "bisect.insort", "attempt": 0, "model": "local/qwen2.5-coder-1.5b@cc324af0…",
     "prompt": "a94e…", "answer": "{\\"hard_negative\\": …}", "finish_reason": "stop", "input_tokens": 412,
     "output_tokens": 88, "usd": 0.0, "seconds": 3.2, "error": null, "use": "write neighbour_rewrite"}

The key is a hash of everything that decides an answer: the model with its endpoint (or the hash of its weights), the
whole request (messages, schema, sampling) and the attempt. So a run that was killed goes on with the first call that
is not there, and a changed prompt, model or setting can never get a stale answer. Failed calls are kept too, but never
replayed (an answer without a text is one), unless the endpoint refused the prompt for its text (`"refused": true`), as
it would do so again. A call that the budget of a compilation stopped has a row, too (`"stopped": true`), so that a
replay stops there. `thinking` stands beside the answer where there was any. `use` says what a call
was made for, by which a dry run knows what such calls take. Prompts are kept as hashes: they hold the
corpus, which is in the collection already.

Memory stays constant however many calls there are: an index of keys stands in sqlite beside the file
(`calls.jsonl.index`), which may be deleted at any time. What it does not hold yet, after a crash, is read again; where
it does not fit the file it is made anew.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from syneg.core.errors import DataError
from syneg.core.storage import Log

Row = dict[str, Any]
_TABLES = """
    CREATE TABLE IF NOT EXISTS calls (key TEXT PRIMARY KEY, start INTEGER, length INTEGER) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS state (id INTEGER PRIMARY KEY, done INTEGER, last INTEGER, checksum INTEGER);
"""
_EACH = 1000  # rows between two commits of the index


class Ledger:
    """The calls of one run folder; `told` hears of each new one. `use` is what calls are for now. Appending is safe for
    threads; one process holds the run folder."""

    def __init__(self, path: Path, told: Callable[[Row], None] | None = None) -> None:
        self._told = told
        self._log = Log(path)  # mends a line that a crash cut, so open it before reading
        try:
            self._index = Index(path, path.with_name(f"{path.name}.index"), _own_key)
        except DataError:
            self._log.close()
            raise
        self._lock = threading.Lock()
        self._under_way: dict[str, Future[Row]] = {}
        self.use = ""

    def find(self, key: str) -> Row | None:
        """The row of a call that was answered before, else None. One that was refused, or cut before its text, has an
        `error`."""
        return self._index.find(key)

    def once(self, key: str, make: Callable[[], Row]) -> tuple[Row, bool]:
        """The row of a call, and whether it was there. Where it was not, `make` makes and keeps it; threads that ask
        for the same call at once wait for one of them. Raises what `make` raises, in each of these threads."""
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
            row = make()
        except BaseException as error:
            pending.set_exception(error)
            raise
        else:
            pending.set_result(row)
            return row, False
        finally:
            with self._lock:
                del self._under_way[key]

    def keep(self, row: Row) -> None:
        """Append a row; it is on disk when this returns. Raises OSError on a full disk."""
        start, length = self._log.append(row)
        if self._told:
            self._told(row)
        self._index.add(row, start, length)

    def close(self) -> None:
        self._log.close()
        self._index.close()


class Index:
    """Key → row of a JSONL file that only grows. `key_of` gives the key of a row, or "" for one that is not found.

    `place` is the file of the index; where none can be written it stands in memory. Safe for threads.
    """

    def __init__(self, path: Path, place: Path, key_of: Callable[[Row], str]) -> None:
        self._path, self._place, self._key_of = path, place, key_of
        self._lock = threading.Lock()
        self._file = path.open("rb")
        self._waiting: dict[str, tuple[int, int]] = {}  # noted, and not in the database yet
        self._last = (0, 0)
        self._database = self._opened()
        try:
            self._read_on()
        except DataError:
            self._database.close()
            self._file.close()
            raise

    def find(self, key: str) -> Row | None:
        with self._lock:
            row = self._at(key)
            if row is not None and self._key_of(row) != key:  # the file was changed by hand
                self._anew()
                row = self._at(key)
            return row

    def add(self, row: Row, start: int, length: int) -> None:
        """Note a row that was appended to the file."""
        with self._lock:
            self._note(self._key_of(row), start, length)

    def close(self) -> None:
        with self._lock:
            self._commit()
            self._database.close()
            self._file.close()

    def _opened(self) -> sqlite3.Connection:
        """The index where it fits the file, else an empty one."""
        try:
            database = self._connected(str(self._place))
        except sqlite3.DatabaseError:
            database = self._emptied()
        state = database.execute("SELECT done, last, checksum FROM state").fetchone()
        if state and self._checksum(state[1], state[0]) != state[2]:
            database.close()
            database = self._emptied()
        return database

    def _emptied(self) -> sqlite3.Connection:
        """A new index; in memory where none can be written beside the file."""
        try:
            self._place.unlink(missing_ok=True)
            return self._connected(str(self._place))
        except (OSError, sqlite3.DatabaseError):
            return self._connected(":memory:")

    def _connected(self, place: str) -> sqlite3.Connection:
        database = sqlite3.connect(place, check_same_thread=False, isolation_level="DEFERRED")
        try:
            database.execute("PRAGMA synchronous = OFF")  # a crash may lose the index, which is made again
            database.execute("PRAGMA journal_mode = MEMORY")
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
        """Index what the file holds behind what was indexed."""
        state = self._database.execute("SELECT done FROM state").fetchone()
        for row, start, length in self._rows(state[0] if state else 0):
            self._note(self._key_of(row), start, length)
        self._commit()

    def _rows(self, start: int) -> Iterator[tuple[Row, int, int]]:
        while True:
            self._file.seek(start)  # a commit reads elsewhere
            line = self._file.readline()
            if not line:
                return
            try:
                yield json.loads(line), start, len(line)
            except (ValueError, RecursionError) as error:
                where = f"{self._path}, byte {start}"
                raise DataError(f"not valid JSON: {error}", where=where, todo="delete the line") from error
            start += len(line)

    def _note(self, key: str, start: int, length: int) -> None:
        self._last = start, length
        if key:
            self._waiting[key] = start, length
        if len(self._waiting) >= _EACH:
            self._commit()

    def _at(self, key: str) -> Row | None:
        place = (
            self._waiting.get(key)
            or self._database.execute("SELECT start, length FROM calls WHERE key = ?", (key,)).fetchone()
        )
        if place is None:
            return None
        self._file.seek(place[0])
        try:
            row = json.loads(self._file.read(place[1]))
        except ValueError:
            return {"key": "", "error": "changed by hand"}
        return row if isinstance(row, dict) else {"key": "", "error": "changed by hand"}

    def _commit(self) -> None:
        """Put what waits into the database, as the index of the file up to the last line that was noted."""
        start, length = self._last
        if not length:
            return
        rows = [(key, *place) for key, place in self._waiting.items()]
        state = (1, start + length, start, self._checksum(start, start + length))
        with contextlib.suppress(sqlite3.OperationalError), self._database:  # of another process: read again next time
            self._database.executemany("INSERT OR REPLACE INTO calls VALUES (?, ?, ?)", rows)
            self._database.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?, ?)", state)
            self._waiting.clear()

    def _checksum(self, start: int, end: int) -> int:
        self._file.seek(start)
        return zlib.crc32(self._file.read(end - start)) if end > start else -1


def is_answer(row: Row) -> bool:
    """Whether the same request is not sent again: what was cut would be cut again, and what was refused be refused."""
    return row["error"] is None or row.get("finish_reason") == "length" or bool(row.get("refused"))


def _own_key(row: Row) -> str:
    return str(row["key"]) if is_answer(row) else ""
