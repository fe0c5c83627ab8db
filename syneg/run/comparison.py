"""Read finished run folders, for a comparison.

sides([Path("runs/pairs"), Path("runs/pairs-2")])[0] → Side(name="pairs", verdict=Verdict(…), …)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from syneg.core.config import Config
from syneg.core.settings import load_config
from syneg.core.storage import read_json
from syneg.verdict.comparison import Side
from syneg.verdict.records import BASE, Verdict

from .arms import named
from .current import check_current
from .evidence import times
from .folder import RunFolder
from .manifest import check_files


def sides(folders: Sequence[Path]) -> list[Side]:
    """Read finished runs. A run is named after its folder, or by its path if another folder has the same name.

    Raises DataError if a folder has no verdict, or evaluations that are not as they were written.
    """
    names = [folder.name for folder in folders]
    return [
        side(RunFolder(folder), name if names.count(name) == 1 else str(folder))
        for folder, name in zip(folders, names, strict=True)
    ]


def side(folder: RunFolder, name: str) -> Side:
    """Read a finished run and call it `name`. Raises DataError if it has no verdict, or one of other settings."""
    check_current(folder)
    verdict, config = Verdict.from_json(read_json(folder.verdict)), load_config(folder.config)
    return Side(name, verdict, dict(_flat(config)), _values(folder, verdict, config), times(folder.events))


def _flat(config: Config) -> Mapping[str, Any]:
    tree = config.model_dump()
    sections = {key: values for key, values in tree.items() if isinstance(values, dict)}
    flat = {f"{section}.{key}": value for section, values in sections.items() for key, value in values.items()}
    return flat | {key: value for key, value in tree.items() if key not in sections}


def _values(folder: RunFolder, verdict: Verdict, config: Config) -> dict[str, float]:
    """Return query_id → main metric of the best arm on test, mean over its seeds."""
    values: dict[str, list[float]] = defaultdict(list)
    for run in _best_runs(folder, verdict, config):
        for query_id, value in run.get("test", {}).get("values", {}).get(verdict.metric, {}).items():
            values[query_id].append(value)
    return {query_id: float(np.mean(scores)) for query_id, scores in values.items()}


def _best_runs(folder: RunFolder, verdict: Verdict, config: Config) -> list[Mapping[str, Any]]:
    """The results of the best arm, one for each seed, as the verdict has them: over all folds of a cross-fitted run."""
    best = verdict.best
    if verdict.folds:
        check_files(folder, [folder.folds])
        return list((read_json(folder.folds) or {}).get(best, ()))
    names = [BASE] if best == BASE else [named(best, config).file_name(s) for s in verdict.arms[best].test_by_seed]
    check_files(folder, [folder.evaluation(name) for name in names])
    return [read_json(folder.evaluation(name)) or {} for name in names]
