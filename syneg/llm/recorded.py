"""Answer from the ledger of another machine (`--replay`), by model, request and attempt, but not by address.

recorded = Recorded(Path("calls.jsonl.zst"))
recorded.find({"model": "openai/gpt-4o-mini@default", "prompt": "a94e…", "attempt": 0}) → {"answer": "{…}", …}
recorded.find({…})                                                                     → None: it was never asked
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import shutil
import tempfile
import threading
import zlib
from pathlib import Path
from typing import Any

from syneg.core.errors import DataError
from syneg.core.records import fingerprint

from .ledger import Index
from .rows import CallRow, RequestRow

_PACKED = (".gz", ".zst", ".bz2", ".xz")
_EXTRA = re.compile(r"\+[0-9a-f]{12}\Z")


class Recorded:
    """A ledger to answer from. A request is found by model, prompt and attempt, wherever the model was served."""

    def __init__(self, path: Path) -> None:
        """`path` may be compressed (.gz, .zst, .bz2, .xz). Raises DataError for a missing or a broken file."""
        if not path.is_file():
            raise DataError("no such ledger", where=str(path), todo="give the ledger/calls.jsonl of a run")
        self.path = path
        self._stopped, self._lock = set[str](), threading.Lock()
        self._folder = tempfile.TemporaryDirectory(prefix="syneg-replay-")
        place = Path(self._folder.name)
        try:
            if path.suffix.lower() in _PACKED:
                path = _unpacked(path, place / "calls.jsonl")
            self._index = Index(path, place / "calls.jsonl.index", _key_of)
        except DataError:
            self._folder.cleanup()
            raise

    def find(self, row: RequestRow) -> CallRow | None:
        """The recorded row for the request of `row` (`model`, `prompt`, `attempt`, `repeat`), else None."""
        return self._index.find(_anywhere(row))

    def stop(self, row: RequestRow) -> CallRow | None:
        """The recorded row of a budget that stopped the request of `row`, else None.

        Returned once per request, because a later call of the recorded run may have answered it.
        """
        key = _anywhere(row, stopped=True)
        with self._lock:
            if key in self._stopped:
                return None
            self._stopped.add(key)
        return self._index.find(key)

    def close(self) -> None:
        self._index.close()
        self._folder.cleanup()


def _key_of(row: CallRow) -> str:
    return _anywhere(row, stopped=row.get("stopped", False))


def _anywhere(row: RequestRow, *, stopped: bool = False) -> str:
    """The key of a request without the address: it has the model's name only, and the file name of a GGUF path."""
    name, _, place = str(row["model"]).partition("@")
    if name.endswith(".gguf"):
        name = name.rpartition("/")[2]
    extra = _EXTRA.search(place)
    parts = [name, extra[0] if extra else "", row["prompt"], row["attempt"], row.get("repeat", 1)]
    return fingerprint(*parts, *(["stopped"] if stopped else []))


def _unpacked(path: Path, plain: Path) -> Path:
    """Decompress a file to `plain`. Raises DataError for a broken file."""
    kind = path.suffix.lower()
    try:
        with _opened(path, kind) as packed, plain.open("wb") as file:
            shutil.copyfileobj(packed, file)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"broken {kind} file: {error}", where=str(path), todo="fetch it again") from error
    return plain


def _opened(path: Path, kind: str) -> Any:
    if kind == ".zst":
        import pyarrow

        return pyarrow.CompressedInputStream(str(path), "zstd")
    opener: Any = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}[kind]
    return opener(path, "rb")
