"""Cross-fitting for small sets: every query is tested once, by models that were not trained on it.

    crossed = cross_fit(workspace, sets, arms, build)      with 40 queries, of which 10 would be the test split
      crossed.results["hybrid"][0]["test"].values["ndcg@10"]   → 40 values, 8 from each of 5 folds
      crossed.collection.splits                                → {"train": …, "dev": 30 ids, "test": 40 ids}

The negatives of a query depend on the query and the corpus only, so all folds share them and each query is written for
once. Dev scores are those of the queries that chose the weights, over all folds. The saved model is trained on the
run's own split. After Dror et al. 2018 (cross-validation for small test sets).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from syneg.core.config import Config
from syneg.core.records import MinedNegative, Pair
from syneg.core.storage import read_json, write_json
from syneg.data.collection import Collection
from syneg.retrieval.evaluation import SplitResult

from .arms import Arm
from .folder import RunFolder
from .keys import stage_key
from .negative_sets import NegativeSet, NegativeSets
from .readings import Readings
from .workspace import Workspace

Results = Mapping[str, Sequence[Mapping[str, SplitResult]]]


@dataclass(frozen=True)
class Crossed:
    """Results of all folds together: `results[arm][seed][split]`, over the splits of `collection`."""

    results: Results
    collection: Collection
    folds: int


class SharedSets:
    """The negatives of all queries. An Experiment on a fold uses it in place of NegativeSets."""

    def __init__(self, by_program: Mapping[str, NegativeSet]) -> None:
        self._by_program = by_program

    def of(self, program: str) -> NegativeSet:
        """The set by `program`."""
        return self._by_program[program]

    def near_misses(self, trained_on: Sequence[str]) -> None:
        """Return None: only the run's own split has a boundary test."""


def cross_fit(
    workspace: Workspace,
    sets: NegativeSets | SharedSets,
    arms: Sequence[Arm],
    readings: Readings,
    results_of: Callable[[Workspace, SharedSets, Readings], Results],
) -> Crossed | None:
    """Train and test every arm in `evaluate.folds` folds; `results_of` does it for one fold.

    None where the test split is large enough or published with the collection, and where what was compiled has
    seen the queries. A reader reads for the queries of all folds.
    """
    collection, number = workspace.collection, workspace.config.evaluate.folds
    if number < 2 or isinstance(sets, SharedSets) or not collection.wants_folds:
        return None
    if compiled := _compiled(workspace.config):
        workspace.progress.say(f"  no cross-fitting: the compiled {compiled} has seen the test queries of other folds")
        return None
    folds = collection.folds(number)
    pairs, written_for = pairs_of_folds(workspace)
    mined = workspace.mine_for(pairs).negatives
    candidates: Mapping[str, Sequence[MinedNegative]] = mined
    if any(arm.reads or arm.grounds for arm in arms):
        readings = readings.over(_of_all_folds(workspace, pairs, mined))
        candidates = readings.candidates()
    programs = {arm.config.generate.program for arm in arms if arm.wants_synthetic}
    shared = SharedSets({name: sets.for_folds(name, written_for, candidates) for name in sorted(programs)})
    read = readings.readings if any(arm.reads for arm in arms) else []
    for program in dict.fromkeys(arm.config.generate.program for arm in arms if arm.grounds):
        read = [*read, *readings.near.of(program, shared.of(program).drafts).readings]
    key = stage_key(
        "folds", workspace.config, collection.fingerprint, workspace.encoder.fingerprint, workspace.encoder.prompts,
        [(arm.name, arm.kind, arm.config.mix.model_dump(), arm.config.train.model_dump()) for arm in arms],
        [shared.of(name).rows for name in sorted(programs)], [asdict(reading) for reading in read],
    )  # fmt: skip
    path = workspace.folder.folds

    def work() -> None:
        results = [
            _fold(workspace, fold, place, mined, lambda within: results_of(within, shared, readings))
            for place, fold in enumerate(folds)
        ]
        _write_results(path, results)
        for place in range(number):  # the models of the folds are not kept; what was read for them is
            shutil.rmtree(workspace.folder / "folds" / str(place + 1), ignore_errors=True)
        with suppress(OSError):  # not empty: a reader's answers are kept
            (workspace.folder / "folds").rmdir()

    workspace.progress.say(f"  cross-fitting: {number} folds test each of the {len(_ids(folds, 'test'))} queries once")
    workspace.manifest.make("folds", key, path, work)
    tested = replace(
        collection, splits={"train": (), "dev": _ids(folds, "dev"), "confirm": (), "test": _ids(folds, "test")}
    )
    return Crossed(_read_results(path), tested, number)


def _write_results(path: Path, folds: Sequence[Results]) -> None:
    """Write the results of all folds together: arm → for each seed its splits."""
    joined = {
        arm: [_joined([fold[arm][seed] for fold in folds]) for seed in range(len(folds[0][arm]))] for arm in folds[0]
    }
    write_json(
        path,
        {
            arm: [{split: asdict(result) for split, result in by_split.items()} for by_split in by_seed]
            for arm, by_seed in joined.items()
        },
    )


def _read_results(path: Path) -> Results:
    """Read what `_write_results` wrote."""
    return {
        arm: [{split: SplitResult(**result) for split, result in run.items()} for run in runs]
        for arm, runs in read_json(path).items()
    }


def pairs_of_folds(workspace: Workspace) -> tuple[list[Pair], list[Pair]]:
    """Return the pairs of all folds, and the pairs to write for.

    The share of pairs to write for is that of the run. The run's own pairs come first in both lists, in the same order,
    so that the ledger answers for them.
    """
    collection = workspace.collection
    tested = _ids(collection.folds(workspace.config.evaluate.folds), "test")
    whole = replace(collection, splits={**collection.splits, "train": tested})
    pairs = [*workspace.pairs, *(pair for pair in whole.pairs("train") if pair not in workspace.pairs)]
    count = round(len(pairs) * len(workspace.pairs_to_write) / len(workspace.pairs))
    first = workspace.pairs_to_write
    return pairs, [*first, *(pair for pair in pairs if pair not in first)][:count]


def wants_folds(workspace: Workspace) -> bool:
    """Whether `cross_fit` trains in folds with these settings."""
    config = workspace.config
    return config.evaluate.folds >= 2 and workspace.collection.wants_folds and not _compiled(config)


def _compiled(config: Config) -> str:
    """What a run compiles on its train and dev queries, "" for nothing."""
    if config.compile.target == "sampler":
        return "sampler"
    return "program" if config.compile.optimizer != "none" else ""


def _of_all_folds(workspace: Workspace, pairs: list[Pair], mined: dict[str, list[MinedNegative]]) -> Workspace:
    """A workspace in which the pairs of all folds are trained on, for what is read for them."""
    ids = tuple(pair.query_id for pair in pairs)
    whole = replace(workspace.collection, splits={**workspace.collection.splits, "train": ids})
    other = workspace.with_splits_of(whole, RunFolder(workspace.folder / "folds" / "read"), mined)
    other.pairs = pairs
    return other


def _ids(folds: Sequence[Collection], split: str) -> tuple[str, ...]:
    return tuple(sorted({query_id for fold in folds for query_id in fold.splits[split]}))


def _fold(
    workspace: Workspace, fold: Collection, place: int, mined: dict[str, list[MinedNegative]],
    results_of: Callable[[Workspace], Results],
) -> Results:  # fmt: skip
    """Compute the results of one fold in a folder of its own, from which a killed run resumes."""
    folder = RunFolder(workspace.folder / "folds" / str(place + 1))
    workspace.progress.say(f"  fold {place + 1} of {workspace.config.evaluate.folds}")
    return results_of(workspace.with_splits_of(fold, folder, mined))


def _joined(results: Sequence[Mapping[str, SplitResult]]) -> dict[str, SplitResult]:
    """Join each split over the folds. A query that is in dev of several folds gets the mean of its values."""
    joined: dict[str, SplitResult] = {}
    for split in dict.fromkeys(split for result in results for split in result):
        parts = [result[split] for result in results if split in result]
        ranking = {query_id: scores for part in parts for query_id, scores in part.ranking.items()}
        values = {
            metric: {
                query_id: float(
                    np.mean([part.values[metric][query_id] for part in parts if query_id in part.values[metric]])
                )
                for query_id in ranking
            }
            for metric in parts[0].values
        }
        joined[split] = SplitResult(ranking, values)
    return joined
