"""A race: measure candidates block by block, and stop those that almost certainly lose.

    race(["95 % rule", "no margin", "90 % rule"], blocks=2, measure=values_of, worth=worth)
      → Race(winner="no margin", cross=.011, standings=[Standing("no margin", gain=.012, error=.005, …), …])

A block is a part of the evidence, such as some of the train pairs or of the queries. All candidates of a block share
everything else, so differences are taken query by query (common random numbers). The first candidate wins if the race
is not sure; it is measured in every block.

- A candidate stops if it is worth no more than the first: what is left of the race could hardly make it sure.
- It also stops if the leader's worth is higher in `STOP` of the draws of a paired bootstrap over queries.
- The race ends early if only the first candidate is left.
- To win, a candidate must be worth more than the first in `SURE` of the draws. A choice is not a claim: keeping the
  first one in error costs as much as leaving it in error, so less is asked than for significance.
- By cross-fitting (chosen on one half of the queries and blocks, measured on the other half) it must not lose more than
  the standard error.

Sources: Hoeffding races (Maron and Moore, 1994) for stopping losers; F-Race (Birattari and others, 2002) for blocks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from syneg.retrieval.metrics import mean_and_error

STOP = 0.95  # share of the draws that stops a loser
SURE = 0.9  # share of the draws that a winner needs
_DRAWS = 2000
_LEAST = 8  # queries that a bootstrap needs
PerQuery = Mapping[str, Mapping[str, float]]  # metric → query id → value; the first metric is the main one
Worth = Callable[[Mapping[str, np.ndarray]], np.ndarray]  # metric → mean gains (draws,) → worth (draws,)


@dataclass(frozen=True)
class Standing:
    """One candidate compared with the first.

    `gain` is in the main metric, `error` its standard error over queries. `sure` is the share of the bootstrap draws in
    which its worth is higher than the first's. `others` is metric → (gain, error) for the other metrics. `blocks` is
    the number of its measurements; `stopped` tells that it lost before the end.
    """

    name: str
    gain: float
    error: float
    worth: float
    sure: float
    blocks: int
    stopped: bool
    others: Mapping[str, tuple[float, float]]

    def __str__(self) -> str:
        ended = f", stopped after block {self.blocks}" if self.stopped else ""
        return f"{self.name} {self.gain:+.4f} ± {self.error:.4f} (better in {self.sure:.0%} of the draws{ended})"


@dataclass(frozen=True)
class Race:
    """The result of a race.

    `best` has the highest worth. `winner` is `best` if that is sure, otherwise the first candidate. `cross` is the gain
    by cross-fitting, None if there were too few measurements. `cross_error` is its standard error.
    """

    winner: str
    best: str
    standings: tuple[Standing, ...]
    cross: float | None
    cross_error: float
    queries: int
    measurements: int

    def line(self, what: str, beside: Mapping[str, object] | None = None) -> str:
        """One line on all rivals of the first candidate. `what` names their gains, such as "nDCG@10 over mined".

        `beside[name]` is printed beside a rival.
        """
        notes = {name: f", {note}" for name, note in (beside or {}).items()}
        rows = (f"{row}{notes.get(row.name, '')}" for row in self.standings[1:])
        return f"{what}, {self.queries} queries: {'; '.join(rows)}"

    @property
    def why(self) -> str:
        """The reason for the choice of the winner, in words."""
        first, leader = self.standings[0].name, next(row for row in self.standings if row.name == self.best)
        if self.best == first:
            return f"nothing is worth more than {first}"
        unseen = f", {self.cross:+.4f} ± {self.cross_error:.4f} on queries and pairs it was not chosen on"
        cross = "" if self.cross is None else unseen
        found = f"{self.best} is better in {leader.sure:.1%} of the draws ({SURE:.0%} are needed){cross}"
        return found if self.winner == self.best else f"not sure: {found}"


class _Measured:
    """All values so far: candidate → block → metric → query."""

    def __init__(self, names: Sequence[str], worth: Worth) -> None:
        self.first, self._worth = names[0], worth
        self.values: dict[str, dict[int, PerQuery]] = {name: {} for name in names}

    def gains(self, name: str, over: str, fits: Callable[[int, str], bool] | None = None) -> dict[str, np.ndarray]:
        """metric → the differences (queries,) of `name` minus `over`, each the mean over the blocks of both.

        `fits(block, query_id)` selects blocks and queries; without it all count.
        """
        ours, theirs = self.values[name], self.values[over]
        by_metric: dict[str, dict[str, list[float]]] = {}
        for block in sorted(ours.keys() & theirs.keys()):
            for metric, values in ours[block].items():
                gains = by_metric.setdefault(metric, {})
                for query_id, value in values.items():
                    if fits is None or fits(block, query_id):
                        gains.setdefault(query_id, []).append(value - theirs[block][metric][query_id])
        return {metric: np.array([np.mean(v) for v in gains.values()]) for metric, gains in by_metric.items()}

    def worth(self, gains: Mapping[str, np.ndarray]) -> float:
        """The worth of the mean gains; 0 if there are no gains."""
        if not all(map(len, gains.values())):
            return 0.0
        return float(self._worth({metric: values.mean(keepdims=True) for metric, values in gains.items()})[0])

    def sure(self, gains: Mapping[str, np.ndarray]) -> float:
        """The share of bootstrap draws of queries in which the worth is over 0; .5 for too few queries."""
        count = len(next(iter(gains.values())))
        if count < _LEAST:
            return 0.5
        drawn = np.random.default_rng(0).integers(count, size=(_DRAWS, count))  # (draws, queries)
        worths = self._worth({metric: values[drawn].mean(axis=1) for metric, values in gains.items()})
        return float(np.mean(worths > 0) + np.mean(worths == 0) / 2)


def race(
    names: Sequence[str],
    blocks: int,
    measure: Callable[[str, int], PerQuery],
    worth: Worth | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Race:
    """Race the candidates `names` over `blocks` blocks. Without `worth`, the gain in the main metric decides.

    `measure(name, block)` gives metric → query_id → value. `progress(done, of)` counts measurements; the remaining ones
    of a stopped candidate count as done.
    """
    main_only: Worth = lambda gains: next(iter(gains.values()))  # noqa: E731
    measured = _Measured(names, worth or main_only)
    alive, number = list(names), 0
    for block in range(blocks):
        for name in alive:
            measured.values[name][block] = measure(name, block)
            number += 1
            if progress is not None:
                progress(block * len(names) + len(names) - len(alive) + alive.index(name) + 1, blocks * len(names))
        alive = _left(measured, alive)
        if len(alive) == 1:
            break
    return _result(measured, alive, number)


def _left(measured: _Measured, alive: Sequence[str]) -> list[str]:
    """The candidates that go on: the first, and all over it that the leader does not surely beat (`STOP`)."""
    worths = {name: measured.worth(measured.gains(name, measured.first)) for name in alive}
    leader = max(alive, key=worths.__getitem__)
    rivals = [name for name in alive if worths[name] > 0]
    near = [name for name in rivals if name == leader or measured.sure(measured.gains(leader, name)) < STOP]
    return [name for name in alive if name == measured.first or name in near]


def _result(measured: _Measured, alive: Sequence[str], number: int) -> Race:
    first, standings = measured.first, []
    for name, blocks in measured.values.items():
        gains = measured.gains(name, first)
        (gain, error), *others = [mean_and_error(values) for values in gains.values()]
        standings.append(Standing(
            name, gain, error, measured.worth(gains), 0.5 if name == first else measured.sure(gains), len(blocks),
            name not in alive, dict(zip(list(gains)[1:], others, strict=True)),
        ))  # fmt: skip
    best = max((row for row in standings if not row.stopped), key=lambda row: row.worth)
    unseen = _cross(measured, alive)
    cross, error = mean_and_error(unseen)
    sure = best.sure >= SURE and (not unseen or cross > -error)
    queries = {q for values in measured.values[first].values() for q in next(iter(values.values()))}
    winner = best.name if sure else first
    return Race(winner, best.name, tuple(standings), cross if unseen else None, error, len(queries), number)


def _cross(measured: _Measured, alive: Sequence[str]) -> list[float]:
    """The gains in the main metric on queries and blocks that took no part in the choice, one for each query.

    Queries are halved by a hash of their id, blocks by their number; a single block belongs to both halves. If a choice
    falls on the first candidate, its gain is 0.
    """
    blocks = sorted(measured.values[measured.first])

    def fits(block_half: int, query_half: int) -> Callable[[int, str], bool]:
        return lambda block, query_id: (
            (len(blocks) == 1 or block % 2 == block_half) and fold_of(query_id, 2) == query_half
        )

    gains: list[float] = []
    for block_half in range(min(2, len(blocks))):
        for query_half in (0, 1):
            here, there = fits(block_half, query_half), fits(1 - block_half, 1 - query_half)
            worths = {name: measured.worth(measured.gains(name, measured.first, here)) for name in alive}
            chosen = max(worths, key=worths.__getitem__)
            gains += next(iter(measured.gains(chosen, measured.first, there).values())).tolist()
    return gains


def fold_of(query_id: str, folds: int) -> int:
    """The fold of a query, 0 to `folds` - 1, by a hash of its id."""
    return int(hashlib.sha256(query_id.encode()).hexdigest(), 16) % folds
