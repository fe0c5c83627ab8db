from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from syneg.core.records import Instance, Pair
from syneg.training.batches import Plan, PlannedBatches, batches, conflicts


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
        return batches(instances, marks, Plan(size, seed, hardness), epoch=epoch)

    found = plan(0)
    assert sorted(row for batch in found for row in batch) == list(range(count))
    assert len(found) == -(-count // size)
    assert all(len(batch) == size for batch in found[:-1])
    assert found == plan(0)


def test_epochs_and_seeds_differ() -> None:
    instances = rows(40, 40)
    marks = conflicts(instances, {})
    orders = [batches(instances, marks, Plan(8, seed), epoch=epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert len({str(order) for order in orders}) == 3


def test_known_positives_do_not_meet_where_they_need_not() -> None:
    instances = rows(40, 10)  # each positive four times; batches of eight
    found = batches(instances, conflicts(instances, {}), Plan(8, 0), epoch=0)
    for batch in found:
        assert max(Counter(instances[row].pair.positive for row in batch).values()) <= 2
    assert sum(len({instances[row].pair.positive for row in batch}) == 8 for batch in found) >= 4
    known = {"q1": ["positive 0"]}  # another relevant passage of q1 is the positive of q0
    assert conflicts(instances, known)[0] & conflicts(instances, known)[1]
    everything = rows(6, 1)
    assert len(batches(everything, conflicts(everything, {}), Plan(3, 0), epoch=0)) == 2


def test_sources_are_spread_evenly() -> None:
    instances = rows(80, 80, synthetic=20)
    found = batches(instances, conflicts(instances, {}), Plan(16, 3), epoch=0)
    assert [sum(row < 20 for row in batch) for batch in found] == [4, 4, 4, 4, 4]


def test_a_curriculum_goes_from_easy_to_hard() -> None:
    instances = rows(64, 64)
    hardness = [float((i * 37) % 64) for i in range(64)]
    found = batches(instances, conflicts(instances, {}), Plan(16, 0, hardness), epoch=0)
    ranges = [(min(hardness[row] for row in batch), max(hardness[row] for row in batch)) for batch in found]
    assert ranges == [(0, 15), (16, 31), (32, 47), (48, 63)]
    assert found[0] != sorted(found[0], key=hardness.__getitem__)


def test_the_trainer_gets_the_planned_batches() -> None:
    instances = rows(10, 10)
    sampler = PlannedBatches([instances, rows(10, 10)], {}, Plan(4, 1))
    sampler.set_epoch(2)
    assert list(sampler) == batches(instances, conflicts(instances, {}), Plan(4, 1), epoch=2)
    assert len(sampler) == sampler.steps == 3
    assert sampler.batch_size == 4
    sampler.set_epoch(1)
    assert sorted(row for batch in sampler for row in batch) == list(range(10, 20))  # the rows of the second epoch


@given(st.integers(1, 40), st.integers(1, 8), st.integers(1, 5))
def test_every_process_gets_slices_of_one_length(count: int, size: int, processes: int) -> None:
    instances = rows(count, count)
    sampler = PlannedBatches([instances], {}, Plan(size, 0, None, processes))
    slices = list(sampler)
    assert len(slices) == len(sampler) == sampler.steps * processes
    for step in range(sampler.steps):
        assert len({len(part) for part in slices[step * processes : (step + 1) * processes]}) == 1
    dealt = Counter(row for part in slices for row in part)
    assert set(dealt) == set(range(count))
    assert sum(dealt.values()) - count < processes  # so few rows stand in an epoch twice


def test_many_conflicts_take_no_more_than_a_look_at_the_rows_that_follow() -> None:
    instances = rows(30_000, 1)
    marks = [frozenset({"one text"})] * len(instances)
    assert len(batches(instances, marks, Plan(16), epoch=0)) == 1875
