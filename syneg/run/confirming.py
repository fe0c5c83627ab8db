"""Which queries decide between two programs that write negatives, what they can show, and who gets near-misses.

    with_deciders(workspace).splits["confirm"]   → 76 confirm queries, then 299 train queries that were taken out
    said(workspace)
      → "375 queries decide, 299 of them taken from train: a difference in nDCG@10 from about .009 on would show"
    groups(workspace)                            → who compares candidates and who decides, each for near-misses

All confirm queries decide, then train queries that no proposal sees, until there are `compile.confirm_queries`, and a
quarter more where near-misses are written, since the gates reject some. These train queries are not trained on in the
confirmation, nothing is written for them there, and the objective is not scored on them. At most half of the train
queries beside the examples are taken, so that enough are left to train on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace

from syneg.core.errors import UnusableError
from syneg.core.records import Pair
from syneg.data.collection import Collection
from syneg.data.tasks import task_for
from syneg.negatives.assignment import Assignment
from syneg.optimizers.objective import held_out_queries
from syneg.verdict.statistics import shown_by

from .deciding import deciding
from .near_misses import compiling_origin, near_miss_settings, shuffled
from .negative_sets import MORE_TO_COMPILE, NEAR_TO_COMPILE, NegativeSet
from .workspace import Workspace

# Share of the near-misses that pass the gates, as a rule; and the least that is taken for it when more are written.
_GATED, _LEAST_GATED = 0.8, 0.3
_COMPARED = 200  # near-misses that candidates are compared with
# Standard deviation over queries of the difference in nDCG@10 between two trained encoders: .04 to .06 in the
# confirmations of docs/lab_notes.md.
_SPREAD = 0.06
_ALPHA = 0.05


def with_deciders(workspace: Workspace, examples: Sequence[Pair] | None = None) -> Collection:
    """The collection with all queries that decide in its confirm split, and without them in train.

    `examples` are the pairs that candidates are tried on, by default the first `compile.pairs` of the train split.
    Without `compile.confirm` it is the collection as it is.
    """
    collection, config = workspace.collection, workspace.config
    if not config.compile.confirm:
        return collection
    own = {pair.query_id for pair in examples_of(workspace, examples)}
    free = [pair.query_id for pair in workspace.train_split if pair.query_id not in own]
    splits = collection.splits
    wanted = deciders_wanted(workspace)
    short = len(free) if wanted == 0 else max(0, wanted - len(splits["confirm"]))
    most = min(short, len(free) // 2)
    taken = free[len(free) - most :]  # the last ones: written for last, and trained on last
    train = tuple(query_id for query_id in splits["train"] if query_id not in {*taken})
    return replace(collection, splits={**splits, "train": train, "confirm": (*splits["confirm"], *taken)})


def examples_of(workspace: Workspace, examples: Sequence[Pair] | None = None) -> Sequence[Pair]:
    """The pairs that candidates are tried on."""
    return workspace.train_split[: workspace.config.compile.pairs] if examples is None else examples


def deciders_wanted(workspace: Workspace) -> int:
    """How many queries are to decide; 0 = all that are free. With near-misses so many that the wanted ones pass."""
    config = workspace.config
    wanted = deciding(config, config.lm.model)
    near = bool(compiling_origin(config, config.generate.program)[0])
    return math.ceil(wanted / _GATED) if near and config.boundary.queries == "auto" else wanted


def said(workspace: Workspace) -> str:
    """How many queries decide, and the smallest difference that so many can show, in a line."""
    own, deciders = len(workspace.collection.splits["confirm"]), len(with_deciders(workspace).splits["confirm"])
    taken = f", {deciders - own} of them taken from train" if deciders > own else ""
    line = f"{deciders} queries decide{taken}: {can_show(deciders)}"
    wanted = deciding(workspace.config, workspace.config.lm.model)
    return f"{line}; {wanted} were wanted, but no more are free" if deciders < wanted else line


def can_show(queries: int) -> str:
    """The smallest difference in nDCG@10 that so many queries can show if it spreads as it usually does, in words."""
    least = shown_by(queries, _SPREAD, _ALPHA)
    if least is None:
        return "no difference would show"
    return f"a difference in nDCG@10 from about {least:.3f} on would show"


@dataclass(frozen=True)
class Group:
    """Queries that get near-misses for one purpose: the first `asked` of `pairs`, and more until `wanted` have some."""

    pairs: Sequence[Pair]
    asked: int
    wanted: int

    @property
    def first(self) -> Sequence[Pair]:
        """The pairs that are written for first."""
        return self.pairs[: self.asked]

    def have(self, near: Container[str]) -> int:
        """How many queries of the group are in `near`."""
        return sum(pair.query_id in near for pair in self.pairs)

    def more(self, near: Container[str]) -> Sequence[Pair]:
        """The pairs to write for next, if those in `near` are too few; by the share of the first ones that passed."""
        missing = self.wanted - self.have(near)
        if missing <= 0 or not self.first:
            return ()
        share = max(_LEAST_GATED, self.have(near) / len(self.first))
        return self.pairs[self.asked : self.asked + math.ceil(missing / share)]


def groups(workspace: Workspace) -> tuple[Group, Group]:
    """The queries that compare candidates (dev, then train queries that only the objective sees), and those that
    decide.

    `boundary.queries` limits both. With `auto` as many are written for as usually suffice, and more if the gates leave
    too few.
    """
    config, collection = workspace.config, with_deciders(workspace)
    own = {pair.query_id for pair in examples_of(workspace)}
    train = {pair.query_id: pair for pair in collection.pairs("train")}
    scored = held_out_queries(collection, sorted(own), config.probe.queries, config.seed)
    compared = shuffled(collection, "dev", config.seed)
    compared += [train[query_id] for query_id in scored if query_id in train and query_id not in own]
    deciders = shuffled(collection, "confirm", config.seed) if config.compile.confirm else []
    asked = config.boundary.queries
    if asked != "auto":
        return Group(compared, asked, 0), Group(deciders, asked, 0)
    wanted = deciding(config, config.lm.model) or len(deciders)
    return (
        Group(compared, round(_COMPARED / _GATED), _COMPARED),
        Group(deciders, math.ceil(wanted / _GATED), wanted),
    )


def near_misses_to_compile(
    workspace: Workspace, name: str, written: Callable[[str, Assignment], NegativeSet]
) -> dict[str, list[str]]:
    """Make near-misses for the queries of `groups`, by another program or LM than that of the program `name`.

    `written(stem, assignment)` makes one set. Where the gates leave too few near-misses, more queries get some. Says
    how many there are and what so many can show. Returns query_id → texts; {} if none can be made, with a message.
    """
    chosen, reason = compiling_origin(workspace.config, name)
    both, config = groups(workspace), near_miss_settings(workspace.config)
    near: dict[str, list[str]] = {}

    def write(stem: str, pairs: Sequence[Pair]) -> None:
        mined = workspace.mine_for(pairs).negatives
        made = written(stem, Assignment(pairs, mined, task_for(config), config, chosen))
        near.update({q: [draft.negative.text for draft in drafts] for q, drafts in made.accepted.items()})

    if chosen:
        try:
            write(NEAR_TO_COMPILE, [pair for group in both for pair in group.first])
            if more := [pair for group in both for pair in group.more(near)]:
                write(MORE_TO_COMPILE, more)
        except UnusableError as error:
            reason = str(error)
    if not near:
        workspace.progress.say(f"  candidates are compared without near-misses: {reason}")
        return {}
    compared, decide = (group.have(near) for group in both)
    few = f", under the {both[0].wanted} that are wanted" if compared < both[0].wanted else ""
    workspace.progress.say(
        f"  near-misses stand for {compared} queries that compare candidates{few}: {can_show(compared)}"
    )
    if both[1].pairs:
        workspace.progress.say(f"  near-misses stand for {decide} queries that decide: {can_show(decide)}")
    return near
