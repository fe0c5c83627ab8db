"""nDCG@10 of BM25 with several definitions of a word. Nothing is trained.

    python benchmarks/bm25_terms.py --dataset beir/scifact --dataset vaswani --dataset path/to/cranfield
      → beir/scifact | every term | .6688 | +.0030 ± .0037 | 86 queries changed

Differences are to words of at least two letters, with a 95 % interval over queries. All judged queries are used.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import click
import numpy as np

from syneg.core.config import CollectionConfig
from syneg.core.text import terms
from syneg.data.collection import load_collection
from syneg.retrieval import indexes
from syneg.retrieval.metrics import MAIN_METRIC, evaluate, mean, without_own

_DEPTH = 100
Terms = Callable[[str], list[str]]


def _two_letters(text: str) -> list[str]:
    return re.findall(r"\w\w+", text.casefold())


def _no_letters(text: str) -> list[str]:
    return [term for term in terms(text) if not (len(term) == 1 and term.isascii() and term.isalpha())]


def _no_characters(text: str) -> list[str]:
    return [term for term in terms(text) if len(term) > 1]


def _more_stop_words(text: str) -> list[str]:
    return [term for term in terms(text) if term not in ("i", "e", "g")]


# name → terms of passages and of queries
WAYS: dict[str, tuple[Terms, Terms]] = {
    "words of two letters and more": (_two_letters, _two_letters),
    "every term": (terms, terms),
    "every term but single letters": (_no_letters, _no_letters),
    "every term of more than one character": (_no_characters, _no_characters),
    "every term, i, e and g as stop words": (_more_stop_words, _more_stop_words),
    "as LexicalIndex does": (indexes._passage_terms, terms),
}


def values(dataset: str, way: tuple[Terms, Terms]) -> dict[str, float]:
    """nDCG@10 of every judged query."""
    collection = load_collection(CollectionConfig(dataset=dataset, divide_test=True, max_bad_rows=0.1))
    query_ids = [query_id for ids in collection.splits.values() for query_id in ids]
    of_passages, of_queries = (_without_stop_words(part) for part in way)
    kept = indexes._passage_terms, indexes._terms
    indexes._passage_terms, indexes._terms = of_passages, of_queries  # type: ignore[assignment]
    try:
        index = indexes.LexicalIndex(collection.passages)
        hits = index.search([collection.queries[query_id] for query_id in query_ids], _DEPTH + 1)
    finally:
        indexes._passage_terms, indexes._terms = kept
    ranking = without_own(dict(zip(query_ids, hits, strict=True)), collection.qrels, _DEPTH)
    return evaluate(collection.qrels, ranking, [MAIN_METRIC])[MAIN_METRIC]


def _without_stop_words(way: Terms) -> Terms:
    return lambda text: [term for term in way(text) if term not in indexes._STOP]


@click.command()
@click.option("--dataset", "datasets", multiple=True, required=True, help="an ir_datasets id or a folder; repeatable")
def main(datasets: tuple[str, ...]) -> None:
    for dataset in datasets:
        first: dict[str, float] | None = None
        for name, way in WAYS.items():
            found = values(dataset, way)
            first = found if first is None else first
            change = np.array([found[query_id] - first[query_id] for query_id in found])
            error = 1.96 * change.std(ddof=1) / len(change) ** 0.5
            print(
                f"{dataset} | {name} | {mean(found):.4f} | {change.mean():+.4f} ± {error:.4f} | "
                f"{int((abs(change) > 1e-9).sum())} of {len(change)} queries changed"
            )


if __name__ == "__main__":
    main()
