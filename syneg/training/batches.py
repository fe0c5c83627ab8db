"""Arrange rows into batches: seeded, easy to hard, sources spread evenly, known positives kept apart.

    batches(rows, marks, Plan(batch_size=2, hardness=(.2, .9, .4, .8)), epoch=0) → [[0, 2], [3, 1]]

Each epoch contains every row once. With `hardness` the rows come in four stages from easy to hard, shuffled inside a
stage (MGH, arXiv 2509.00842, orders negatives this way). Rows with synthetic negatives are spread evenly over the
batches of a stage. Two rows whose queries share a relevant passage go into different batches if possible; otherwise the
loss masks the shared passage.

Several processes share one plan: a batch has `batch_size` rows for each process, and the sampler cuts it into slices of
equal length. The last batch of an epoch is smaller. If its rows do not divide evenly, the first rows of the epoch
fill it up a second time. These are fewer than there are processes.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sentence_transformers.base.sampler import DefaultBatchSampler

from syneg.core.records import Instance
from syneg.core.text import normalise

from .sampling import SYNTHETIC

_STAGES = 4
_PASSED = 8  # batches' worth of conflicting rows that a batch passes over before it takes them anyway


@dataclass(frozen=True)
class Plan:
    """How rows become batches: `batch_size` rows for each of `processes`.

    `hardness[row]` orders rows from easy to hard; without it the order is random.
    """

    batch_size: int
    seed: int = 0
    hardness: Sequence[float] | None = None
    processes: int = 1

    @property
    def rows(self) -> int:
        """Rows of a batch, all processes together."""
        return self.batch_size * self.processes


def conflicts(instances: Sequence[Instance], relevant: Mapping[str, Sequence[str]]) -> list[frozenset[str]]:
    """For each row, its query and the texts relevant to it, normalised. Two rows that share one of them conflict."""
    known: dict[str, str] = {}

    def key(text: str) -> str:
        """`text`, normalised once."""
        if text not in known:
            known[text] = normalise(text)
        return known[text]

    return [
        frozenset(key(t) for t in (row.pair.query, row.pair.positive, *relevant.get(row.pair.query_id, ())))
        for row in instances
    ]


def batches(
    instances: Sequence[Instance], marks: Sequence[frozenset[str]], plan: Plan, *, epoch: int
) -> list[list[int]]:
    """The row numbers of each batch of an epoch: ceil(rows / plan.rows) batches, of which the last may be smaller.

    `marks` are the sets that `conflicts` returns.
    """
    draw = random.Random(f"{plan.seed}:{epoch}")
    order = draw.sample(range(len(instances)), len(instances))
    stages = [order]
    if plan.hardness is not None:
        order = sorted(order, key=plan.hardness.__getitem__)
        size = -(-len(order) // _STAGES)
        stages = [order[start : start + size] for start in range(0, len(order), size)]
        for stage in stages:
            draw.shuffle(stage)
    waiting = deque(row for stage in stages for row in _spread(stage, instances))
    filled = []
    while waiting:
        filled.append(_fill(waiting, marks, plan.rows))
    return filled


def _spread(stage: Sequence[int], instances: Sequence[Instance]) -> list[int]:
    """Mix rows with and without synthetic negatives evenly; each of the two groups keeps its own order."""
    groups: tuple[list[int], list[int]] = ([], [])
    for row in stage:
        groups[SYNTHETIC in instances[row].sources].append(row)
    placed = [((i + 0.5) / len(group), row) for group in groups for i, row in enumerate(group)]
    return [row for _, row in sorted(placed, key=lambda item: item[0])]


def _fill(waiting: deque[int], marks: Sequence[frozenset[str]], size: int) -> list[int]:
    """Take the next `size` rows from `waiting`. A row that conflicts with the batch waits for the next one.

    Only if nearly all of the next rows conflict, the batch takes conflicting rows.
    """
    batch: list[int] = []
    seen: set[str] = set()
    passed: list[int] = []
    while waiting and len(batch) < size and len(passed) < _PASSED * size:
        row = waiting.popleft()
        if seen & marks[row]:
            passed.append(row)
            continue
        seen |= marks[row]
        batch.append(row)
    taken = size - len(batch)
    batch += passed[:taken]
    waiting.extendleft(reversed(passed[taken:]))
    return batch


class PlannedBatches(DefaultBatchSampler):
    """`batches` as a batch sampler for sentence-transformers' trainer: a slice for each process in turn.

    `epochs` holds the rows of each epoch, the same number in each; epochs beyond the last start again at the first. Row
    r of epoch e is yielded as e * rows + r, its place in the list of all rows.
    """

    def __init__(self, epochs: Sequence[Sequence[Instance]], relevant: Mapping[str, Sequence[str]], plan: Plan) -> None:
        super().__init__(list(range(len(epochs[0]))), batch_size=plan.batch_size, drop_last=False)
        self._epochs, self._relevant, self._plan = epochs, relevant, plan
        self._marks: dict[int, list[frozenset[str]]] = {}

    def __iter__(self) -> Iterator[list[int]]:
        which = self.epoch % len(self._epochs)
        rows = self._epochs[which]
        if which not in self._marks:
            self._marks = {which: conflicts(rows, self._relevant)}
        planned = batches(rows, self._marks[which], self._plan, epoch=self.epoch)
        again = [row for batch in planned for row in batch]
        processes = self._plan.processes
        for batch in planned:
            size = -(-len(batch) // processes)
            missing = size * processes - len(batch)
            whole = [*batch, *(again * -(-missing // len(again)))[:missing]]
            for start in range(0, len(whole), size):
                yield [which * len(rows) + row for row in whole[start : start + size]]

    @property
    def steps(self) -> int:
        """Optimizer steps of an epoch: one for each batch over all processes."""
        return -(-len(self._epochs[0]) // self._plan.rows)

    def __len__(self) -> int:
        return self.steps * self._plan.processes
