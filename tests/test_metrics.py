from __future__ import annotations

import math
import random
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from syneg.retrieval import metrics
from syneg.retrieval.metrics import compare, evaluate, holm, tie_broken, write_trec


def test_values_by_hand() -> None:
    qrels = {"q1": {"a": 1, "b": 1}, "q2": {"a": 1}, "q3": {"a": 1}}
    run = {"q1": {"x": 0.9, "a": 0.8, "b": 0.7}, "q2": {"y": 1.0}, "q3": {}}
    values = evaluate(qrels, run)
    ideal = 1 + 1 / math.log2(3)
    assert values["ndcg@10"]["q1"] == pytest.approx((1 / math.log2(3) + 1 / 2) / ideal)
    assert values["mrr@10"] == {"q1": 0.5, "q2": 0.0, "q3": 0.0}
    assert values["recall@100"] == {"q1": 1.0, "q2": 0.0, "q3": 0.0}


def test_ties_go_by_doc_id_whatever_the_order() -> None:
    assert list(tie_broken({"b": 1.0, "a": 1.0, "c": 2.0})) == ["c", "a", "b"]
    for order in (["a", "b"], ["b", "a"]):
        run = {"q": dict.fromkeys(order, 0.5)}
        assert evaluate({"q": {"b": 1}}, run)["mrr@10"]["q"] == 0.5


def test_scores_that_differ_too_little_for_float32_are_lowered_one_by_one() -> None:
    scores = {"a": 0.5, "b": 0.5, "c": 0.5 - 1e-12, "d": 0.25, "e": float(np.nextafter(np.float32(0.5), np.float32(0)))}
    found = tie_broken(scores)
    assert list(found) == ["a", "b", "c", "e", "d"]
    assert (found["a"], found["d"]) == (0.5, 0.25)
    assert (np.diff(np.array(list(found.values()), np.float32)) < 0).all()
    assert tie_broken({}) == {}


def test_metrics_with_the_same_judgements_share_one_run_of_ranx(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    plain = metrics._for_ranx
    monkeypatch.setattr(metrics, "_for_ranx", lambda *args: [made.append(1), plain(*args)][1])
    evaluate({"q": {"a": 1}}, {"q": {"a": 1.0}})
    assert len(made) == 1
    evaluate({"q": {"a": 3, "b": 1}}, {"q": {"a": 1.0}}, min_relevance=2)
    assert len(made) == 3


def test_p_values_are_those_of_a_paired_t_test() -> None:
    from scipy.stats import ttest_rel

    draw = random.Random(1)
    qrels = {f"q{i}": {f"d{draw.randrange(30)}": 1} for i in range(40)}
    runs = {name: {q: {f"d{j}": draw.random() for j in range(30)} for q in qrels} for name in ("a", "b", "c")}
    p = compare(qrels, runs)
    values = {name: evaluate(qrels, run, ["ndcg@10"])["ndcg@10"] for name, run in runs.items()}
    assert set(p) == {("a", "b"), ("a", "c"), ("b", "c")}
    for (a, b), found in p.items():
        expected = ttest_rel([values[a][q] for q in qrels], [values[b][q] for q in qrels]).pvalue
        assert found == pytest.approx(expected, abs=1e-3)


def test_queries_that_cannot_be_scored_count_nothing_and_end_nothing() -> None:
    run = {"q": {"a": 1.0}, "unjudged": {"a": 1.0}, "zero": {"a": 1.0}, "empty": {}}
    values = evaluate({"q": {"a": 1}, "zero": {"a": 0, "b": -1}, "empty": {"a": 1}}, run)
    assert values["mrr@10"] == {"q": 1.0, "unjudged": 0.0, "zero": 0.0, "empty": 0.0}
    assert evaluate({"zero": {"a": 0}}, {"zero": {"a": 1.0}})["ndcg@10"] == {"zero": 0.0}
    assert compare({"q": {"a": 1}}, {"x": {"q": {"a": 1.0}}, "y": {"q": {"b": 1.0}}}) == {("x", "y"): 1.0}
    qrels = {"q": {"a": 1}, "r": {"b": 1}, "s": {"a": 0}}
    runs = {"x": {"q": {"a": 1.0}, "r": {}, "s": {}}, "y": {"q": {}, "r": {}, "s": {}}}
    assert 0 < compare(qrels, runs)[("x", "y")] <= 1


def test_ids_with_white_space_stay_apart_in_a_trec_file(tmp_path: Path) -> None:
    ids = ["doc a", "doc_a", "doc  a", "doc\ta", "doc%20a", "100%", "doc\u3000a"]
    write_trec(tmp_path / "run.trec", {"query 1": dict.fromkeys(ids, 0.1)}, "tag")
    rows = [line.split() for line in (tmp_path / "run.trec").read_text().splitlines()]
    assert all(len(row) == 6 for row in rows)
    assert {unquote(row[0]) for row in rows} == {"query 1"}
    assert sorted(unquote(row[2]) for row in rows) == sorted(ids)
    scores = np.array([row[4] for row in rows], np.float32)  # as trec_eval reads them
    assert (np.diff(scores) < 0).all()


def test_rankings_and_judgements_of_any_length_are_scored_by_the_formulas() -> None:
    draw = random.Random(2)
    docs = [f"d{i}" for i in range(300)]
    qrels = {f"q{i}": {d: draw.randint(1, 4) for d in draw.sample(docs, draw.randint(1, 150))} for i in range(30)}
    run = {q: {d: draw.random() for d in draw.sample(docs, draw.randint(1, 200))} for q in qrels}
    values = evaluate(qrels, run)
    for query_id, grades in qrels.items():
        ranked = sorted(run[query_id], key=lambda d: -run[query_id][d])
        gains = [grades.get(d, 0) for d in ranked]
        gained, ideal = (
            sum(gain / math.log2(place + 2) for place, gain in enumerate(found[:10]))
            for found in (gains, sorted(grades.values(), reverse=True))
        )
        first = next((1 / (place + 1) for place, gain in enumerate(gains[:10]) if gain), 0)
        assert values["ndcg@10"][query_id] == pytest.approx(gained / ideal)
        assert values["mrr@10"][query_id] == pytest.approx(first)
        assert values["recall@100"][query_id] == pytest.approx(sum(map(bool, gains[:100])) / len(grades))


def test_holm_by_hand() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"b": 1.0, "a": 1.0}


def test_a_trec_run_is_read_back_by_ranx(tmp_path: Path) -> None:
    import ranx

    write_trec(tmp_path / "run.trec", {"q 1": {"d1": 0.25, "d2": 0.25, "d3": 0.75}}, "tag")
    back = ranx.Run.from_file(str(tmp_path / "run.trec"), kind="trec")
    assert list(back.to_dict()["q%201"]) == ["d3", "d1", "d2"]


def test_a_lowest_grade_decides_what_is_relevant_and_leaves_the_gains_of_ndcg() -> None:
    qrels = {"q": {"a": 3, "b": 1, "c": 0}}
    run = {"q": {"b": 0.9, "c": 0.8, "a": 0.7}}
    values = evaluate(qrels, run, min_relevance=2)
    gained, ideal = 1 + 3 / 2, 3 + 1 / math.log2(3)
    assert values["ndcg@10"]["q"] == pytest.approx(gained / ideal)
    assert values["mrr@10"]["q"] == pytest.approx(1 / 3) and values["recall@100"]["q"] == 1
    assert evaluate(qrels, run)["mrr@10"]["q"] == 1
    assert evaluate(qrels, {"q": {"b": 1.0}}, min_relevance=2)["recall@100"]["q"] == 0


def test_fractions_are_gains_as_judged() -> None:
    values = evaluate({"q": {"a": 0.75, "b": 0.25}}, {"q": {"b": 0.9, "a": 0.8}}, ["ndcg@10"], min_relevance=0.5)
    assert values["ndcg@10"]["q"] == pytest.approx((0.25 + 0.75 / math.log2(3)) / (0.75 + 0.25 / math.log2(3)))
