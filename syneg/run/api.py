"""Run the stages from Python, on names of collections, paths, or data in memory.

    import syneg
    syneg.mine("pairs.csv")                                     → {"q1": [MinedNegative(…), …], …}
    syneg.generate("pairs.csv", settings={"lm.model": "openai/gpt-4o-mini"})  → [{"query_id": "q1", "text": …, …}, …]
    syneg.run("pairs.csv")["sentence"]                          → "Best on dev: hybrid. On test, nDCG@10 …"
    syneg.run([{"query": …, "positive": …}, …], corpus=frame)   rows, DataFrames and Datasets, too

Every function works in a run folder, by default `runs/NAME`. A second call reuses the finished stages in that folder.
`settings` maps dotted keys to values, as listed in docs/settings.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syneg.core.config import Config
from syneg.core.errors import ConfigError
from syneg.core.progress import Progress
from syneg.core.records import MinedNegative
from syneg.core.settings import load_config
from syneg.core.storage import JsonObject
from syneg.data.collection import Collection
from syneg.data.memory import Rows, collection_of

from .folder import default_folder
from .pipeline import Run

if TYPE_CHECKING:
    import dspy

Dataset = str | Path | Collection | Rows
Corpus = str | Path | Rows | None
Settings = Mapping[str, Any]


def open_run(
    dataset: Dataset, folder: str | Path | None = None, settings: Settings | None = None, corpus: Corpus = None,
    config: Config | None = None, quiet: bool = True,
) -> Run:  # fmt: skip
    """Open a run over `dataset`: a name, a path, a Collection, or rows in memory (dicts, a DataFrame, a
    datasets.Dataset), each with a query and a positive. `corpus` holds its passages: a file, or rows with a text.

    `settings` changes single settings from their defaults; `config` gives all of them and takes their place. Raises
    ConfigError for wrong settings, and DataError for unusable rows.
    """
    collection: Collection | None = None
    given = dict(settings or {})
    if isinstance(dataset, str | Path):
        name = str(dataset)
        if corpus is not None:
            if not isinstance(corpus, str | Path):
                raise ConfigError(
                    "passages in memory go with pairs in memory", todo="read the pairs, too, or name a file"
                )
            given["collection.corpus"] = str(corpus)
    elif isinstance(dataset, Collection):
        collection, name = dataset, dataset.name
    else:
        plain = config or load_config(None, (), {"collection.dataset": "rows", **given})
        confirm = plain.collection.confirm if plain.compile.optimizer != "none" else 0.0  # only compiling uses it
        collection = collection_of(
            dataset, corpus, plain.collection.model_copy(update={"confirm": confirm}), plain.seed
        )
        name = collection.name
    chosen = config or load_config(None, (), {"collection.dataset": name, **given})
    path = Path(folder) if folder else default_folder(name)
    return Run(path, chosen, Progress(quiet=quiet), collection=collection)


def mine(
    dataset: Dataset, folder: str | Path | None = None, settings: Settings | None = None, corpus: Corpus = None
) -> dict[str, list[MinedNegative]]:
    """Mine hard negatives; return query_id → passages with source, rank and score."""
    run = open_run(dataset, folder, settings, corpus)
    run.until("mine")
    return run.workspace.mined


def read(
    dataset: Dataset, folder: str | Path | None = None, settings: Settings | None = None, corpus: Corpus = None
) -> dict[str, dict[str, int]]:
    """Let the reader grade the passages near each train query; return query_id → doc_id → grade.

    Grade 3 means that the passage answers the query. Empty if the reader is not trusted; `FOLDER/reader.json` holds
    its scores. Raises BackendError if the LM cannot be called, and BudgetError if a limit stops the run.
    """
    run = open_run(dataset, folder, settings, corpus)
    return run.readings.grades if "read" in run.until("read") else {}


def generate(
    dataset: Dataset, folder: str | Path | None = None, settings: Settings | None = None, corpus: Corpus = None
) -> list[JsonObject]:
    """Write synthetic negatives; return the rows of negatives.jsonl.

    `row["accepted"]` says whether the gates accept a negative, `row["reason"]` why they reject it. Raises BackendError
    if the LM cannot be called, and BudgetError if a limit stops the run.
    """
    run = open_run(dataset, folder, settings, corpus)
    run.until("generate")
    return run.negatives.of(run.config.generate.program).rows


def compile_program(
    dataset: Dataset, folder: str | Path | None = None, settings: Settings | None = None, corpus: Corpus = None
) -> dspy.Module:
    """Optimize the run's program for retrieval with `compile.optimizer`, by default `search`; return the winner.

    The winner is the author's program if no candidate beats it.
    """
    run = open_run(dataset, folder, {"compile.optimizer": "search", **(settings or {})}, corpus)
    run.until("compile")
    from syneg.programs import load_program

    return load_program(str(run.folder.program()))


def train(
    dataset: Dataset, folder: str | Path | None = None, settings: Settings | None = None, corpus: Corpus = None
) -> dict[str, Path]:
    """Train one encoder per arm and seed; return "ARM-SEED", such as "hybrid-0", → the folder of its model."""
    run = open_run(dataset, folder, settings, corpus)
    return {name: run.folder.model(name) for name in run.until("train")}


def evaluate(
    dataset: Dataset, folder: str | Path | None = None, settings: Settings | None = None, corpus: Corpus = None
) -> JsonObject:
    """Rank the whole corpus with every arm; return arm → one {split: {metric: mean over queries}} per seed."""
    return open_run(dataset, folder, settings, corpus).until("evaluate")


def run(
    dataset: Dataset, folder: str | Path | None = None, settings: Settings | None = None, corpus: Corpus = None
) -> JsonObject:
    """Run all stages; return the data of verdict.json. The best model is in `FOLDER/best`, the report in
    `FOLDER/report.html`."""
    return open_run(dataset, folder, settings, corpus).until("verdict")
