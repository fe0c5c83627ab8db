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

import numpy as np

_KEY_BYTES = 16


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:_KEY_BYTES]


class EmbeddingStore:
    """One folder of shards; vectors are kept as float16 and given back as float32."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._where: dict[bytes, tuple[int, int]] = {}
        self._shards: list[np.ndarray] = []
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
                np.save(file, vectors.astype(np.float16), allow_pickle=False)
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
        found = [self._where[_key(text)] for text in texts]
        shards = np.array([shard for shard, _ in found])
        rows = np.array([row for _, row in found])
        out = np.empty((len(texts), self._shards[shards[0]].shape[1]), np.float32)
        for shard in np.unique(shards):
            of = shards == shard
            out[of] = self._shards[shard][rows[of]]
        return out

    def _open(self, keys: Path) -> None:
        try:
            vectors = np.load(keys.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError):
            return
        packed = keys.read_bytes()
        if len(packed) != _KEY_BYTES * len(vectors):
            return
        for row in range(len(vectors)):
            self._where.setdefault(packed[row * _KEY_BYTES : (row + 1) * _KEY_BYTES], (len(self._shards), row))
        self._shards.append(vectors)
