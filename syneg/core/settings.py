"""Read settings from a TOML file, `--set section.key=value` and flags.

    [generate]
    program = "multi_attribute"
    pairs = 48
                        →   Config(generate=GenerateConfig(program="multi_attribute", pairs=48, …), …)

Settings are checked once, all together. The message for an unknown key suggests the nearest known key.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import ValidationError

from .config import CollectionConfig, Config, Section
from .counts import counted
from .errors import ConfigError, collected, nearest
from .presets import FAST
from .presets import preset as settings_of
from .storage import JsonObject
from .toml import is_cut, toml_value
from .wrong import wrong_settings

NO_KEYS = "no setting holds a key; export the provider's variable, such as OPENAI_API_KEY"
_KEY = re.compile(r"(?:^|[_.-]|api)key$|secret|passw(?:or)?d", re.IGNORECASE)


def asks_for_key(name: str) -> bool:
    """Whether a setting or option of this name, which does not exist, was meant for an API key.

    >>> [asks_for_key(name) for name in ("lm.api_key", "--api-key", "apikey", "generate.keys", "budget.token")]
    [True, True, True, False, False]
    """
    return bool(_KEY.search(name))


def known_keys() -> list[str]:
    """All settings as `section.key`, in the order of docs/settings.md; `seed` has no section."""
    keys: list[str] = []
    for name, info in Config.model_fields.items():
        section = info.annotation
        if isinstance(section, type) and issubclass(section, Section):
            keys += [f"{name}.{key}" for key in section.model_fields]
        else:
            keys.append(name)
    return keys


def load_config(
    path: Path | None = None,
    overrides: Iterable[str] = (),
    flags: Mapping[str, Any] | None = None,
    preset: str | None = None,
    base: Path | None = None,
    *,
    fast: bool = False,
) -> Config:
    """Merge settings from all sources and check them. A later source overrides an earlier one:

    1. `base`, the config.toml of a run folder
    2. `preset`, then the settings of `fast`
    3. `path`, a TOML file
    4. `overrides`, each "section.key=value"
    5. `flags`, dotted key → value; None is skipped

    Raises ConfigError with every problem at once.
    """
    tree, overrides = read_tree(path) if path is not None else {}, tuple(overrides)
    for override in overrides:
        key, sign, value = override.partition("=")
        if not sign:
            raise ConfigError(f"--set {override!r} has no '='", todo="write --set section.key=value")
        _put(tree, key.strip(), typed_value(key, value))
    for key, value in (flags or {}).items():
        if value is not None:
            _put(tree, key, value)
    dataset = tree.get("collection", {}).get("dataset", CollectionConfig().dataset)
    below: JsonObject = {}
    for key, value in [*(settings_of(preset, dataset) if preset else {}).items(), *(FAST if fast else {}).items()]:
        _put(below, key, value)
    tree = _over(below, tree)
    if base is not None:
        own = read_tree(base)
        if not own:  # as a full disk leaves it; the run would go on with the defaults
            raise ConfigError("the settings of the run are empty", where=str(base),
                              todo="delete the file, and give the flags of the run again")  # fmt: skip
        tree = _over(_without_ignored(own), tree)
    alone = path is not None and not overrides and not any(value is not None for value in (flags or {}).values())
    return build_config(tree, where=str(path) if alone else "")


def read_tree(path: Path) -> JsonObject:
    """Read a TOML file as a tree of unchecked settings. Raises ConfigError for a file that cannot be read."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        if is_cut(text):  # its rest would be taken from the defaults
            raise ConfigError("the settings of the run are cut", where=str(path),
                              todo="delete the file, and give the flags of the run again")  # fmt: skip
        return tomllib.loads(text)
    except OSError as error:
        todo = "give a TOML file, as `syneg-dspy init` writes"
        raise ConfigError(f"cannot read the config: {error.strerror}", where=str(path), todo=todo) from error
    except UnicodeDecodeError as error:
        raise ConfigError("the config is not UTF-8", where=str(path), todo="save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not valid TOML: {error}", where=str(path)) from error


def build_config(tree: Mapping[str, Any], *, where: str) -> Config:
    """Check a tree of settings. `where` names the file that they are from, for messages; "" for several sources.

    Raises ConfigError with every problem.
    """
    tree, source = _renamed(tree), f" in {where}" if where else ""
    problems = [
        f"unknown key {key!r}; {NO_KEYS if asks_for_key(key) else nearest(key, known_keys())}" for key in _unknown(tree)
    ]
    if problems:
        raise ConfigError(collected(f"{counted(len(problems), 'unknown setting')}{source}", problems))
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        wrong = wrong_settings(error, Config)
        raise ConfigError(collected(f"{counted(len(wrong), 'wrong setting')}{source}", wrong)) from error
    if not config.source.strip():
        raise ConfigError("collection.dataset is empty", todo="name a file, a folder or a data set")
    shares = config.collection.dev + config.collection.confirm + config.collection.test
    if shares >= 1:
        raise ConfigError(f"collection.dev + confirm + test = {shares:g}", todo="leave something to train on")
    part, parts = map(int, config.generate.shard.split("/"))
    if part > parts:
        raise ConfigError(f"generate.shard = {config.generate.shard}: only {parts} shards exist")
    if 0 < config.train.patience >= config.train.evals:
        raise ConfigError(
            f"train.patience = {config.train.patience} stops nothing with train.evals = {config.train.evals}",
            todo="set more evals",
        )
    if 0 < config.train.remine >= config.train.epochs:
        raise ConfigError(
            f"train.remine = {config.train.remine} leaves none of train.epochs = {config.train.epochs:g} to train on "
            "what is mined again",
            todo="set more epochs",
        )
    if config.train.teacher != "base" and not config.train.distil:
        raise ConfigError(
            f"train.teacher = {config.train.teacher} teaches nothing with train.distil = 0", todo="set train.distil=1"
        )
    if config.train.teacher != "base" and config.train.guide:
        raise ConfigError("train.guide goes by the untuned encoder, and so must train.teacher", todo="leave out one")
    if config.compile.test and config.compile.target != "reader":
        raise ConfigError(
            "compile.test is for --target reader", todo="leave it out: the verdict of a run tests its arms"
        )
    if config.mine.first_rank > config.mine.last_rank:
        raise ConfigError(f"mine.first_rank {config.mine.first_rank} is after mine.last_rank {config.mine.last_rank}")
    return config


def settings_page() -> str:
    """The text of docs/settings.md: one Markdown table per section, with default and description of each setting."""
    lines = [
        "# Settings", "",
        (
            "Give settings in a TOML file (`--config my.toml`) or one by one (`--set train.epochs=2`). `syneg-dspy "
            "settings` prints this page."
        ), "",
    ]  # fmt: skip
    for name, info in Config.model_fields.items():
        section = info.annotation
        if not (isinstance(section, type) and issubclass(section, Section)):
            lines += [f"`{name}` (default `{toml_value(info.default)}`): {info.description}", ""]
            continue
        lines += [
            f"## {name}",
            "",
            " ".join((section.__doc__ or "").split()),
            "",
            "| setting | default | meaning |",
            "|---|---|---|",
        ]
        for key, field in section.model_fields.items():
            value = field.get_default(call_default_factory=True)
            default = "" if value is None else f"`{toml_value(value)}`"
            lines.append(f"| `{name}.{key}` | {default} | {(field.description or '').replace('|', '&#124;')} |")
        lines.append("")
    return "\n".join(lines)


_RENAMED = {"compile.reflection": "reflection.model", "compile.reflection_tokens": "reflection.max_tokens"}

_DROPPED = ("compile.near",)


def _renamed(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rename settings of earlier versions, and drop settings that no longer exist."""
    for old, new in (*_RENAMED.items(), *((name, "") for name in _DROPPED)):
        section, _, name = old.partition(".")
        branch = tree.get(section)
        if isinstance(branch, Mapping) and name in branch:
            below: JsonObject = {}
            if new:
                _put(below, new, branch[name])
            rest = {key: value for key, value in branch.items() if key != name}
            tree = _over(below, {**tree, section: rest})
    return tree


def _without_ignored(own: JsonObject) -> JsonObject:
    """The settings of a run folder without those that an earlier version ignored beside a data set."""
    if not own.get("collection", {}).get("dataset"):
        return own
    return {**own, "queries": {k: v for k, v in own.get("queries", {}).items() if k not in ("passages", "examples")}}


def _unknown(tree: Mapping[str, Any]) -> Iterator[str]:
    known = known_keys()
    for name, value in tree.items():
        if isinstance(value, Mapping) and any(key.startswith(f"{name}.") for key in known):
            yield from (f"{name}.{key}" for key in value if f"{name}.{key}" not in known)
        elif isinstance(value, Mapping) and value:
            yield from (f"{name}.{key}" for key in value)
        elif name not in known and not any(key.startswith(f"{name}.") for key in known):
            yield name


def _put(tree: JsonObject, key: str, value: Any) -> None:
    *sections, name = key.split(".")
    branch = tree
    for section in sections:
        branch = branch.setdefault(section, {})
        if not isinstance(branch, dict):
            raise ConfigError(f"{section!r} is not a section", todo=f"known: {', '.join(Config.model_fields)}")
    branch[name] = value


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> JsonObject:
    """Merge two trees of settings; a value in `above` overrides the one in `below`."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _over(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def read_value(text: str) -> Any:
    """Parse text as a TOML value (3, 0.5, true, [1, 2]); return text that is no TOML value unchanged."""
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def typed_value(key: str, text: str) -> Any:
    """The value of `--set key=text`. A setting of type text keeps the text unchanged, with spaces at its end.

    >>> typed_value("encoder.query_prompt", "query: "), typed_value("collection.task", "2024-01-01")
    ('query: ', '2024-01-01')
    >>> typed_value("collection.task", '"in quotation marks"'), typed_value("train.epochs", " 2 ")
    ('in quotation marks', 2)
    >>> typed_value("train.arms", '["mined"]')
    ['mined']
    """
    value = read_value(text.strip())
    if isinstance(value, str) and value != text.strip():  # the text stood in TOML's quotation marks
        return value
    text = text.strip() if key.endswith(" ") else text  # written "key = value", so the first space is not part of it
    return text if _is_text(key.strip()) else value


def _is_text(key: str) -> bool:
    """Whether a setting is of type text, and not a list or a table of texts."""
    section, _, name = key.rpartition(".")
    model = Config.model_fields[section].annotation if section in Config.model_fields else Config
    info = getattr(model, "model_fields", {}).get(name)
    if info is not None and get_origin(info.annotation) in (tuple, dict):
        return False
    kinds = {info.annotation, *get_args(info.annotation)} if info is not None else set()
    return str in {get_args(kind)[0] if get_origin(kind) is Annotated else kind for kind in kinds}
