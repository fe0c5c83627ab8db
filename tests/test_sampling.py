from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syneg.core.errors import ConfigError
from syneg.core.records import HardNegative, MinedNegative, Pair
from syneg.training.sampling import ARMS, PADDING, SYNTHETIC, mix

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
    rows = mix(PAIRS, mined(9), written(9), arm="hybrid", negatives=7, ratio=0.7, seed=0)
    counts = Counter(row.sources.count(SYNTHETIC) for row in rows)
    assert set(counts) == {2, 3}  # 7 * .7 / 1.7 = 2.88
    assert abs(counts[3] / len(rows) - 0.882) < 0.05


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
    rows = mix(PAIRS[:20], mined(have), written(wrote), arm=arm, negatives=negatives, ratio=ratio, seed=seed)
    assert [row.pair for row in rows] == PAIRS[:20]
    for row in rows:
        assert len(row.negatives) == len(row.sources) == len(row.weights) == (negatives if arm != "in-batch" else 0)
        assert [w == 0 for w in row.weights] == [s == PADDING for s in row.sources]
        real = [text for text, source in zip(row.negatives, row.sources, strict=True) if source != PADDING]
        assert len(real) == len(set(real))
        if arm in ("mined", "hybrid"):
            assert len(real) >= min(negatives, have)
    assert rows == mix(PAIRS[:20], mined(have), written(wrote), arm=arm, negatives=negatives, ratio=ratio, seed=seed)


def test_arms_share_their_retrieved_negatives() -> None:
    plain = mix(PAIRS[:9], mined(9), {}, arm="mined", negatives=3, ratio=0.5, seed=1)
    hybrid = mix(PAIRS[:9], mined(9), written(1), arm="hybrid", negatives=3, ratio=0.5, seed=1)
    for a, b in zip(plain, hybrid, strict=True):
        assert b.sources == (SYNTHETIC, *a.sources[:2])
        assert b.negatives[1:] == a.negatives[:2]


def test_ablation_arms_are_what_their_names_say() -> None:
    def sources(arm: str) -> list[set[str]]:
        rows = mix(PAIRS, mined(9), written(3), arm=arm, negatives=3, ratio=0.5, seed=0)
        return [set(row.sources) for row in rows]

    assert set(map(frozenset, sources("in-batch"))) == {frozenset()}
    assert set(map(frozenset, sources("bm25"))) == {frozenset({"bm25"})}
    assert set(map(frozenset, sources("synthetic"))) == {frozenset({SYNTHETIC})}
    by_row = sources("dataset-mix")
    assert all(SYNTHETIC not in found or found == {SYNTHETIC} for found in by_row)
    assert abs(sum(found == {SYNTHETIC} for found in by_row) / len(by_row) - 1 / 3) < 0.07
    rows = mix(PAIRS, mined(9), written(1), arm="synthetic", negatives=3, ratio=0.5, seed=0)
    assert all(row.sources == (SYNTHETIC, PADDING, PADDING) for row in rows)
    with pytest.raises(ConfigError, match="unknown arm 'nope'; known: in-batch, bm25"):
        mix(PAIRS, {}, {}, arm="nope", negatives=3, ratio=0.5, seed=0)


def test_synthetic_negatives_keep_their_weights() -> None:
    rows = mix(PAIRS[:50], mined(9), written(2, 0.3), arm="hybrid", negatives=3, ratio=1, seed=0)
    for row in rows:
        assert [weight for weight, source in zip(row.weights, row.sources, strict=True) if source == SYNTHETIC]
        assert {(s == SYNTHETIC, w) for s, w in zip(row.sources, row.weights, strict=True)} == {
            (True, 0.3),
            (False, 1.0),
        }
