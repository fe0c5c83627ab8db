from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syneg.core.records import Instance, Pair
from syneg.training.batches import batches, conflicts


def rows(count: int, positives: int, synthetic: int = 0) -> list[Instance]:
    return [
        Instance(
            Pair(f"q{i}", f"query {i}", f"d{i % positives}", f"Positive {i % positives}!"), ("n",),
            ("synthetic" if i < synthetic else "dense",), (1.0,), (None,),
        )
        for i in range(count)
    ]  # fmt: skip


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 20), st.integers(0, 3), st.booleans())
def test_every_row_is_in_an_epoch_once(count: int, positives: int, size: int, seed: int, curriculum: bool) -> None:
    instances = rows(count, positives, count // 3)
    hardness = [float(i % 7) for i in range(count)] if curriculum else None

    def plan(epoch: int) -> list[list[int]]:
        marks = conflicts(instances, {})
        return batches(instances, marks, batch_size=size, seed=seed, epoch=epoch, hardness=hardness)

    found = plan(0)
    assert sorted(row for batch in found for row in batch) == list(range(count))
    assert len(found) == -(-count // size)
    assert all(len(batch) == size for batch in found[:-1])
    assert found == plan(0)


def test_epochs_and_seeds_differ() -> None:
    instances = rows(40, 40)
    marks = conflicts(instances, {})
    orders = [
        batches(instances, marks, batch_size=8, seed=seed, epoch=epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    assert len({str(order) for order in orders}) == 3


def test_known_positives_do_not_meet_where_they_need_not() -> None:
    instances = rows(40, 10)  # each positive four times; batches of eight
    found = batches(instances, conflicts(instances, {}), batch_size=8, seed=0, epoch=0)
    for batch in found:
        assert max(Counter(instances[row].pair.positive for row in batch).values()) <= 2
    assert sum(len({instances[row].pair.positive for row in batch}) == 8 for batch in found) >= 4
    known = {"q1": ["positive 0"]}  # another relevant passage of q1 is the positive of q0
    assert conflicts(instances, known)[0] & conflicts(instances, known)[1]
    everything = rows(6, 1)
    assert len(batches(everything, conflicts(everything, {}), batch_size=3, seed=0, epoch=0)) == 2


def test_sources_are_spread_evenly() -> None:
    instances = rows(80, 80, synthetic=20)
    found = batches(instances, conflicts(instances, {}), batch_size=16, seed=3, epoch=0)
    assert [sum(row < 20 for row in batch) for batch in found] == [4, 4, 4, 4, 4]


def test_a_curriculum_goes_from_easy_to_hard() -> None:
    instances = rows(64, 64)
    hardness = [float((i * 37) % 64) for i in range(64)]
    found = batches(instances, conflicts(instances, {}), batch_size=16, seed=0, epoch=0, hardness=hardness)
    ranges = [(min(hardness[row] for row in batch), max(hardness[row] for row in batch)) for batch in found]
    assert ranges == [(0, 15), (16, 31), (32, 47), (48, 63)]
    assert found[0] != sorted(found[0], key=hardness.__getitem__)


def test_the_trainer_gets_the_planned_batches() -> None:
    from syneg.training.batches import PlannedBatches

    instances = rows(10, 10)
    marks = conflicts(instances, {})
    plan = {"batch_size": 4, "seed": 1, "hardness": None}
    sampler = PlannedBatches(instances, marks, plan)
    sampler.set_epoch(2)
    assert list(sampler) == batches(instances, marks, batch_size=4, seed=1, epoch=2)
    assert len(sampler) == 3
    assert sampler.batch_size == pytest.approx(4)
