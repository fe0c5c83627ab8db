"""Check names, files, extras and disk space before a run fetches, mines, calls or writes anything.

check(config, writes=True)   → nothing, or one error with every problem:
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
from syneg.core.config import Config, ReaderConfig
from syneg.core.errors import ConfigError, DataError, SynegError, collected
from syneg.core.fetch import asset_named, fetched
from syneg.core.settings import load_config
from syneg.core.storage import cache_home
from syneg.data.tables import look_at, names_a_file
from syneg.llm.addresses import provider_of
from syneg.llm.api_keys import missing_key

from .arms import arms
from .folder import RunFolder

_SPARE_GB = 1.0  # free disk space for embeddings, models and ledger of a small run


def check(config: Config, *, writes: bool, reads: bool = False) -> None:
    """Raise one error that lists every problem: DataError if only files are missing, else ConfigError.

    `writes`: the stage needs the writer, so its programs are checked, too. `reads`: it needs the LM of the reader.
    """
    planned = arms(config)
    missing = list(_files(config))
    models = _asked(config, writes=writes, reads=reads)
    problems = [*missing, *_extras(config, models), *_disk([config.encoder.model, *models])]
    if writes:
        names = {arm.config.generate.program for arm in planned} | {config.generate.program, config.boundary.program}
        problems += _programs(names) if not config.generate.given else []
        problems += _query_program(config)
    problems += [*_encoder(config), *_reader_program(config), *(wrong_providers(config) if models else ())]
    if config.reader.given and config.reader.cross_encoder:
        problems.append("reader.given and reader.cross_encoder are two readers; leave out one")
    if config.reader.given and config.reader.strong:
        problems.append("reader.strong reads nothing where grades are given; leave out one")
    if config.generate.given and config.compile.improves("writer"):
        problems.append("there is nothing to compile: the negatives are given; leave out --given or --optimizer")
    if problems:
        kind = DataError if problems == missing else ConfigError
        raise kind(
            problems[0] if len(problems) == 1 else collected(f"{len(problems)} problems before the run", problems)
        )


def check_estimate(config: Config, *, asks: bool) -> None:
    """Check the settings before an estimate, which needs no LM. `asks`: it counts calls, so providers are checked, too.

    Raises what `check` raises.
    """
    check(config, writes=False)
    if asks and (problems := list(wrong_providers(config))):
        raise ConfigError("\n".join(problems))


def check_folder(folder: Path, config: Config) -> None:
    """Raise ConfigError if the run folder belongs to another data set than `config` names."""
    own = RunFolder(folder).config
    before = load_config(own).source if own.is_file() else config.source
    if Path(config.source) != Path(before):
        raise ConfigError(
            f"the run folder {str(folder)!r} belongs to {before!r}, not to {config.source!r}",
            todo="give another folder: --run NAME",
        )


def check_keys(config: Config, asked: Collection[str]) -> None:
    """Raise ConfigError if the API key of an LM that the stage is sure to call is missing. Loads no heavy library.

    `asked` names the sections of the LMs that run a program (`Stage.asks`). Their judge and the LM that proposes
    instructions are found from the settings.
    """
    if config.executor.replay or not asked:
        return
    lms = {name: config.lm if name == "lm" else config.reader.beside(config.lm) for name in asked}
    if config.generate.given:
        lms.pop("lm", None)
    if config.compile.improves("reader"):
        lms["reader"] = config.reader.beside(config.lm)
    if config.judge.use == "on" and "lm" in asked:
        lms["judge"] = config.judge.beside(config.lm)
    if config.compile.optimizer != "none" and config.compile.target != "sampler":
        lms["reflection"] = config.reflection.beside(config.lm)
    if "lm" in lms and "reader" in lms and lms["reader"].model == config.lm.model:
        del lms["reader"]
    missing = {section: key for section, lm in lms.items() if (key := missing_key(lm))}
    if missing:
        names = ", ".join(f"{key} (for {section}.model)" for section, key in missing.items())
        first = next(iter(missing.values()))
        raise ConfigError(
            f"no key: {names} is not set", todo=f"export {first}=…, or give --api-base for a server of your own"
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
    encoder = Path(config.encoder.model).expanduser()
    if config.encoder.model.startswith((".", "/", "~")) and not encoder.is_dir():
        todo = "give a model on disk, on the hub, or local/minilm"
        yield f"no such folder {config.encoder.model!r} (encoder.model); {todo}"
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


def wrong_providers(config: Config) -> Iterator[str]:
    """Yield one problem for each LM of the settings whose provider is unknown. Loads litellm for a hosted LM."""
    if config.executor.replay:
        return
    models = {"lm.model": config.lm.model, "judge.model": config.judge.model, "reader.model": config.reader.model,
              "reader.strong": config.reader.strong, "reflection.model": config.reflection.model,
              "boundary.model": config.boundary.model}  # fmt: skip
    for key, model in models.items():
        try:
            _ = model and (_embedded(model) or provider_of(model, key))
        except ConfigError as error:
            yield str(error)


def _embedded(model: str) -> bool:
    """Whether a model is an embedded one. Raises ConfigError for an unknown name."""
    if model.startswith("local/") and not model.endswith(".gguf"):
        asset_named(model)
    return model.startswith("local/")


def _encoder(config: Config) -> Iterator[str]:
    try:
        _embedded(config.encoder.model)
    except ConfigError as error:
        yield f"{error} (encoder.model)"


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


def _asked(config: Config, *, writes: bool, reads: bool) -> list[str]:
    """Return the models of the writer and of the reader, where the stage is sure to call them."""
    if config.executor.replay:
        return []
    writer = [config.lm.model] if writes and not config.generate.given else []
    return [*writer, *([config.reader.beside(config.lm).model] if reads else [])]


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
