"""Check names, files, extras and disk space before a run fetches, mines, calls or writes anything.

check(config, {"lm"})        → nothing, or one error with every problem:
    2 problems before the run:
      unknown program 'nosuch'; known: single_prompt, …
      no such file 'nosuch.jsonl' (generate.given); check the path
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from syneg.core.assets import ASSETS
from syneg.core.config import Config, QueriesConfig, ReaderConfig
from syneg.core.errors import BackendError, ConfigError, DataError, SynegError, collected
from syneg.core.fetch import fetched
from syneg.core.settings import load_config
from syneg.core.storage import cache_home
from syneg.data.tables import look_at, names_a_file
from syneg.data.tasks import task_for
from syneg.retrieval.loading import DEFAULT_OWNER, find_model

from .arms import arms
from .folder import RunFolder
from .lm_checks import is_embedded, wrong_lms

# what data and projects hold, and a run would overwrite or mix with its own
_NOT_ALONE = ("queries.jsonl", "corpus.jsonl", "qrels", "README.md", "mined.jsonl", "negatives.jsonl", "models", "runs")
_SPARE_GB = 1.0  # free disk space for embeddings, models and ledger of a small run


def check(config: Config, asked: Collection[str] = ()) -> None:
    """Raise one error that lists every problem: DataError if only files are missing, else ConfigError.

    `asked` names the sections of the LMs that the stage is sure to call (`Stage.asks`): lm, reader, boundary.
    """
    planned = arms(config)
    missing = list(_files(config))
    models = _opened(config, asked)
    problems = [*missing, *_encoders(config), *_extras(config, models), *_disk([config.encoder.model, *models])]
    if "lm" in asked:
        names = {arm.config.generate.program for arm in planned} | {config.generate.program, config.boundary.program}
        problems += _programs(names) if not config.generate.given else []
        problems += _query_program(config)
    problems += [*_task(config), *_reader_program(config), *_exclusive(config)]
    problems += wrong_lms(config, asked) if models else ()
    if problems:
        kind = DataError if problems == missing else ConfigError
        raise kind(
            problems[0] if len(problems) == 1 else collected(f"{len(problems)} problems before the run", problems)
        )


def check_estimate(config: Config, asked: Collection[str]) -> None:
    """Check the settings before an estimate, which opens no LM. Those in `asked` need a provider, and maybe a price.

    Raises what `check` raises.
    """
    check(config)
    if asked and (problems := list(wrong_lms(config, asked))):
        raise ConfigError("\n".join(problems))


def _exclusive(config: Config) -> Iterator[str]:
    """Yield one problem for each pair of settings of which only one can hold."""
    reader = config.reader
    if reader.given and reader.cross_encoder:
        yield "reader.given and reader.cross_encoder are two readers; leave out one"
    if reader.given and reader.strong:
        yield "reader.strong reads nothing where grades are given; leave out one"
    if reader.second_look == "on" and (reader.given or (reader.cross_encoder and not reader.strong)):
        yield "reader.second_look=on asks an LM, and no LM reads; leave it out, or name reader.strong"
    given = {
        "examples": ("--queries", config.queries.examples),
        "passages": ("--write-queries", config.queries.passages),
    }
    for name, (flag, value) in given.items():
        if config.collection.dataset and value != getattr(QueriesConfig(), name):
            what = f"queries.{name} is for a corpus without pairs, and collection.dataset is"
            yield f"{what} {config.collection.dataset!r}; leave out {flag}, or give --corpus alone"
    if config.generate.given and config.compile.improves("writer"):
        yield "there is nothing to compile: the negatives are given; leave out --given or --optimizer"


def check_folder(folder: Path, config: Config) -> None:
    """Raise ConfigError if the run folder belongs to another data set than `config` names, or holds other files."""
    own = RunFolder(folder).config
    other = next((name for name in _NOT_ALONE if (folder / name).exists()), None)
    if other and not own.is_file():
        raise ConfigError(
            f"{str(folder)!r} holds {other} and is no run folder",
            todo="give a folder for the run alone: --run NAME; --dataset names data",
        )
    before = load_config(own).source if own.is_file() else config.source
    if Path(config.source) != Path(before):
        raise ConfigError(
            f"the run folder {str(folder)!r} belongs to {before!r}, not to {config.source!r}",
            todo="give another folder: --run NAME",
        )


def _files(config: Config) -> Iterator[str]:
    named = {"generate.given": config.generate.given, "reader.given": config.reader.given,
             "queries.examples": config.queries.examples}  # fmt: skip
    for key, name in {**named, "collection.corpus": config.collection.corpus}.items():
        if name and not Path(name).expanduser().is_file():
            yield _no_file(name, key)
    dataset = config.collection.dataset
    if names_a_file(dataset) and not Path(dataset).expanduser().exists():
        yield f"no such file or folder: {dataset!r} (collection.dataset); {look_at(dataset)}"
    if config.executor.replay and not Path(config.executor.replay).expanduser().is_file():
        yield f"no such ledger {config.executor.replay!r} (executor.replay); give the ledger/calls.jsonl of a run"
    model = config.lm.model.removeprefix("local/")
    if config.executor.replay:
        return  # a replay opens no LM
    if config.lm.model.startswith("local/") and model.endswith(".gguf") and not Path(model).expanduser().is_file():
        yield f"no such model file {model!r} (lm.model); check the path after local/"


def _no_file(name: str, key: str) -> str:
    if Path(name).expanduser().is_dir():
        return f"{name!r} is a folder ({key}); name a file in it"
    return f"no such file {name!r} ({key}); {look_at(name)}"


def _task(config: Config) -> Iterator[str]:
    try:
        task_for(config)
    except ConfigError as error:
        yield str(error)


def _encoders(config: Config) -> Iterator[str]:
    """Yield one problem for each model that scores texts and that is in no folder, no cache and not on the hub."""
    encoder, cross = config.encoder, config.reader.cross_encoder if config.reader.use != "off" else None
    try:
        if not is_embedded(encoder.model, "encoder"):
            find_model(encoder.model, encoder.revision, owner=DEFAULT_OWNER)
    except SynegError as error:
        hint = look_at(encoder.model)
        yield f"{error}{f'; {hint}' if hint.startswith('did you mean') else ''} (encoder.model)"
    try:
        if cross:
            find_model(cross, reached=False)  # an estimate does without it; reading says that it cannot be loaded
    except BackendError as error:
        yield f"{error} (reader.cross_encoder)"


def _programs(names: set[str]) -> Iterator[str]:
    from syneg.programs import load_program

    for name in sorted(names - {"auto"}):
        try:
            load_program(name)
        except SynegError as error:
            yield str(error)


def _query_program(config: Config) -> Iterator[str]:
    from syneg.programs import load_query_program

    if config.writes_queries:
        try:
            load_query_program(config.queries.program)
        except SynegError as error:
            yield str(error)


def _reader_program(config: Config) -> Iterator[str]:
    from syneg.programs import load_reader_program

    if config.reader.program == ReaderConfig.model_fields["program"].default:
        return
    try:
        load_reader_program(config.reader.program)
    except SynegError as error:
        yield f"{error} (reader.program)"


def _opened(config: Config, asked: Collection[str]) -> list[str]:
    """Return the models of the writer and of the reader, where the stage is sure to call them."""
    if config.executor.replay:
        return []
    writer = [config.lm.model] if "lm" in asked and not config.generate.given else []
    return [*writer, *([config.reader.beside(config.lm).model] if "reader" in asked else [])]


def _extras(config: Config, models: list[str]) -> Iterator[str]:
    local = any(model.startswith("local/") for model in models)
    wanted = (
        (local, "xllamacpp", "local", "the embedded LLM"),
        (config.compile.optimizer == "mipro", "optuna", "mipro", "the recipe mipro"),
        (config.executor.use == "ray", "ray", "ray", "--executor ray"),
        (config.track.mlflow is not None, "mlflow", "mlflow", "track.mlflow"),
    )
    for needed, module, extra, what in wanted:
        if needed and importlib.util.find_spec(module) is None:
            yield f"{what} is not installed; pip install 'syneg-dspy[{extra}]'"


def _disk(models: list[str]) -> Iterator[str]:
    missing = [ASSETS[name.removeprefix("local/")] for name in models if name.removeprefix("local/") in ASSETS]
    size = sum(file.size for asset in missing if not fetched(asset.name) for file in asset.files.values())
    home = cache_home()
    folder = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    if size + _SPARE_GB * 1e9 > free:
        yield (
            f"{free / 1e9:.1f} GB are free in {folder}, and the run needs {size / 1e9 + _SPARE_GB:.1f}; "
            "make room, or set SYNEG_HOME to a larger disk"
        )
