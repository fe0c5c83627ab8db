"""Rows as numbers: which text stands at which place, and which texts are relevant to which row.

    numbers = RowNumbers(rows, relevant)      3 rows of a positive and 2 negatives each
    numbers.texts                             [[0 1 2] [3 4 5] [0 6 1]]: rows 0 and 2 have the same positive
    numbers.known_places([0, 2], [0, 0, 1])   → ([0 0 1 1], [0 1 0 1]): both positives are known to both rows

Texts are the same where their normalised forms are. Finding the known texts of a batch sorts its candidates once: 0.002
s for 1,024 rows against 32,768 candidates (docs/lab_notes.md, "the mask of known positives").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from syneg.core.records import Instance
from syneg.core.text import normalise


class RowNumbers:
    """`texts` (rows, 1 + negatives): the number of the positive, then of each negative. `sources` (rows, 1 + negatives)
    are places in `source_names`; `weights` (rows, 1 + negatives) are those of the softmax, 0 for padding."""

    def __init__(self, rows: Sequence[Instance], relevant: Mapping[str, Iterable[str]]) -> None:
        self._of_raw: dict[str, int] = {}
        self._of_text: dict[str, int] = {}
        self.texts = np.array([[self.of(t) for t in (row.pair.positive, *row.negatives)] for row in rows], np.int64)
        self.count = len(self._of_text)
        self.source_names = ["positive", *dict.fromkeys(source for row in rows for source in row.sources)]
        code = {name: i for i, name in enumerate(self.source_names)}
        self.sources = np.array([[0, *(code[source] for source in row.sources)] for row in rows], np.int64)
        self.weights = np.array([[1.0, *row.weights] for row in rows], np.float32)
        # rows of one query, in this epoch and the next, share what is known of it
        groups: dict[tuple[str, int], np.ndarray] = {}
        of_query: dict[str, list[int]] = {}
        for row, own in zip(rows, self.texts[:, 0].tolist(), strict=True):
            query_id = row.pair.query_id
            if query_id not in of_query:
                of_query[query_id] = [self.of(text) for text in relevant.get(query_id, ())]
            groups.setdefault((query_id, own), np.unique([own, *of_query[query_id]]))
        self._known = [groups[row.pair.query_id, own] for row, own in zip(rows, self.texts[:, 0].tolist(), strict=True)]

    def of(self, text: str) -> int:
        """The number of a text."""
        if text not in self._of_raw:
            self._of_raw[text] = self._of_text.setdefault(normalise(text), len(self._of_text))
        return self._of_raw[text]

    def known_places(self, rows: Sequence[int], candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where known texts stand: `candidates[j]` (text numbers) is relevant to `rows[i]`, for each pair (i, j)."""
        by_number = np.argsort(candidates, kind="stable")
        ordered = candidates[by_number]
        known = [self._known[row] for row in rows]
        texts = np.concatenate(known) if known else np.zeros(0, np.int64)
        owners = np.repeat(np.arange(len(known)), [len(numbers) for numbers in known])
        # the candidates with one number are a range of the sorted ones: spread each range out
        first = np.searchsorted(ordered, texts, "left")
        hits = np.searchsorted(ordered, texts, "right") - first
        within = np.arange(hits.sum()) - np.repeat(np.cumsum(hits) - hits, hits)
        return np.repeat(owners, hits), by_number[np.repeat(first, hits) + within]
