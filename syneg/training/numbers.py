"""Number the texts of all rows, and find which texts of a batch are relevant to which row.

    numbers = RowNumbers(rows, relevant)      3 rows of a positive and 2 negatives each
    numbers.texts                             [[0 1 2] [3 4 5] [0 6 1]]: rows 0 and 2 have the same positive
    numbers.known_places([0, 2], [0, 0, 1])   → ([0 0 1 1], [0 1 0 1]): text 0, at places 0 and 1, is relevant to both

Two texts are the same if their normalised forms are equal. Finding the relevant texts of a batch takes one sort of its
candidates: 0.002 s for 1,024 rows and 32,768 candidates (docs/lab_notes.md, "the mask of known positives").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from syneg.core.records import Instance
from syneg.core.text import normalise


class RowNumbers:
    """Three arrays of shape (rows, 1 + negatives), the positive of each row first.

    `texts` holds numbers of texts, `sources` places in `source_names`, and `weights` the weights in the softmax: 1 for
    a positive, 0 for padding.
    """

    def __init__(self, rows: Sequence[Instance], relevant: Mapping[str, Iterable[str]]) -> None:
        self._of_raw: dict[str, int] = {}
        self._of_text: dict[str, int] = {}
        self.texts = np.array([[self.of(t) for t in (row.pair.positive, *row.negatives)] for row in rows], np.int64)
        self.count = len(self._of_text)
        self.source_names = ["positive", *dict.fromkeys(source for row in rows for source in row.sources)]
        code = {name: i for i, name in enumerate(self.source_names)}
        self.sources = np.array([[0, *(code[source] for source in row.sources)] for row in rows], np.int64)
        self.weights = np.array([[1.0, *row.weights] for row in rows], np.float32)
        # rows with the same query and positive, in all epochs, share one array of their relevant texts' numbers
        groups: dict[tuple[str, int], np.ndarray] = {}
        of_query: dict[str, list[int]] = {}
        for row, own in zip(rows, self.texts[:, 0].tolist(), strict=True):
            query_id = row.pair.query_id
            if query_id not in of_query:
                of_query[query_id] = [self.of(text) for text in relevant.get(query_id, ())]
            groups.setdefault((query_id, own), np.unique([own, *of_query[query_id]]))
        self._known = [groups[row.pair.query_id, own] for row, own in zip(rows, self.texts[:, 0].tolist(), strict=True)]

    def of(self, text: str) -> int:
        """The number of a text; a text not seen before gets the next one."""
        if text not in self._of_raw:
            self._of_raw[text] = self._of_text.setdefault(normalise(text), len(self._of_text))
        return self._of_raw[text]

    def known_places(self, rows: Sequence[int], candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Arrays i and j of all pairs for which `candidates[j]`, the number of a text, is relevant to `rows[i]`."""
        by_number = np.argsort(candidates, kind="stable")
        ordered = candidates[by_number]
        # all relevant texts of all rows in one array, each with the row that owns it
        known = [self._known[row] for row in rows]
        texts = np.concatenate(known) if known else np.zeros(0, np.int64)
        owners = np.repeat(np.arange(len(known)), [len(numbers) for numbers in known])
        # candidates with the same number are one range of the sorted array: write out the places of each range
        first = np.searchsorted(ordered, texts, "left")
        hits = np.searchsorted(ordered, texts, "right") - first
        within = np.arange(hits.sum()) - np.repeat(np.cumsum(hits) - hits, hits)
        return np.repeat(owners, hits), by_number[np.repeat(first, hits) + within]
