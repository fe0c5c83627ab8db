"""Run the stages from Python, on names of collections, paths, or data in memory.

    import syneg
    syneg.mine("pairs.csv")                                     → {"q1": [MinedNegative(…), …], …}
    syneg.generate("pairs.csv", settings={"lm.model": "openai/gpt-4o-mini"})  → [{"query_id": "q1", "text": …, …}, …]
    syneg.run("pairs.csv")["sentence"]                          → "Best on dev: hybrid. On test, nDCG@10 …"
    syneg.run([{"query": …, "positive": …}, …], corpus=frame)   rows, DataFrames and Datasets, too

Every function works in a run folder, by default `runs/NAME`. A second call reuses the finished stages in that folder.
`settings` maps dotted keys to values, as listed in docs/settings.md. Settings that are not given are those of the
folder.
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
from syneg.data.memory import Rows, collection_of, dicts, name_of

from .checks import check_folder
from .folder import RunFolder, default_folder
from .pipeline import Run

if TYPE_CHECKING:
    import dspy

Dataset = str | Path | Collection | Rows
Corpus = str | Path | Rows | None
Settings = Mapping[str, Any]
_ARGUMENTS = {"collection.dataset": "dataset", "collection.corpus": "corpus"}


def open_run(
    dataset: Dataset, folder: str | Path | None = None, settings: Settings | None = None, corpus: Corpus = None,
    quiet: bool = True,
) -> Run:  # fmt: skip
    """Open a run over `dataset`: a name, a path, a Collection, or rows in memory (dicts, a DataFrame, a
    datasets.Dataset), each with a query and a positive. `corpus` holds its passages: a file, or rows with a text.

    `settings` changes single settings from those of the run folder, or from the defaults if the folder is new. Raises
    ConfigError for wrong settings and for a folder of another data set, and DataError for unusable rows.
    """
    given = dict(settings or {})
    for key in _ARGUMENTS.keys() & given.keys():
        raise ConfigError(f"{key} is no setting here", todo=f"give it as the argument {_ARGUMENTS[key]!r}")
    if isinstance(dataset, str | Path):
        name = str(dataset)
        if corpus is not None:
            if not isinstance(corpus, str | Path):
                raise ConfigError(
                    "passages in memory go with pairs in memory", todo="read the pairs, too, or name a file"
                )
            given["collection.corpus"] = str(corpus)
    elif isinstance(dataset, Collection):
        name = dataset.name
        if corpus is not None:
            raise ConfigError("a Collection has its own passages", todo="leave out corpus")
        for key in given:
            if key.startswith("collection.") and key != "collection.task":
                raise ConfigError(f"{key} changes nothing in a Collection", todo="give it to load_collection")
    else:
        dataset = dicts(dataset)
        name = name_of(dataset)
    path = Path(folder) if folder else default_folder(name)
    own = RunFolder(path).config
    config = load_config(None, (), {"collection.dataset": name, **given}, base=own if own.is_file() else None)
    if isinstance(dataset, str | Path):
        check_folder(path, config)
        return Run(path, config, Progress(quiet=quiet))
    collection = dataset if isinstance(dataset, Collection) else _collected(dataset, corpus, config)
    return Run(path, config, Progress(quiet=quiet), collection=collection)


def _collected(rows: Rows, corpus: Corpus, config: Config) -> Collection:
    confirm = config.collection.confirm if config.compile.optimizer != "none" else 0.0  # only compiling uses it
    return collection_of(rows, corpus, config.collection.model_copy(update={"confirm": confirm}), config.seed)


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
