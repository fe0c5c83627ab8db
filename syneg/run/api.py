"""The path in Python: what the commands do, on names, paths and collections in memory.

    import syneg
    syneg.mine("pairs.csv")                                     → {"q1": [MinedNegative(…), …], …}
    syneg.generate("pairs.csv", settings={"lm.model": "openai/gpt-4o-mini"})     → [{"query_id": "q1", "text": …, "accepted": True, …}, …]
    syneg.run("pairs.csv")["sentence"]                          → "Best on dev: hybrid. On test, nDCG@10 …"

Every function works in a run folder, by default `runs/NAME`, and goes on with what is there: a second call makes
nothing twice. `settings` are dotted keys as in docs/settings.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syneg.core.config import Config
from syneg.core.progress import Progress
from syneg.core.records import MinedNegative
from syneg.core.settings import load_config
from syneg.data.collection import Collection

from .folder import default_folder
from .pipeline import Run

if TYPE_CHECKING:
    import dspy

Dataset = str | Path | Collection
Settings = Mapping[str, Any]


def open_run(
    dataset: Dataset, folder: str | Path | None = None, settings: Settings | None = None, config: Config | None = None, quiet: bool = True
) -> Run:  # fmt: skip
    """A run over `dataset`: a name, a path, or a Collection in memory.

    `config` holds all settings, or `settings` those that are not at their default. Raises ConfigError for what is
    wrong.
    """
    collection = dataset if isinstance(dataset, Collection) else None
    name = collection.name if collection is not None else str(dataset)
    chosen = config or load_config(None, (), {"collection.dataset": name, **(settings or {})})
    path = Path(folder) if folder else default_folder(name)
    return Run(path, chosen, Progress(quiet=quiet), collection=collection)


def mine(
    dataset: Dataset, folder: str | Path | None = None, settings: Settings | None = None
) -> dict[str, list[MinedNegative]]:
    """Mine hard negatives: query_id → passages with source, rank and score."""
    run = open_run(dataset, folder, settings)
    run.until("mine")
    return run.workspace.mined


def generate(
    dataset: Dataset, folder: str | Path | None = None, settings: Settings | None = None
) -> list[dict[str, Any]]:
    """Write synthetic negatives; returns the rows of negatives.jsonl, accepted or not (`row["accepted"]`,
    `row["reason"]`).

    Raises BackendError where the LM cannot be called, BudgetError where a limit ends it.
    """
    run = open_run(dataset, folder, settings)
    run.until("generate")
    return run.negatives.of(run.config.generate.program).rows


def compile_program(
    dataset: Dataset, folder: str | Path | None = None, settings: Settings | None = None
) -> dspy.Module:
    """Optimize the program of the run against retrieval (`compile.optimizer`, by default `search`); returns the program
    that won."""
    run = open_run(dataset, folder, {"compile.optimizer": "search", **(settings or {})})
    run.until("compile")
    from syneg.programs import load_program

    return load_program(str(run.folder.program()))


def train(dataset: Dataset, folder: str | Path | None = None, settings: Settings | None = None) -> dict[str, Path]:
    """Train the encoder of every arm; returns arm and seed, such as "hybrid-0", → the folder of its model."""
    run = open_run(dataset, folder, settings)
    return {name: run.folder.model(name) for name in run.until("train")}


def evaluate(dataset: Dataset, folder: str | Path | None = None, settings: Settings | None = None) -> dict[str, Any]:
    """Rank the whole corpus with every arm; returns arm → per seed {split: {metric: mean over the queries}}."""
    return open_run(dataset, folder, settings).until("evaluate")


def run(dataset: Dataset, folder: str | Path | None = None, settings: Settings | None = None) -> dict[str, Any]:
    """Run the whole path; returns the data of verdict.json. The best model is in `FOLDER/best`, the report in
    `report.html`."""
    return open_run(dataset, folder, settings).until("verdict")
