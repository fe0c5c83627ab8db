"""Check names, files, extras and disk space before a run fetches, mines, calls or writes anything.

check(config, writes=True)   → nothing, or one error with every problem:
    2 problem(s) before the run:
      unknown program 'nosuch'; known: single_prompt, …
      no such file 'nosuch.jsonl' (generate.given); check the path
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from syneg.core.assets import ASSETS
from syneg.core.config import Config
from syneg.core.errors import ConfigError, DataError, SynegError, collected
from syneg.core.fetch import fetched
from syneg.core.settings import load_config
from syneg.core.storage import cache_home
from syneg.data.tables import names_a_file
from syneg.llm.api_keys import missing_key

from .arms import arms
from .folder import RunFolder

_SPARE_GB = 1.0  # free disk space for embeddings, models and ledger of a small run


def check(config: Config, *, writes: bool) -> None:
    """Raise one error that lists every problem: DataError if only files are missing, else ConfigError.

    `writes`: the stage needs the writer, so its programs are checked, too.
    """
    planned = arms(config)
    missing = list(_files(config))
    problems = [*missing, *_extras(config, writes=writes), *_disk(config, writes=writes)]
    if writes:
        names = {arm.config.generate.program for arm in planned} | {config.generate.program, config.boundary.program}
        problems += _programs(names) if not config.generate.given else []
        problems += _query_program(config)
    if config.reader.given and config.reader.cross_encoder:
        problems.append("reader.given and reader.cross_encoder are two readers; leave out one")
    if config.reader.given and config.reader.strong:
        problems.append("reader.strong reads nothing where grades are given; leave out one")
    if config.generate.given and config.compile.improves("writer"):
        problems.append("there is nothing to compile: the negatives are given; leave out --given or --optimizer")
    if problems:
        kind = DataError if problems == missing else ConfigError
        raise kind(
            problems[0] if len(problems) == 1 else collected(f"{len(problems)} problem(s) before the run", problems)
        )


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
            yield f"no such file {name!r} ({key}); check the path"
    if names_a_file(config.collection.dataset) and not Path(config.collection.dataset).expanduser().exists():
        yield f"no such file or folder: {config.collection.dataset!r} (collection.dataset); check the path"
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


def _extras(config: Config, *, writes: bool) -> Iterator[str]:
    asked = writes and not config.generate.given and not config.executor.replay
    local = asked and config.lm.model.startswith("local/")
    wanted = (
        (local, "xllamacpp", "local", "the embedded LLM"),
        (config.compile.optimizer == "mipro", "optuna", "mipro", "the recipe mipro"),
        (config.executor.use == "ray", "ray", "ray", "--executor ray"),
        (config.track.mlflow is not None, "mlflow", "mlflow", "track.mlflow"),
    )
    for needed, module, extra, what in wanted:
        if needed and importlib.util.find_spec(module) is None:
            yield f"{what} is not installed; pip install 'syneg-dspy[{extra}]'"


def _disk(config: Config, *, writes: bool) -> Iterator[str]:
    asked = writes and not config.generate.given and not config.executor.replay
    models = [config.encoder.model, *([config.lm.model] if asked else [])]
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
