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
import io
import os
import secrets
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from syneg.core.storage import lock

from .embedding_cache import LOCK

_KEY_BYTES = 16
_KEY = np.dtype([("high", "<u8"), ("low", "<u8")])
Keyed = Sequence[str] | np.ndarray
"""Texts, or their keys (n,)."""
_HEADER = 128  # bytes before the numbers of a shard
_MOST = 0.25  # share of a shard from which it is read as a whole
_ROW_BITS = 20  # a shard has at most 2**20 rows
_QUICK_S, _PAUSE = 0.002, 20  # a listing that takes longer is not repeated before 20 times as long
_RECENT = 100_000  # keys to hold in a dictionary (180 bytes each) before they move to sorted arrays (24 bytes each)
_MANY = 5_000  # keys that go to the sorted arrays at once
_AT_ONCE = 512  # rows that are made float32 in the processor's cache
_GATHERED, _TOGETHER_S = 16_384, 1.0  # rows, and seconds of work, in one shard


class MissingEmbeddings(KeyError):
    """A stored embedding is gone, because another process removed the folder."""


@dataclass(frozen=True)
class _Shard:
    """Where the vectors of one shard lie in its file: (count, dim) numbers of `kind` from byte `offset` on."""

    path: Path
    shape: tuple[int, int]
    kind: np.dtype[Any]
    offset: int

    @classmethod
    def of(cls, path: Path) -> _Shard:
        """Read the header. Raises OSError or ValueError if the file is not whole."""
        with path.open("rb") as file:
            shape, kind, offset = _layout(file.read(_HEADER))
            if os.fstat(file.fileno()).st_size != offset + shape[0] * shape[1] * kind.itemsize:
                raise ValueError(f"{path} is not whole")
        return cls(path, shape, kind, offset)

    def rows(self, wanted: np.ndarray) -> np.ndarray:
        """The rows `wanted` (n,) as (n, dim) of `kind`. Raises OSError or ValueError if the file is gone or was cut."""
        if len(wanted) < _MOST * self.shape[0]:
            few: np.ndarray = np.memmap(self.path, self.kind, "r", self.offset, self.shape)[wanted]
            return few
        whole = np.fromfile(self.path, self.kind, offset=self.offset).reshape(self.shape)
        return whole if np.array_equal(wanted, np.arange(len(whole))) else whole[wanted]


class EmbeddingStore:
    """One folder of shards. Vectors are stored as `kind` and returned as float32.

    Texts may be given by their keys (`keys_of`), so that each is hashed once.
    """

    def __init__(self, folder: Path, kind: type[np.floating[Any]] = np.float16) -> None:
        self.folder, self.kind = folder, kind
        self._release: Callable[[], object] | None = None  # closes the lock file
        self._reset()

    def _reset(self) -> None:
        """Forget all shards: they are looked for again."""
        self._shards: list[_Shard] = []
        self._known: set[str] = set()
        self._recent: dict[bytes, int] = {}  # key → place, which is shard << _ROW_BITS | row
        self._keys = np.zeros(0, _KEY)  # sorted
        self._places = np.zeros(0, np.int64)
        self._seen_at, self._next_look = -1, 0.0

    def missing(self, texts: Keyed) -> list[int]:
        """Positions of texts that are not stored; for repeated texts only the first position."""
        self._refresh()
        keys = keys_of(texts)
        lacking = np.flatnonzero(self._find(keys) < 0)
        first: dict[bytes, int] = {}
        for place, key in zip(lacking.tolist(), _pieces(keys[lacking]), strict=True):
            first.setdefault(key, place)
        return list(first.values())

    def add(self, texts: Keyed, vectors: np.ndarray) -> int:
        """Store `vectors` (n, dim) of n texts as one shard. Returns its size in bytes."""
        keys = keys_of(texts).tobytes()
        name = hashlib.sha256(keys).hexdigest()[:24]
        rows = np.ascontiguousarray(vectors, self.kind)
        self._hold()
        self._write(f"{name}.npy", lambda file: np.save(file, rows, allow_pickle=False))
        self._write(f"{name}.keys", lambda file: file.write(keys))
        self._learn([f"{name}.keys"])
        return rows.nbytes + len(keys)

    def take(self, texts: Keyed) -> np.ndarray:
        """Vectors (n, dim) float32 of n texts. Raises MissingEmbeddings if one of them is not stored."""
        if not len(texts):
            return np.zeros((0, 0), np.float32)
        places = self._find(keys_of(texts))
        if (places < 0).any():
            raise MissingEmbeddings(f"{int((places < 0).sum())} of {len(places)} texts")
        order = np.argsort(places, kind="stable")  # by shard, so that each shard is opened once and then closed
        shards, rows = places[order] >> _ROW_BITS, places[order] & ((1 << _ROW_BITS) - 1)
        out = np.empty((len(places), self._shards[shards[0]].shape[1]), np.float32)
        for part in np.split(np.arange(len(order)), np.flatnonzero(np.diff(shards)) + 1):
            try:
                vectors = self._shards[shards[part[0]]].rows(rows[part])
            except (OSError, ValueError) as error:
                self._reset()
                raise MissingEmbeddings(str(error)) from error
            for start in range(0, len(part), _AT_ONCE):
                some = slice(start, start + _AT_ONCE)
                out[order[part[some]]] = vectors[some].astype(np.float32)
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
        self._learn(new)
        self._seen_at = changed
        took = time.monotonic() - start
        if took > _QUICK_S:
            self._next_look = start + _PAUSE * took

    def _learn(self, names: Sequence[str]) -> None:
        """Learn the keys of shards. Leaves out those that are known, and those whose files do not fit each other."""
        found: list[bytes] = []
        places: list[np.ndarray] = []
        for name in names:
            if name in self._known:
                continue
            try:
                shard = _Shard.of((self.folder / name).with_suffix(".npy"))
                packed = (self.folder / name).read_bytes()
            except (OSError, ValueError):
                continue
            if len(packed) == _KEY_BYTES * shard.shape[0]:
                found.append(packed)
                places.append((len(self._shards) << _ROW_BITS) + np.arange(shard.shape[0]))
                self._shards.append(shard)
                self._known.add(name)
        if found:
            self._keep(np.frombuffer(b"".join(found), _KEY), np.concatenate(places))

    def _keep(self, keys: np.ndarray, places: np.ndarray) -> None:
        """Keep the place of each key; many go to the sorted arrays at once. The first place of a key counts."""
        if len(keys) < _MANY:
            for key, place in zip(_pieces(keys), places.tolist(), strict=True):
                self._recent.setdefault(key, place)
            if len(self._recent) <= _RECENT:
                return
            keys, places = keys[:0], places[:0]
        recent = np.frombuffer(b"".join(self._recent), _KEY)
        keys = np.concatenate([self._keys, recent, keys])
        places = np.concatenate([self._places, np.fromiter(self._recent.values(), np.int64, len(recent)), places])
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
            other = np.flatnonzero(places < 0)
            places[other] = [self._recent.get(key, -1) for key in _pieces(keys[other])]
        return places


class Gathered:
    """Stores the new embeddings of a second as one shard, because each shard is synced and opened by itself.

    `flush` stores the rest. A kill loses what was embedded in the last second; of a slow encoder one chunk.
    """

    def __init__(self, store: EmbeddingStore) -> None:
        self._store, self._since = store, time.monotonic()
        self._keys: list[np.ndarray] = []
        self._vectors: list[np.ndarray] = []

    def add(self, keys: np.ndarray, vectors: np.ndarray) -> int:
        """Add `vectors` (n, dim) with their keys (n,). Returns the bytes that were stored by now, mostly 0."""
        self._keys.append(keys)
        self._vectors.append(np.asarray(vectors, self._store.kind))
        full = sum(map(len, self._keys)) >= _GATHERED or time.monotonic() - self._since > _TOGETHER_S
        return self.flush() if full else 0

    def flush(self) -> int:
        """Store what was added. Returns its size in bytes."""
        size = self._store.add(np.concatenate(self._keys), np.concatenate(self._vectors)) if self._keys else 0
        self._keys, self._vectors, self._since = [], [], time.monotonic()
        return size


def keys_of(texts: Keyed) -> np.ndarray:
    """The key of each text, (n,): the first 16 bytes of its SHA-256. Keys are returned as they are."""
    if isinstance(texts, np.ndarray):
        return texts
    digests = b"".join([hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts])
    halves = np.frombuffer(digests, _KEY).reshape(-1, 2)
    return np.ascontiguousarray(halves[:, 0])


def _pieces(keys: np.ndarray) -> Iterator[bytes]:
    packed = keys.tobytes()
    return (packed[start : start + _KEY_BYTES] for start in range(0, len(packed), _KEY_BYTES))


@lru_cache(64)
def _layout(header: bytes) -> tuple[tuple[int, int], np.dtype[Any], int]:
    """Shape, kind and offset of the numbers in a file of numpy; most shards have the same header."""
    file = io.BytesIO(header)
    np.lib.format.read_magic(file)
    shape, fortran, kind = np.lib.format.read_array_header_1_0(file)
    if fortran or len(shape) != 2:
        raise ValueError("no rows of vectors")
    return (shape[0], shape[1]), kind, file.tell()
