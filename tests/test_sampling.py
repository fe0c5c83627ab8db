from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syneg.core.config import MixConfig
from syneg.core.errors import ConfigError
from syneg.core.records import HardNegative, Instance, MinedNegative, Pair
from syneg.training.sampling import ARMS, PADDING, SYNTHETIC, Supply, Weighed, epochs_of, mix

PAIRS = [Pair(f"q{i}", f"query {i}", f"d{i}", f"positive {i}") for i in range(400)]


def mined(count: int) -> dict[str, list[MinedNegative]]:
    return {
        p.query_id: [
            MinedNegative(f"m{j}", f"{p.query_id} mined {j}", ("dense", "bm25")[j % 2], j + 1, 0.1)
            for j in range(count)
        ]
        for p in PAIRS
    }


def written(count: int, weight: float = 1.0) -> dict[str, list[tuple[HardNegative, float]]]:
    return {
        p.query_id: [(HardNegative(f"{p.query_id} synthetic {j}", "p"), weight) for j in range(count)] for p in PAIRS
    }


def test_a_ratio_means_what_it_says() -> None:
    rows = rows_of(PAIRS, mined(9), written(9), arm="hybrid", negatives=7, ratio=0.7, seed=0)
    counts = Counter(row.sources.count(SYNTHETIC) for row in rows)
    assert set(counts) == {2, 3}  # 7 * .7 / 1.7 = 2.88
    assert abs(counts[3] / len(rows) - 0.882) < 0.05


def rows_of(
    pairs: list[Pair],
    mined: dict[str, list[MinedNegative]],
    written: dict[str, list[Weighed]],
    *,
    arm: str,
    seed: int,
    **settings: float,
) -> list[Instance]:
    return mix(Supply(pairs, mined, written), MixConfig(**settings), arm=arm, seed=seed)


@given(
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(1, 8),
    st.floats(0, 5),
    st.integers(0, 5),
    st.sampled_from(sorted(ARMS)),
)
def test_every_row_has_the_same_places_and_drops_nothing(
    have: int, wrote: int, negatives: int, ratio: float, seed: int, arm: str
) -> None:
    rows = rows_of(PAIRS[:20], mined(have), written(wrote), arm=arm, negatives=negatives, ratio=ratio, seed=seed)
    assert [row.pair for row in rows] == PAIRS[:20]
    for row in rows:
        assert len(row.negatives) == len(row.sources) == len(row.weights) == (negatives if arm != "in-batch" else 0)
        assert [w == 0 for w in row.weights] == [s == PADDING for s in row.sources]
        real = [text for text, source in zip(row.negatives, row.sources, strict=True) if source != PADDING]
        assert len(real) == len(set(real))
        if arm in ("mined", "hybrid"):
            assert len(real) >= min(negatives, have)
    assert rows == rows_of(
        PAIRS[:20], mined(have), written(wrote), arm=arm, negatives=negatives, ratio=ratio, seed=seed
    )


def test_arms_share_their_retrieved_negatives() -> None:
    plain = rows_of(PAIRS[:9], mined(9), {}, arm="mined", negatives=3, ratio=0.5, seed=1)
    hybrid = rows_of(PAIRS[:9], mined(9), written(1), arm="hybrid", negatives=3, ratio=0.5, seed=1)
    for a, b in zip(plain, hybrid, strict=True):
        assert b.sources == (SYNTHETIC, *a.sources[:2])
        assert b.negatives[1:] == a.negatives[:2]


def test_hybrid_rows_hold_what_the_base_has() -> None:
    near = {pair.query_id: [MinedNegative(f"{pair.query_id} near", "near", "grounded", 1, 0.5)] for pair in PAIRS}
    supply = Supply(PAIRS, mined(9), written(2), grounded=near)

    def sources(base: str) -> set[tuple[str, ...]]:
        rows = mix(supply, MixConfig(negatives=3, ratio=0.5, base=base), arm="hybrid", seed=0)
        return {tuple("mined" if source in ("dense", "bm25") else source for source in row.sources) for row in rows}

    assert sources("mined") == sources("verified") == {(SYNTHETIC, "mined", "mined")}
    assert sources("grounded") == {(SYNTHETIC, "grounded", "mined")}


def test_ablation_arms_are_what_their_names_say() -> None:
    def sources(arm: str) -> list[set[str]]:
        rows = rows_of(PAIRS, mined(9), written(3), arm=arm, negatives=3, ratio=0.5, seed=0)
        return [set(row.sources) for row in rows]

    assert set(map(frozenset, sources("in-batch"))) == {frozenset()}
    assert set(map(frozenset, sources("bm25"))) == {frozenset({"bm25"})}
    assert set(map(frozenset, sources("synthetic"))) == {frozenset({SYNTHETIC})}
    by_row = sources("dataset-mix")
    assert all(SYNTHETIC not in found or found == {SYNTHETIC} for found in by_row)
    assert abs(sum(found == {SYNTHETIC} for found in by_row) / len(by_row) - 1 / 3) < 0.07
    rows = rows_of(PAIRS, mined(9), written(1), arm="synthetic", negatives=3, ratio=0.5, seed=0)
    assert all(row.sources == (SYNTHETIC, PADDING, PADDING) for row in rows)
    with pytest.raises(ConfigError, match="unknown arm 'nope'; known: in-batch, bm25"):
        rows_of(PAIRS, {}, {}, arm="nope", negatives=3, ratio=0.5, seed=0)


def test_synthetic_negatives_keep_their_weights() -> None:
    rows = rows_of(PAIRS[:50], mined(9), written(2, 0.3), arm="hybrid", negatives=3, ratio=1, seed=0)
    for row in rows:
        assert [weight for weight, source in zip(row.weights, row.sources, strict=True) if source == SYNTHETIC]
        assert {(s == SYNTHETIC, w) for s, w in zip(row.sources, row.weights, strict=True)} == {
            (True, 0.3),
            (False, 1.0),
        }


def test_negatives_are_drawn_anew_each_epoch_until_all_were_used() -> None:
    supply = Supply(PAIRS[:30], mined(12), written(2))
    plain = epochs_of(supply, MixConfig(negatives=3), arm="mined", seed=0, count=4)
    for turns in zip(*plain, strict=True):
        assert len({row.pair.query_id for row in turns}) == 1
        assert len({text for row in turns for text in row.negatives}) == 12
    hybrid = epochs_of(supply, MixConfig(negatives=3, ratio=0.5), arm="hybrid", seed=0, count=4)
    for one, other in zip(plain, hybrid, strict=True):  # arms differ in nothing but what they are called for
        assert all(b.negatives[1:] == a.negatives[:2] for a, b in zip(one, other, strict=True))
    assert {text for turns in hybrid for text in turns[0].negatives if "synthetic" in text} == {
        "q0 synthetic 0",
        "q0 synthetic 1",
    }
    again = epochs_of(supply, MixConfig(negatives=3), arm="mined", seed=0, count=4)
    assert plain == again != epochs_of(supply, MixConfig(negatives=3), arm="mined", seed=1, count=4)


MANY = [
    Pair("q0", "query 0", "d0", "best", ("best", "second", "third")),
    Pair("q1", "query 1", "d1", "only", ("only",)),
]


def positives_of(epochs: list[list[Instance]]) -> list[list[str]]:
    return [[row.pair.positive for row in rows] for rows in epochs]


def test_every_judged_positive_is_used() -> None:
    config = MixConfig(negatives=2)
    drawn = epochs_of(Supply(MANY, mined(4)), config, arm="mined", seed=3, count=3)
    assert sorted(rows[0] for rows in positives_of(drawn)) == ["best", "second", "third"]
    assert [rows[1] for rows in positives_of(drawn)] == ["only"] * 3
    each = epochs_of(Supply(MANY, mined(12), use="rows"), config, arm="mined", seed=3, count=2)
    assert positives_of(each) == [["best", "second", "third", "only"]] * 2
    assert len({text for rows in each for row in rows[:3] for text in row.negatives}) == 12  # none of them twice
    first = epochs_of(Supply(MANY, mined(4), use="first"), config, arm="mined", seed=3, count=2)
    assert positives_of(first) == [["best", "only"]] * 2
    assert {row.pair.positives for rows in each for row in rows} == {()}  # no row carries the others along


def test_a_passage_found_relevant_is_a_positive_and_no_negative() -> None:
    supply = Supply(MANY[1:], mined(3), extra={"q1": {"m1": "q1 mined 1"}})
    epochs = epochs_of(supply, MixConfig(negatives=3), arm="mined", seed=0, count=2)
    assert {(row.pair.doc_id, row.pair.positive) for rows in epochs for row in rows} == {("d1", "only"), ("m1", "q1 mined 1")}  # fmt: skip
    for (row,) in epochs:
        assert set(row.negatives) == {"q1 mined 0", "q1 mined 2", ""}


def test_taught_negatives_are_drawn_across_the_scores() -> None:
    negatives = [MinedNegative(f"d{i}", f"text {i}", "dense", i, 0.0) for i in range(12)]
    taught = {"q0": {f"d{i}": float(i) for i in range(11)}}  # d11 has no score: it counts as lowest
    pair = Pair("q0", "query", "p", "positive")
    supply = Supply([pair], {"q0": negatives}, taught=taught)
    epochs = epochs_of(supply, MixConfig(negatives=3), arm="mined", seed=0, count=4)
    parts = [{"d10", "d9", "d8", "d7"}, {"d6", "d5", "d4", "d3"}, {"d2", "d1", "d0", "d11"}]
    drawn = [row.doc_ids for (row,) in epochs]
    for ids in drawn:
        assert [doc_id in part for doc_id, part in zip(ids, parts, strict=True)] == [True] * 3
    assert {doc_id for ids in drawn for doc_id in ids} == {n.doc_id for n in negatives}
    plain = epochs_of(Supply([pair], {"q0": negatives}), MixConfig(negatives=3), arm="mined", seed=0, count=4)
    assert [row.doc_ids for (row,) in plain] != drawn
