"""Embeddings on disk, by content: the same text under the same weights, prompt, length and precision is encoded once.

    store = EmbeddingStore(cache_home() / "embeddings" / space)     space = hash of weights, prompt, length, precision
    store.missing(texts) → [3, 17]      store.add([texts[3], texts[17]], array)      store.take(texts) → (n, dim) float32

A shard is a pair of files, `HASH.npy` (float16, n x dim) and `HASH.keys` (n keys of 16 bytes), written in one step each;
a shard whose keys are missing is ignored, so a crash costs at most one shard. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

_KEY_BYTES = 16
_ROW_BITS = 20


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:_KEY_BYTES]


class EmbeddingStore:
    """One folder of shards; vectors are kept as `kind` and given back as float32."""

    def __init__(self, folder: Path, kind: type[np.floating[Any]] = np.float16) -> None:
        self.folder, self._kind = folder, kind
        self._where: dict[bytes, int] = {}  # shard and row in one number
        self._shards: list[Path] = []
        for keys in sorted(folder.glob("*.keys")):
            self._open(keys)

    def missing(self, texts: Sequence[str]) -> list[int]:
        """Positions of texts that are not stored; of repeats only the first."""
        seen: set[bytes] = set()
        places = []
        for place, text in enumerate(texts):
            key = _key(text)
            if key not in self._where and key not in seen:
                seen.add(key)
                places.append(place)
        return places

    def add(self, texts: Sequence[str], vectors: np.ndarray) -> None:
        """Store `vectors` (n, dim) of n texts as one shard."""
        keys = b"".join(_key(text) for text in texts)
        name = hashlib.sha256(keys).hexdigest()[:24]
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f".{name}.tmp"
        try:
            with draft.open("wb") as file:
                np.save(file, vectors.astype(self._kind), allow_pickle=False)
            draft.replace(self.folder / f"{name}.npy")
            draft.write_bytes(keys)
            draft.replace(self.folder / f"{name}.keys")
        finally:
            draft.unlink(missing_ok=True)
        self._open(self.folder / f"{name}.keys")

    def take(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors (n, dim) float32 of texts that are all stored; raises KeyError otherwise."""
        if not texts:
            return np.zeros((0, 0), np.float32)
        found = np.array([self._where[_key(text)] for text in texts])
        order = np.argsort(found, kind="stable")  # shard after shard: each is opened once, and none stays open
        shards, rows = found[order] >> _ROW_BITS, found[order] & ((1 << _ROW_BITS) - 1)
        out: np.ndarray | None = None
        for part in np.split(np.arange(len(order)), np.flatnonzero(np.diff(shards)) + 1):
            vectors = _mapped(self._shards[shards[part[0]]])
            if out is None:
                out = np.empty((len(texts), vectors.shape[1]), np.float32)
            out[order[part]] = vectors[rows[part]]
        assert out is not None
        return out

    def _open(self, keys: Path) -> None:
        path = keys.with_suffix(".npy")
        try:
            count = len(_mapped(path))
        except (OSError, ValueError):
            return
        packed = keys.read_bytes()
        if len(packed) != _KEY_BYTES * count:
            return
        first = len(self._shards) << _ROW_BITS
        for row in range(count):
            self._where.setdefault(packed[row * _KEY_BYTES : (row + 1) * _KEY_BYTES], first + row)
        self._shards.append(path)


def _mapped(path: Path) -> np.ndarray:
    found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return found
