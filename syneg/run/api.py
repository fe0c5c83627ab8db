"""The path in Python: what the commands do, on names, paths and data in memory.

    import syneg
    syneg.mine("pairs.csv")                                     → {"q1": [MinedNegative(…), …], …}
    syneg.generate("pairs.csv", settings={"lm.model": "openai/gpt-4o-mini"})  → [{"query_id": "q1", "text": …, …}, …]
    syneg.run("pairs.csv")["sentence"]                          → "Best on dev: hybrid. On test, nDCG@10 …"
    syneg.run([{"query": …, "positive": …}, …], corpus=frame)   rows, DataFrames and Datasets as well as files

Every function works in a run folder, by default `runs/NAME`, and goes on with what is there: a second call makes
nothing twice. `settings` are dotted keys as in docs/settings.md.
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
    """A run over `dataset`: a name, a path, a Collection, or rows in memory (dicts, a DataFrame, a datasets.Dataset)
    with a query and a positive. `corpus` are its passages: a file, or rows with a text.

    `config` holds all settings, or `settings` those that are not at their default. Raises ConfigError for what is
    wrong, and DataError for rows that cannot be used.
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
    """Mine hard negatives: query_id → passages with source, rank and score."""
    run = open_run(dataset, folder, settings, corpus)
    run.until("mine")
    return run.workspace.mined


def read(
    dataset: Dataset, folder: str | Path | None = None, settings: Settings | None = None, corpus: Corpus = None
) -> dict[str, dict[str, int]]:
    """Let the reader grade the passages near each train query: query_id → doc_id → grade, 3 for one that answers. Empty
    where the reader is not trusted (`FOLDER/reader.json` says how it did).

    Raises BackendError where the LM cannot be called, BudgetError where a limit ends it.
    """
    run = open_run(dataset, folder, settings, corpus)
    return run.readings.grades if "read" in run.until("read") else {}


def generate(
    dataset: Dataset, folder: str | Path | None = None, settings: Settings | None = None, corpus: Corpus = None
) -> list[JsonObject]:
    """Write synthetic negatives; returns the rows of negatives.jsonl, accepted or not (`row["accepted"]`,
    `row["reason"]`).

    Raises BackendError where the LM cannot be called, BudgetError where a limit ends it.
    """
    run = open_run(dataset, folder, settings, corpus)
    run.until("generate")
    return run.negatives.of(run.config.generate.program).rows


def compile_program(
    dataset: Dataset, folder: str | Path | None = None, settings: Settings | None = None, corpus: Corpus = None
) -> dspy.Module:
    """Optimize the program of the run against retrieval (`compile.optimizer`, by default `search`); returns the program
    that won."""
    run = open_run(dataset, folder, {"compile.optimizer": "search", **(settings or {})}, corpus)
    run.until("compile")
    from syneg.programs import load_program

    return load_program(str(run.folder.program()))


def train(
    dataset: Dataset, folder: str | Path | None = None, settings: Settings | None = None, corpus: Corpus = None
) -> dict[str, Path]:
    """Train the encoder of every arm; returns arm and seed, such as "hybrid-0", → the folder of its model."""
    run = open_run(dataset, folder, settings, corpus)
    return {name: run.folder.model(name) for name in run.until("train")}


def evaluate(
    dataset: Dataset, folder: str | Path | None = None, settings: Settings | None = None, corpus: Corpus = None
) -> JsonObject:
    """Rank the whole corpus with every arm; returns arm → per seed {split: {metric: mean over the queries}}."""
    return open_run(dataset, folder, settings, corpus).until("evaluate")


def run(
    dataset: Dataset, folder: str | Path | None = None, settings: Settings | None = None, corpus: Corpus = None
) -> JsonObject:
    """Run the whole path; returns the data of verdict.json. The best model is in `FOLDER/best`, the report in
    `report.html`."""
    return open_run(dataset, folder, settings, corpus).until("verdict")
