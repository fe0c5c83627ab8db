"""A race: losers stop, ties keep the first, and luck on one half is no win."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from syneg.optimizers.racing import SURE, Race, fold_of, race

QUERIES = [f"q{i}" for i in range(200)]
PerQuery = dict[str, dict[str, float]]


def noisy(gains: dict[str, float], noise: float = 0.1, calls: list[tuple[str, int]] | None = None) -> Callable[
    [str, int], PerQuery
]:  # fmt: skip
    """Candidates that gain so much on average, each query with noise of its own."""

    def measure(name: str, block: int) -> PerQuery:
        if calls is not None:
            calls.append((name, block))
        draw = random.Random(f"{name}:{block}")
        return {"ndcg@10": {q: 0.5 + gains[name] + draw.gauss(0, noise) for q in QUERIES}}

    return measure


def of(raced: Race, name: str) -> float:
    return next(row.gain for row in raced.standings if row.name == name)


def test_the_better_one_wins_and_the_worse_one_stops() -> None:
    calls: list[tuple[str, int]] = []
    raced = race(["rule", "worse", "better"], 3, noisy({"rule": 0, "worse": -0.1, "better": 0.05}, calls=calls))
    assert (raced.winner, raced.best) == ("better", "better")
    assert ("worse", 0) in calls and ("worse", 1) not in calls
    assert ("rule", 2) in calls  # the first one is measured to the end
    assert raced.measurements == len(calls) == 7
    assert next(row for row in raced.standings if row.name == "worse").stopped
    assert of(raced, "better") == pytest.approx(0.05, abs=0.02)


def test_where_nothing_is_told_the_first_one_stays() -> None:
    raced = race(["rule", "a", "b", "c"], 2, noisy({"rule": 0, "a": 0.004, "b": -0.002, "c": 0.001}))
    assert raced.winner == "rule"
    assert "not sure" in raced.why or "nothing is worth more" in raced.why


def test_a_gain_on_both_halves_within_the_noise_is_not_chosen() -> None:
    sign = dict.fromkeys(QUERIES, 1)
    for half in (0, 1):
        sign |= {q: (-1) ** place for place, q in enumerate(q for q in QUERIES if fold_of(q, 2) == half)}
    raced = race(
        ["rule", "lucky"],
        1,
        lambda name, _: {"ndcg@10": {q: (0.006 + 0.1 * sign[q]) * (name == "lucky") for q in QUERIES}},
    )
    assert raced.best == "lucky" and raced.cross is not None and raced.cross > 0
    assert raced.standings[1].sure < SURE
    assert raced.winner == "rule" and raced.why.startswith("not sure")


def test_a_rival_behind_the_first_stops_though_nothing_is_sure() -> None:
    calls: list[tuple[str, int]] = []
    gains = {"rule": 0.0, "behind": -0.012, "ahead": 0.02}
    raced = race(list(gains), 2, noisy(gains, calls=calls))
    behind, ahead = raced.standings[1:]
    assert 0.05 < behind.sure < 0.5 and behind.stopped  # not surely behind, but what would win is far off
    assert ("behind", 1) not in calls and ("ahead", 1) in calls and not ahead.stopped
    assert raced.measurements == 5


def test_the_race_ends_when_all_rivals_have_lost() -> None:
    calls: list[tuple[str, int]] = []
    raced = race(["rule", "a", "b"], 5, noisy({"rule": 0, "a": -0.2, "b": -0.3}, calls=calls))
    assert (raced.winner, len(calls)) == ("rule", 3)
    assert raced.why == "nothing is worth more than rule"


def test_what_gains_on_one_half_only_is_not_chosen() -> None:
    def measure(name: str, block: int) -> PerQuery:
        lucky = {q: 0.5 + (0.3 if fold_of(q, 2) else -0.05) * (name == "lucky") for q in QUERIES}
        return {"ndcg@10": lucky}

    raced = race(["rule", "lucky"], 1, measure)
    assert raced.best == "lucky" and of(raced, "lucky") > 0.05  # over all queries it looks better
    assert raced.cross is not None and raced.cross < 0
    assert raced.winner == "rule"


def test_a_gain_of_one_block_is_not_chosen() -> None:
    def measure(name: str, block: int) -> PerQuery:
        draw = random.Random(f"{name}:{block}")
        gain = {"rule": 0.0, "lucky": 0.08 if block == 0 else -0.06}[name]
        return {"ndcg@10": {q: 0.5 + gain + draw.gauss(0, 0.02) for q in QUERIES}}

    raced = race(["rule", "lucky"], 2, measure)
    assert raced.best == "lucky"
    assert raced.cross is not None and raced.cross < 0
    assert raced.winner == "rule"


@pytest.mark.parametrize(("loss", "winner"), [(0.002, "better"), (0.02, "rule")])
def test_a_loss_within_its_error_on_queries_it_was_not_chosen_on_does_not_stop_a_winner(
    loss: float, winner: str
) -> None:
    def measure(name: str, _: int) -> PerQuery:
        better = name == "better"
        ranks = {q: 0.5 + (0.1 * (-1) ** place - loss) * better for place, q in enumerate(QUERIES)}
        return {"ndcg@10": ranks, "likelihood": dict.fromkeys(QUERIES, 0.1 * better)}

    raced = race(["rule", "better"], 2, measure, lambda gains: gains["likelihood"])
    assert raced.cross is not None and raced.cross < 0
    assert raced.winner == winner


def test_worth_joins_metrics() -> None:
    def measure(name: str, block: int) -> PerQuery:
        draw = random.Random(f"{name}:{block}")
        better = name == "sharp"
        return {
            "ndcg@10": {q: 0.5 + draw.gauss(0, 0.1) + 0.01 * better for q in QUERIES},
            "likelihood": {q: -1 + draw.gauss(0, 0.1) + 0.2 * better for q in QUERIES},
        }

    alone = race(["rule", "sharp"], 1, measure)
    joined = race(["rule", "sharp"], 1, measure, lambda gains: np.tanh(gains["ndcg@10"]) + np.tanh(gains["likelihood"]))
    assert alone.winner == "rule"
    assert joined.winner == "sharp"
    assert joined.standings[1].others["likelihood"][0] == pytest.approx(0.2, abs=0.03)


def test_blocks_of_other_queries_add_up() -> None:
    def measure(name: str, block: int) -> PerQuery:
        draw = random.Random(f"{name}:{block}")
        part = QUERIES[block * 50 : block * 50 + 50]
        return {"ndcg@10": {q: 0.5 + 0.05 * (name == "better") + draw.gauss(0, 0.05) for q in part}}

    raced = race(["rule", "better"], 4, measure)
    assert (raced.queries, raced.winner) == (200, "better")
