"""Keep embeddings on disk by the content of their text, so that each text is embedded once.

    store = EmbeddingStore(cache_home() / "embeddings" / space)     space: a hash of weights, prompt, length, precision
    store.missing(texts) → [3, 17]
    store.add([texts[3], texts[17]], array)
    store.take(texts) → (n, dim) float32

A shard is two files: `HASH.npy` with n vectors and `HASH.keys` with n keys of 16 bytes. Each is written as a draft and
renamed. A shard without keys is ignored, so a crash loses at most one shard. Several processes may share a folder; each
finds new shards of the others at its next `missing`, or a little later in a folder so large that listing it takes
time. An open store holds a shared lock on its folder, which protects it from pruning (`embedding_cache`). Nothing is
pickled.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from syneg.core.storage import lock

from .embedding_cache import LOCK

_KEY_BYTES = 16
_KEY = np.dtype([("high", ">u8"), ("low", ">u8")])
_ROW_BITS = 20  # a shard has at most 2**20 rows
_QUICK_S, _PAUSE = 0.002, 20  # a listing that takes longer is not repeated before 20 times as long
_RECENT = 100_000  # keys to hold in a dictionary (180 bytes each) before they move to sorted arrays (24 bytes each)


class MissingEmbeddings(KeyError):
    """A stored embedding is gone, because another process removed the folder."""


class EmbeddingStore:
    """One folder of shards. Vectors are stored as `kind` and returned as float32."""

    def __init__(self, folder: Path, kind: type[np.floating[Any]] = np.float16) -> None:
        self.folder, self._kind = folder, kind
        self._release: Callable[[], object] | None = None  # closes the lock file
        self._reset()

    def _reset(self) -> None:
        """Forget all shards: they are looked for again."""
        self._shards: list[Path] = []
        self._known: set[str] = set()
        self._recent: dict[bytes, int] = {}  # key → place, which is shard << _ROW_BITS | row
        self._keys = np.zeros(0, _KEY)  # sorted
        self._places = np.zeros(0, np.int64)
        self._seen_at, self._next_look = -1, 0.0

    def missing(self, texts: Sequence[str]) -> list[int]:
        """Positions of texts that are not stored; for repeated texts only the first position."""
        self._refresh()
        keys = _keys(texts)
        seen: set[bytes] = set()
        places = []
        for place in np.flatnonzero(self._find(keys) < 0):
            key = keys[place].tobytes()
            if key not in seen:
                seen.add(key)
                places.append(int(place))
        return places

    def add(self, texts: Sequence[str], vectors: np.ndarray) -> int:
        """Store `vectors` (n, dim) of n texts as one shard. Returns its size in bytes."""
        keys = _keys(texts).tobytes()
        name = hashlib.sha256(keys).hexdigest()[:24]
        rows = np.ascontiguousarray(vectors, self._kind)
        self._hold()
        self._write(f"{name}.npy", lambda file: np.save(file, rows, allow_pickle=False))
        self._write(f"{name}.keys", lambda file: file.write(keys))
        self._open(f"{name}.keys")
        return rows.nbytes + len(keys)

    def take(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors (n, dim) float32 of n texts. Raises MissingEmbeddings if one of them is not stored."""
        if not texts:
            return np.zeros((0, 0), np.float32)
        places = self._find(_keys(texts))
        if (places < 0).any():
            raise MissingEmbeddings(texts[int(np.argmin(places))])
        order = np.argsort(places, kind="stable")  # by shard, so that each shard is opened once and then closed
        shards, rows = places[order] >> _ROW_BITS, places[order] & ((1 << _ROW_BITS) - 1)
        out: np.ndarray | None = None
        for part in np.split(np.arange(len(order)), np.flatnonzero(np.diff(shards)) + 1):
            try:
                vectors = _mapped(self._shards[shards[part[0]]])
            except (OSError, ValueError) as error:
                self._reset()
                raise MissingEmbeddings(str(error)) from error
            if out is None:
                out = np.empty((len(texts), vectors.shape[1]), np.float32)
            out[order[part]] = vectors[rows[part]]
        assert out is not None
        return out

    def close(self) -> None:
        """Release the lock on the folder."""
        if self._release is not None:
            self._release()
            self._release = None

    def _hold(self) -> None:
        """Make the folder, lock it against pruning, and set the time of the lock file to now."""
        path = self.folder / LOCK
        if self._release is not None and path.exists():
            return
        self.close()
        self.folder.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT)
        self._release = weakref.finalize(self, os.close, file)
        os.utime(path)
        lock(file, shared=True)

    def _write(self, name: str, write: Callable[[IO[bytes]], Any]) -> None:
        """Write a file as a draft, then rename the draft."""
        draft = self.folder / f".{name}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
        try:
            with draft.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())  # a key never stands for a vector that a power failure took
            draft.replace(self.folder / name)
        finally:
            draft.unlink(missing_ok=True)

    def _refresh(self) -> None:
        """Find the shards that other processes have written meanwhile."""
        start = time.monotonic()
        if start < self._next_look:
            return
        try:
            changed = self.folder.stat().st_mtime_ns
        except FileNotFoundError:
            self._reset()
            return
        self._hold()
        if changed == self._seen_at:
            return
        with os.scandir(self.folder) as entries:
            new = sorted(e.name for e in entries if e.name.endswith(".keys") and e.name not in self._known)
        for name in new:
            self._open(name)
        self._seen_at = changed
        took = time.monotonic() - start
        if took > _QUICK_S:
            self._next_look = start + _PAUSE * took

    def _open(self, name: str) -> None:
        """Learn the keys of a shard. Does nothing if it is known, or if its files do not fit each other."""
        if name in self._known:
            return
        path = (self.folder / name).with_suffix(".npy")
        try:
            count, packed = len(_mapped(path)), (self.folder / name).read_bytes()
        except (OSError, ValueError):
            return
        if len(packed) != _KEY_BYTES * count:
            return
        first = len(self._shards) << _ROW_BITS
        for row in range(count):
            self._recent.setdefault(packed[row * _KEY_BYTES : (row + 1) * _KEY_BYTES], first + row)
        self._shards.append(path)
        self._known.add(name)
        if len(self._recent) > _RECENT:
            self._sort_in()

    def _sort_in(self) -> None:
        """Move the keys of the dictionary to the sorted arrays."""
        keys = np.concatenate([self._keys, np.frombuffer(b"".join(self._recent), _KEY)])
        places = np.concatenate([self._places, np.fromiter(self._recent.values(), np.int64, len(self._recent))])
        order = np.argsort(keys["high"], kind="stable")
        self._keys, self._places = keys[order], places[order]
        self._recent = {}

    def _find(self, keys: np.ndarray) -> np.ndarray:
        """The place of each key, (n,) int64; -1 for a key that is not stored."""
        places = np.full(len(keys), -1, np.int64)
        if len(self._keys):
            spots = np.minimum(np.searchsorted(self._keys["high"], keys["high"]), len(self._keys) - 1)
            same = self._keys[spots] == keys
            places[same] = self._places[spots[same]]
        if self._recent:
            for i in np.flatnonzero(places < 0):
                places[i] = self._recent.get(keys[i].tobytes(), -1)
        return places


def _keys(texts: Sequence[str]) -> np.ndarray:
    """The key of each text, (n,): the first 16 bytes of its SHA-256."""
    digests = (hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:_KEY_BYTES] for text in texts)
    return np.frombuffer(b"".join(digests), _KEY)


def _mapped(path: Path) -> np.ndarray:
    vectors: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return vectors
