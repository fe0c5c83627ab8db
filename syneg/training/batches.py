"""Which rows stand in a batch together: seeded, easy to hard, sources spread evenly, no known positives against each other.

    batches(rows, conflicts, batch_size=2, seed=0, epoch=0, hardness=[.2, .9, .4, .8]) → [[0, 2], [3, 1]]

Every row is in each epoch once. With `hardness` the rows come in four stages from easy to hard, shuffled inside a stage
(MGH, arXiv 2509.00842, orders negatives so). Rows with synthetic negatives are spread evenly over the batches of a stage.
Two rows whose queries share a relevant passage are put into different batches where that is possible; where it is not,
the loss masks them.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sentence_transformers.base.sampler import DefaultBatchSampler

from syneg.core.records import Instance, normalise

from .sampling import SYNTHETIC

_STAGES = 4


def conflicts(instances: Sequence[Instance], relevant: Mapping[str, Sequence[str]]) -> list[frozenset[str]]:
    """What makes two rows conflict: for each row its query and the texts that are relevant to it, normalised."""
    return [
        frozenset(normalise(t) for t in (row.pair.query, row.pair.positive, *relevant.get(row.pair.query_id, ())))
        for row in instances
    ]


def batches(
    instances: Sequence[Instance],
    marks: Sequence[frozenset[str]],
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    hardness: Sequence[float] | None = None,
) -> list[list[int]]:
    """Row numbers of each batch of an epoch, ceil(rows / batch_size) batches; the last may be smaller."""
    draw = random.Random(f"{seed}:{epoch}")
    order = draw.sample(range(len(instances)), len(instances))
    stages = [order]
    if hardness is not None:
        order = sorted(order, key=hardness.__getitem__)
        size = -(-len(order) // _STAGES)
        stages = [order[start : start + size] for start in range(0, len(order), size)]
        for stage in stages:
            draw.shuffle(stage)
    waiting = deque(row for stage in stages for row in _spread(stage, instances))
    found = []
    while waiting:
        found.append(_fill(waiting, marks, batch_size))
    return found


def _spread(stage: Sequence[int], instances: Sequence[Instance]) -> list[int]:
    """Rows with and without synthetic negatives in even alternation, each in its own order."""
    groups: tuple[list[int], list[int]] = ([], [])
    for row in stage:
        groups[SYNTHETIC in instances[row].sources].append(row)
    placed = [((i + 0.5) / len(group), row) for group in groups for i, row in enumerate(group)]
    return [row for _, row in sorted(placed, key=lambda item: item[0])]


def _fill(waiting: deque[int], marks: Sequence[frozenset[str]], size: int) -> list[int]:
    """Take the next `size` rows; one that conflicts waits for the next batch, unless nothing else is left."""
    batch: list[int] = []
    seen: set[str] = set()
    passed: list[int] = []
    while waiting and len(batch) < size:
        row = waiting.popleft()
        if seen & marks[row]:
            passed.append(row)
            continue
        seen |= marks[row]
        batch.append(row)
    while passed and len(batch) < size:
        batch.append(passed.pop(0))
    waiting.extendleft(reversed(passed))
    return batch


class PlannedBatches(DefaultBatchSampler):
    """The batches of `batches` as sentence-transformers' trainer wants them; `plan` are its keyword arguments."""

    def __init__(self, instances: Sequence[Instance], marks: Sequence[frozenset[str]], plan: Mapping[str, Any]) -> None:
        super().__init__(list(instances), batch_size=plan["batch_size"], drop_last=False)
        self._instances, self._marks, self._plan = instances, marks, plan

    def __iter__(self) -> Iterator[list[int]]:
        yield from batches(self._instances, self._marks, epoch=self.epoch, **self._plan)

    def __len__(self) -> int:
        return -(-len(self._instances) // self._plan["batch_size"])
