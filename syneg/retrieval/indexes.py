"""Search a corpus by embeddings (faiss) and by BM25 (bm25s, Lù 2024, arXiv 2407.03618).

    DenseIndex.of(passages, encoder).search(query_embeddings, 100) → [[("d7", .61), ("d3", .58), …], …]
    LexicalIndex(passages).search(["close a socket"], 50)          → [[("d3", 9.4), …]]

Dense search is exact unless the factory string names an approximate index. The index is filled block by block from the
embedding store. Below `EXACT` passages memory holds the embeddings once, as float32; from there on a file holds them as
float16, and memory one block. BM25 returns only passages that share a term with the query.
"""

from __future__ import annotations

import re
import unicodedata
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any, Protocol

import numpy as np

from syneg.core.errors import ConfigError
from syneg.core.progress import Tick
from syneg.core.storage import nameless_file
from syneg.core.text import terms

from .prompts import Role

EXACT = 200_000
_BLOCK = 65_536  # passages embedded at a time; an index is trained on the first block
_EXACTLY = ("auto", "Flat")
_COUNTED = 16_384  # passages whose words are counted at a time
_PROBED = 16  # a query searches one of 16 cells of an IVF index
_SMALL_LETTER = re.compile(r"(?<![^\W_])[a-z](?![^\W_+#])")  # a word of one small letter
Hits = list[list[tuple[str, float]]]

# Words in both Fox's and van Rijsbergen's stop lists. The list is short, so that no topic word is lost.
_STOP = frozenset([
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "from", "has", "have", "if", "in", "into", "is",
    "it", "its", "no", "not", "of", "on", "or", "such", "that", "the", "their", "then", "there", "these", "they",
    "this", "to", "was", "were", "will", "with", "which", "what", "who", "how", "when", "where", "why", "do",
    "does", "can",
])  # fmt: skip


class Encodes(Protocol):
    """Embeds texts; the part of an `Encoder` that an index needs."""

    def encode(self, texts: Sequence[str], role: Role, progress: Tick | None = None) -> np.ndarray: ...


class DenseIndex:
    """Searches by the inner product of embeddings: the cosine, or the dot product of a dot-product encoder.

    `blocks` are embeddings (n, dim) in the order of `doc_ids`. `factory` is a string of faiss such as "IVF1024,SQfp16";
    "auto" is "Flat" below `EXACT` passages, and from there on a `_Matrix` on disk. Raises ConfigError for a string that
    faiss does not know.
    """

    def __init__(
        self, doc_ids: Sequence[str], blocks: np.ndarray | Iterable[np.ndarray], factory: str = "auto"
    ) -> None:
        self.doc_ids = list(doc_ids)
        self._index: Any = None
        for block in [blocks] if isinstance(blocks, np.ndarray) else blocks:
            rows = np.ascontiguousarray(block, dtype=np.float32)
            if self._index is None:
                on_disk = factory == "auto" and len(self.doc_ids) >= EXACT
                exact = _Matrix(rows.shape[1]) if on_disk else _Held(len(self.doc_ids), rows.shape[1])
                self._index = exact if factory in _EXACTLY else _index(factory, rows)
            self._index.add(rows)

    @property
    def holds_vectors(self) -> bool:
        """Whether memory holds all embeddings as they were given."""
        return isinstance(self._index, _Held)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {doc_id: place for place, doc_id in enumerate(self.doc_ids)}

    def vectors(self, doc_ids: Iterable[str]) -> np.ndarray:
        """Embeddings (n, dim) float32 of n passages. Only for an index that `holds_vectors`."""
        rows: np.ndarray = self._index.rows[[self._places[doc_id] for doc_id in doc_ids]]
        return rows

    @classmethod
    def of(
        cls, passages: Mapping[str, str], encoder: Encodes, factory: str = "auto", progress: Tick | None = None
    ) -> DenseIndex:
        """Build the index of a corpus, one block of embeddings at a time. `Encoder.index` shares one between stages."""
        is_held = isinstance(passages, dict) and len(passages) < EXACT and factory in _EXACTLY
        size = len(passages) if is_held else _BLOCK  # one block needs no copy
        return cls(list(passages), _blocks(passages, encoder, progress, size), factory)

    def search(self, vectors: np.ndarray, depth: int) -> Hits:
        """The `depth` best passages for each query vector (n, dim), as (doc_id, score) by descending score."""
        if not len(vectors):
            return []
        scores, places = self._index.search(
            np.ascontiguousarray(vectors, dtype=np.float32), min(depth, len(self.doc_ids))
        )
        return _hits(self.doc_ids, scores, places)


class _Held:
    """An exact index of `count` passages that are held once: faiss would copy them."""

    def __init__(self, count: int, dim: int) -> None:
        self.rows, self._filled = np.zeros((0, dim), np.float32), 0
        self._count = count

    def add(self, rows: np.ndarray) -> None:
        """Append rows (n, dim). A block of all passages is taken as it is, and must not change."""
        if not self._filled:
            self.rows = rows if len(rows) == self._count else np.empty((self._count, rows.shape[1]), np.float32)
        if rows is not self.rows:
            self.rows[self._filled : self._filled + len(rows)] = rows
        self._filled += len(rows)

    def search(self, vectors: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """Scores and places of the `depth` best rows for each of `vectors`, both (n, depth), by descending score."""
        import faiss

        found: tuple[np.ndarray, np.ndarray] = faiss.knn(
            vectors, self.rows[: self._filled], depth, metric=faiss.METRIC_INNER_PRODUCT
        )
        return found


class _Matrix:
    """An exact index with its embeddings as float16 in a file: memory holds one block of them at a time."""

    def __init__(self, dim: int) -> None:
        self._dim, self._ends = dim, [0]
        self._file = nameless_file()
        weakref.finalize(self, self._file.close)

    def add(self, rows: np.ndarray) -> None:
        """Append rows (n, dim)."""
        self._file.write(rows.astype(np.float16).data)
        self._ends.append(self._ends[-1] + len(rows))

    def search(self, vectors: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """Scores and places of the `depth` best rows for each of `vectors`, both (n, depth), by descending score."""
        self._file.flush()
        return _best(vectors, map(self._rows, self._ends, self._ends[1:]), depth)

    def _rows(self, start: int, end: int) -> np.ndarray:
        # mapped anew each time: pages of an open map count as memory of the process
        rows = np.memmap(self._file, np.float16, "r", 2 * self._dim * start, (end - start, self._dim))
        return rows.astype(np.float32)


def search_corpus(
    queries: np.ndarray, passages: Mapping[str, str], encoder: Encodes, depth: int, progress: Tick | None = None
) -> Hits:
    """The `depth` best passages for each query vector (n, dim), found exactly in one pass over the corpus.

    No index is built. Memory holds one block of embeddings and the best hits so far, for any size of corpus.
    """
    depth = min(depth, len(passages))
    return _hits(list(passages), *_best(queries, _blocks(passages, encoder, progress), depth))


def _hits(doc_ids: Sequence[str], scores: np.ndarray, places: np.ndarray) -> Hits:
    """Name the places. An approximate index has -1 for a place that it did not fill."""
    return [
        [(doc_ids[p], s) for p, s in zip(row_p, row_s, strict=True) if p >= 0]
        for row_p, row_s in zip(places.tolist(), scores.tolist(), strict=True)
    ]


def _best(queries: np.ndarray, blocks: Iterable[np.ndarray], depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores and places of the `depth` best rows of all `blocks` for each query, both (n, depth)."""
    import faiss

    best = np.zeros((len(queries), 0), np.float32)
    places = np.zeros((len(queries), 0), np.int64)
    start = 0
    for block in blocks:
        scores, rows = faiss.knn(
            np.ascontiguousarray(queries, np.float32), block, min(depth, len(block)), metric=faiss.METRIC_INNER_PRODUCT
        )
        best, places = np.hstack([best, scores]), np.hstack([places, rows.astype(np.int64) + start])
        order = np.argsort(-best, axis=1, kind="stable")[:, :depth]
        best, places = np.take_along_axis(best, order, 1), np.take_along_axis(places, order, 1)
        start += len(block)
    return best, places


def _blocks(
    passages: Mapping[str, str], encoder: Encodes, progress: Tick | None, size: int | None = None
) -> Iterator[np.ndarray]:
    """Yield the embeddings of a corpus in its order, in arrays of up to (size, dim) float32; None is _BLOCK."""
    texts, size = iter(passages.values()), size or _BLOCK
    for start in range(0, len(passages), size):

        def say(done: int, _: int, start: int = start) -> None:
            """Count the passages of earlier blocks, too."""
            if progress:
                progress(start + done, len(passages))

        yield np.ascontiguousarray(encoder.encode(list(islice(texts, size)), "passage", say), np.float32)


def _index(factory: str, sample: np.ndarray) -> Any:
    """An empty faiss index, trained on `sample` (n, dim) if its kind needs training."""
    import faiss

    try:
        index: Any = faiss.index_factory(sample.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise ConfigError(
            f"mine.index {factory!r}: faiss knows no such index",
            todo="use a faiss factory string, such as Flat, SQfp16, IVF1024,SQfp16 or HNSW32",
        ) from error
    try:
        index.train(sample)
    except RuntimeError as error:
        raise ConfigError(
            f"mine.index {factory!r} cannot be trained on {len(sample)} passages",
            todo="use an index with fewer cells, or Flat",
        ) from error
    if hasattr(index, "nprobe"):
        index.nprobe = max(1, index.nlist // _PROBED)
    return index


class LexicalIndex:
    """BM25 over the terms of `syneg.core.text`: words, and pairs of characters in scripts without spaces.

    Single small letters of a passage are dropped, and single capitals kept, as in "vitamin D" and "R". Small ones
    mostly come from formulas and make a passage count as too long (docs/lab_notes.md, "BM25 and single letters").
    """

    def __init__(self, passages: Mapping[str, str]) -> None:
        from .bm25 import Bm25, TermCounts

        self.doc_ids = list(passages)
        self._index, counts = Bm25(), TermCounts()
        texts = iter(passages.values())
        while block := [_passage_terms(text) for text in islice(texts, _COUNTED)]:
            counts.add(block)
        self._index.index(counts, show_progress=False)

    def search(self, queries: Sequence[str], depth: int) -> Hits:
        """The `depth` best passages for each query, as (doc_id, BM25) by descending score, then by id.

        Passages that share no term with the query are left out.
        """
        if not queries:
            return []
        # bm25s refuses an empty query
        words = [_terms(query) or ["\0"] for query in queries]
        places, scores = self._index.retrieve(words, k=min(depth, len(self.doc_ids)), show_progress=False, n_threads=1)
        return [
            sorted(
                ((self.doc_ids[int(p)], float(s)) for p, s in zip(row_p, row_s, strict=True) if s > 0),
                key=lambda hit: (-hit[1], hit[0]),
            )
            for row_p, row_s in zip(places, scores, strict=True)
        ]


def _terms(text: str) -> list[str]:
    """The terms of a text without stop words."""
    return [term for term in terms(text) if term not in _STOP]


def _passage_terms(text: str) -> list[str]:
    """The terms of a passage, without stop words and single small letters.

    >>> _passage_terms("The force f on a wing: see R and C++")
    ['force', 'wing', 'see', 'r', 'c++']
    """
    return _terms(_SMALL_LETTER.sub(" ", text if text.isascii() else unicodedata.normalize("NFC", text)))
