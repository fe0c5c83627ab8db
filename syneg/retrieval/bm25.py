"""Fill an index of bm25s (Lù 2024, arXiv 2407.03618) block by block, for corpora whose words do not fit in memory.

    counts = TermCounts()
    counts.add([["pump", "valve", "pump"], ["seal"]])      passage 0 has "pump" twice and "valve" once
    index = Bm25()
    index.index(counts)

bm25s keeps the words of all passages as lists of Python objects, and counts them passage by passage. Here numpy counts
the words of a block, and a file holds the counts until the scores are computed. The scores are those of bm25s.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
from bm25s import BM25

from syneg.core.storage import nameless_file


class TermCounts:
    """How often each passage has each word: the corpus that `Bm25.index` takes.

    `vocab` numbers the words, so that memory holds each different word once. `frequencies` (words,) says in how many
    passages each one is.
    """

    def __init__(self) -> None:
        self.vocab = {"\0": 0}  # bm25s needs one word, and no passage contains this one
        self.frequencies = np.zeros(1, np.int64)
        self._lengths: list[np.ndarray] = []
        self._file = nameless_file()
        weakref.finalize(self, self._file.close)

    def __len__(self) -> int:
        return sum(map(len, self._lengths))

    @property
    def ids(self) -> TermCounts:
        """What bm25s hands on to `Bm25.build_index_from_ids`."""
        return self

    @property
    def lengths(self) -> np.ndarray:
        """(passages,): words in each passage."""
        return np.concatenate(self._lengths)

    def add(self, passages: Sequence[Sequence[str]]) -> None:
        """Count the words of the next passages."""
        number = self.vocab.setdefault
        first, lengths = len(self), np.array([len(words) for words in passages], np.int64)
        numbers = (number(word, len(self.vocab)) for word in chain.from_iterable(passages))
        flat = np.fromiter(numbers, np.int64, int(lengths.sum()))
        pairs = flat * len(passages) + np.repeat(np.arange(len(passages)), lengths)
        pairs, counts = np.unique(pairs, return_counts=True)  # by word, then by passage
        words, places = np.divmod(pairs, len(passages))
        for array in (words, places + first, counts):
            np.save(self._file, array.astype(np.int32), allow_pickle=False)
        here = np.bincount(words, minlength=len(self.frequencies))
        here[: len(self.frequencies)] += self.frequencies
        self.frequencies = here
        self._lengths.append(lengths)

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield words, passages and counts of each block, (n,) int32 each, by word, then by passage."""
        self._file.seek(0)
        for _ in self._lengths:
            words, places, counts = (np.load(self._file, allow_pickle=False) for _ in range(3))
            yield words, places, counts


class Bm25(BM25):
    """The index of bm25s with Lucene's scores, made from `TermCounts`."""

    def build_index_from_ids(
        self, unique_token_ids: Any, corpus_token_ids: TermCounts, *_: Any, **__: Any
    ) -> dict[str, Any]:
        """The scores as a sparse matrix (passages, words) by columns; bm25s calls it with words and their counts."""
        counts, number, lengths = corpus_token_ids, len(corpus_token_ids), corpus_token_ids.lengths
        idf = np.array([math.log(1 + (number - n + 0.5) / (n + 0.5)) for n in counts.frequencies], np.float32)
        norms = self.k1 * ((1 - self.b) + self.b * lengths / (lengths.mean() or 1.0))
        ends = np.concatenate([[0], np.cumsum(counts.frequencies)])
        data, indices = np.empty(ends[-1], np.float32), np.empty(ends[-1], np.int32)
        filled = ends[:-1].copy()  # for each word, where its next passage goes
        for words, places, times in counts.blocks():
            own, starts, sizes = np.unique(words, return_index=True, return_counts=True)
            targets = np.arange(len(words)) + np.repeat(filled[own] - starts, sizes)
            times = times.astype(np.float32)
            data[targets] = idf[words] * (times / (norms[places] + times))
            indices[targets] = places
            filled[own] += sizes
        self.nonoccurrence_array = None
        return {"data": data, "indices": indices, "indptr": ends, "num_docs": number}
