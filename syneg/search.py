"""Two retrievers over one corpus: exact dense search (faiss) and BM25 (bm25s, Lù 2024, arXiv 2407.03618).

    DenseIndex(doc_ids, embeddings).search(query_embeddings, 100) → [["d7", "d3", …], …], scores (n_queries, 100)
    LexicalIndex(passages).search(["close a socket"], 50)         → [["d3", …]]

Dense search is exact: one dot product per passage. BM25 leaves out passages that share no word with the query.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

Hits = list[list[tuple[str, float]]]

# Fox's and van Rijsbergen's lists agree on these; kept short so that no topic word is lost.
_STOP = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "but",
        "by",
        "for",
        "from",
        "has",
        "have",
        "if",
        "in",
        "into",
        "is",
        "it",
        "its",
        "no",
        "not",
        "of",
        "on",
        "or",
        "such",
        "that",
        "the",
        "their",
        "then",
        "there",
        "these",
        "they",
        "this",
        "to",
        "was",
        "were",
        "will",
        "with",
        "which",
        "what",
        "who",
        "how",
        "when",
        "where",
        "why",
        "do",
        "does",
        "can",
    ]
)


class DenseIndex:
    """Inner product over rows of length 1, so scores are cosines."""

    def __init__(self, doc_ids: Sequence[str], vectors: np.ndarray) -> None:
        import faiss

        self.doc_ids = list(doc_ids)
        self._index = faiss.IndexFlatIP(vectors.shape[1])
        self._index.add(np.ascontiguousarray(vectors, dtype=np.float32))

    def search(self, vectors: np.ndarray, depth: int) -> Hits:
        """The `depth` best passages of each query, best first, as (doc_id, cosine)."""
        if not len(vectors):
            return []
        scores, places = self._index.search(
            np.ascontiguousarray(vectors, dtype=np.float32), min(depth, len(self.doc_ids))
        )
        return [
            [(self.doc_ids[p], float(s)) for p, s in zip(row_p, row_s, strict=True) if p >= 0]
            for row_p, row_s in zip(places, scores, strict=True)
        ]


class LexicalIndex:
    """BM25 over words of two letters and more, folded to lower case."""

    def __init__(self, passages: dict[str, str]) -> None:
        import bm25s

        self.doc_ids = list(passages)
        self._index = bm25s.BM25()
        tokens = [_words(text) for text in passages.values()]
        if not any(tokens):
            tokens = [["\0"], *tokens[1:]]  # bm25s needs one word in the corpus
        self._index.index(tokens, show_progress=False)

    def search(self, queries: Sequence[str], depth: int) -> Hits:
        """The `depth` best passages of each query, best first, as (doc_id, BM25); only those with a shared word."""
        if not queries:
            return []
        # an empty query would be refused; no passage holds this word
        words = [_words(query) or ["\0"] for query in queries]
        places, scores = self._index.retrieve(words, k=min(depth, len(self.doc_ids)), show_progress=False, n_threads=1)
        return [
            sorted(
                ((self.doc_ids[int(p)], float(s)) for p, s in zip(row_p, row_s, strict=True) if s > 0),
                key=lambda hit: (-hit[1], hit[0]),
            )
            for row_p, row_s in zip(places, scores, strict=True)
        ]


def _words(text: str) -> list[str]:
    return [word for word in re.findall(r"\w\w+", text.casefold()) if word not in _STOP]
