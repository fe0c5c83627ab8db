"""Compute nDCG@10, MRR@10 and recall@100 per query, and paired tests, with ranx. No other module imports ranx.

    evaluate({"q1": {"d3": 1}}, {"q1": {"d3": .9, "d1": .4}}) → {"ndcg@10": {"q1": 1.0}, "mrr@10": {"q1": 1.0}, …}

A lock allows one call of ranx at a time: its numba code aborts the process if two Python threads call it. ranx breaks
ties by insertion order, so they are broken by doc_id before ranx gets a ranking.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from syneg.core.storage import write_text

METRICS = ("ndcg@10", "mrr@10", "recall@100")
MAIN_METRIC = METRICS[0]

_STEPS = 1000  # factor for fractional grades: ranx takes whole grades, and scaling all grades leaves nDCG unchanged
Ranking = Mapping[str, Mapping[str, float]]
Qrels = Mapping[str, Mapping[str, float]]
PerQuery = dict[str, dict[str, float]]

_lock = threading.Lock()


def evaluate(qrels: Qrels, ranking: Ranking, metrics: Sequence[str] = METRICS, min_relevance: float = 1.0) -> PerQuery:
    """Values `[metric][query_id]`, 0 to 1, for the queries of `ranking`.

    nDCG uses every grade over 0 as judged. For the other metrics a passage is relevant if its grade is at least
    `min_relevance`. A query with an empty ranking, or without a relevant passage, counts 0.
    """
    groups: list[tuple[dict[str, dict[str, int]], list[str]]] = []  # metrics that take the same judgements
    for metric in metrics:
        lowest = 0.0 if metric.startswith("ndcg") else min_relevance
        judged = {q: _judged(qrels, q, lowest) for q in ranking}
        names = next((names for known, names in groups if known == judged), None)
        if names is None:
            groups.append((judged, [metric]))
        else:
            names.append(metric)
    values: PerQuery = {}
    for judged, names in groups:
        values |= _evaluated(judged, ranking, names)
    return {metric: values[metric] for metric in metrics}


def _evaluated(judged: Mapping[str, Mapping[str, int]], ranking: Ranking, metrics: Sequence[str]) -> PerQuery:
    """metric → query_id → value; 0 for a query without results or without relevant passages."""
    import ranx

    ids = sorted(ranking)
    values = {metric: dict.fromkeys(ids, 0.0) for metric in metrics}
    scorable = [query_id for query_id in ids if ranking[query_id] and judged[query_id]]
    if scorable:
        known, run = _for_ranx(judged, ranking, scorable)
        with _lock:
            # twice the first metric: given arrays, ranx 0.3 fails for a single one
            scores = ranx.evaluate(known, run, [metrics[0], *metrics], return_mean=False)
        for metric, found in scores.items():
            values[metric].update(zip(scorable, found.tolist(), strict=True))
    return values


def _judged(qrels: Qrels, query_id: str, lowest: float) -> dict[str, int]:
    """Whole grades of a query for ranx: the grades over 0 that reach `lowest`. If `lowest` is over 0 they all become 1.

    >>> _judged({"q": {"a": 2, "b": 1, "c": 0}}, "q", 0), _judged({"q": {"a": 2, "b": 1, "c": 0}}, "q", 2)
    ({'a': 2, 'b': 1}, {'a': 1})
    """
    kept = {doc_id: grade for doc_id, grade in qrels.get(query_id, {}).items() if grade > 0 and grade >= lowest}
    if lowest:
        return dict.fromkeys(kept, 1)
    whole = all(float(grade).is_integer() for grade in kept.values())
    return {doc_id: round(grade * (1 if whole else _STEPS)) for doc_id, grade in kept.items()}


def _for_ranx(
    judged: Mapping[str, Mapping[str, int]], ranking: Ranking, queries: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Judgements (queries, most judged, 2) and ranking (queries, depth, 1) as ranx takes them, int64.

    A passage is known by its place in the ranking, or by a higher number if it is not ranked. Judgements hold (passage,
    grade), the highest grade first. Shorter rows are padded with passage -1 of grade 0. Of ranx's forms of input, numba
    compiles arrays fastest: 24 s of a core after an installation, where `Qrels` and `Run` take 77.
    """
    known = np.full((len(queries), max(len(judged[q]) for q in queries), 2), (-1, 0), np.int64)
    run = np.full((len(queries), max(len(ranking[q]) for q in queries), 1), -1, np.int64)
    for row, query_id in enumerate(queries):
        places = {doc_id: place for place, doc_id in enumerate(tie_broken(ranking[query_id]))}
        run[row, : len(places), 0] = np.arange(len(places))
        grades = sorted(judged[query_id].items(), key=lambda item: -item[1])
        for place, (doc_id, grade) in enumerate(grades):
            known[row, place] = places.setdefault(doc_id, len(places)), grade
    return known, run


def without_own(
    hits: Mapping[str, Sequence[tuple[str, float]]], qrels: Qrels, depth: int
) -> dict[str, dict[str, float]]:
    """The first `depth` hits of each query, without an unjudged passage that has the query's own id.

    BEIR does the same: in ArguAna each query is also a passage with the same id. Pass `depth` + 1 hits per query.
    """
    return {
        query_id: dict([(d, score) for d, score in ranked if d != query_id or d in qrels[query_id]][:depth])
        for query_id, ranked in hits.items()
    }


def mean(values: Mapping[str, float]) -> float:
    """Mean of values over queries; 0 for no queries."""
    return float(np.mean(list(values.values()))) if values else 0.0


def mean_and_error(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """The mean of values and its standard error; 0 for no values, and an error of 0 for a single one."""
    if len(values) == 0:
        return 0.0, 0.0
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
    return float(np.mean(values)), error


def compare(qrels: Qrels, runs: Mapping[str, Ranking], metric: str = MAIN_METRIC) -> dict[tuple[str, str], float]:
    """Two-sided paired Student's t-test over queries, by ranx: (arm, arm) → p-value without correction.

    Only queries that all `runs` share are compared. `metric` must use grades as judged (nDCG). With under two such
    queries every p-value is 1.
    """
    from ranx.statistical_tests import paired_student_t_test

    names = list(runs)
    queries = sorted(q for q in set.intersection(*(set(run) for run in runs.values())) if _judged(qrels, q, 0.0))
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    if len(queries) < 2:  # a t-test needs two
        return dict.fromkeys(pairs, 1.0)
    found = {name: evaluate(qrels, run, [metric])[metric] for name, run in runs.items()}
    values = {name: np.array([of[query_id] for query_id in queries]) for name, of in found.items()}
    # ranx returns nan if two runs are equal on every query
    return {(a, b): float(np.nan_to_num(paired_student_t_test(values[a], values[b])[0], nan=1.0)) for a, b in pairs}


def holm(p_values: Mapping[Any, float]) -> dict[Any, float]:
    """Adjust p-values for several comparisons by Holm's step-down method (Holm 1979).

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'c': 0.06, 'b': 0.06}
    """
    adjusted: dict[Any, float] = {}
    highest = 0.0
    for place, (key, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        highest = max(highest, min(1.0, p * (len(p_values) - place)))
        adjusted[key] = highest
    return adjusted


def tie_broken(scores: Mapping[str, float]) -> dict[str, float]:
    """Sort by descending score, then doc_id, and lower tied scores slightly, so that every tool ranks alike."""
    ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    values = np.array([score for _, score in ranked], np.float32)  # as trec_eval reads them
    for place in np.flatnonzero(values[1:] >= values[:-1]) + 1:
        # lowering one score may bring it level with the next ones
        while 0 < place < len(values) and values[place] >= values[place - 1]:
            values[place] = np.nextafter(values[place - 1], np.float32(-np.inf))
            place += 1
    return dict(zip((doc_id for doc_id, _ in ranked), values.tolist(), strict=True))


def write_trec(path: Path, ranking: Ranking, tag: str) -> None:
    """Write a TREC run file with lines "query_id Q0 doc_id rank score tag".

    White space separates its columns, so white space inside an id is percent-encoded, as are control characters.
    `urllib.parse.unquote` restores the id.
    """
    lines = []
    for query_id in sorted(ranking):
        for rank, (doc_id, score) in enumerate(tie_broken(ranking[query_id]).items(), 1):
            lines.append(f"{_word(query_id)} Q0 {_word(doc_id)} {rank} {score!r} {tag}\n")
    write_text(path, "".join(lines))


def _word(key: str) -> str:
    """Percent-encode white space and control characters in an id; different ids stay different.

    >>> _word("doc a"), _word("doc%20a"), _word("100%")
    ('doc%20a', 'doc%2520a', '100%')
    """
    return re.sub(r"[\s\x00-\x1f\x7f-\x9f]|%(?=[0-9A-Fa-f]{2})", lambda match: quote(match.group(), safe=""), key)
