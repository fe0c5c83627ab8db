"""Check the LMs of a run before it reads data or makes a call: their providers, API keys and prices.

    check_keys(config, {"lm"})           → ConfigError: no key: OPENAI_API_KEY (for lm.model) is not set; …
    list(wrong_lms(config, {"lm"}))      → ["the price of 'openai/own' is unknown, so --budget-usd … (lm.model)"]

`asked` names the sections of the LMs that a stage is sure to call (`Stage.asks`): lm, reader, boundary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from syneg.core.config import Config, LMConfig
from syneg.core.errors import ConfigError
from syneg.core.fetch import asset_named
from syneg.llm.addresses import provider_of
from syneg.llm.api_keys import missing_key
from syneg.llm.prices import dollars
from syneg.llm.role_settings import (
    all_roles,
    boundary_settings,
    judge_settings,
    reader_settings,
    reflection_settings,
    setting_of,
)

_SETTINGS: Mapping[str, Callable[[Config], LMConfig]] = {  # by the section that a stage asks for
    "lm": lambda config: config.lm,
    "reader": reader_settings,
    "boundary": boundary_settings,
}


def check_keys(config: Config, asked: Collection[str]) -> None:
    """Raise ConfigError if the API key of an LM that the stage is sure to call is missing. Loads no heavy library.

    The judge and the LM that proposes instructions are found from the settings.
    """
    missing = {section: key for section, lm in _called(config, asked).items() if (key := missing_key(lm))}
    if missing:
        names = ", ".join(f"{key} (for {section}.model)" for section, key in missing.items())
        first = next(iter(missing.values()))
        raise ConfigError(
            f"no key: {names} is not set", todo=f"export {first}=…, or give --api-base for a server of your own"
        )


def wrong_lms(config: Config, asked: Collection[str]) -> Iterator[str]:
    """Yield one problem for each LM with an unknown provider, and for each without a price if dollars are limited.

    Loads litellm for a hosted LM.
    """
    if config.executor.replay:
        return
    wrong = list(_wrong_providers(config))
    yield from wrong or _unpriced(config, asked)


def is_embedded(model: str, kind: str) -> bool:
    """Whether a model is an embedded one. `kind` is "llm" or "encoder".

    Raises ConfigError for an unknown name, and for a model of the other kind.
    """
    if model.startswith("local/") and not model.endswith(".gguf") and asset_named(model).kind != kind:
        if kind == "encoder":
            raise ConfigError(f"{model!r} is an LM, not an encoder", todo="use local/minilm")
        raise ConfigError(f"{model!r} is an encoder, not an LM", todo="use local/qwen2.5-coder-1.5b")
    return model.startswith("local/")


def _called(config: Config, asked: Collection[str]) -> dict[str, LMConfig]:
    """Return the LMs that a stage is sure to call, by the section that names them; each model once."""
    if config.executor.replay or not asked:
        return {}
    lms = {section: _SETTINGS[section](config) for section in sorted(asked)}
    if config.generate.given:
        lms.pop("lm", None)
    if config.compile.improves("reader"):
        lms["reader"] = reader_settings(config)
    if config.judge.use == "on" and "lm" in asked:
        lms["judge"] = judge_settings(config)
    if config.compile.optimizer != "none" and config.compile.target != "sampler":
        lms["reflection"] = reflection_settings(config)
    if "lm" in lms and "reader" in lms and lms["reader"].model == config.lm.model:
        del lms["reader"]
    return lms


def _limited(config: Config, asked: Collection[str]) -> dict[str, str]:
    """Return setting → model of the LMs that a limit in dollars is for: those called, and those that may be."""
    models = {f"{section}.model": lm.model for section, lm in _called(config, asked).items()}
    if "lm" in asked and config.judge.use == "auto" and config.judge.model:
        models["judge.model"] = config.judge.model
    if "reader" in asked and config.reader.strong:
        models["reader.strong"] = config.reader.strong
    return models


def _wrong_providers(config: Config) -> Iterator[str]:
    named: dict[str, str] = {}  # each model, and the first setting that names it
    for role, lm in all_roles(config).items():
        named.setdefault(lm.model, setting_of(role))
    for model, key in named.items():
        try:
            if is_embedded(model, "llm"):
                continue
        except ConfigError as error:
            yield f"{error} ({key})"
            continue
        try:
            provider_of(model, key)
        except ConfigError as error:
            yield str(error)


def _unpriced(config: Config, asked: Collection[str]) -> Iterator[str]:
    """Yield one problem for each LM whose dollars are limited and whose price is unknown."""
    models = _limited(config, asked)
    if config.budget.usd:
        limit, todo = "--budget-usd", "--budget-calls, --budget-tokens"
    elif config.compile.usd and "reflection.model" in models:
        limit, todo = "compile.usd", "compile.calls, compile.tokens"
        program = "reader.model" if config.compile.target == "reader" else "lm.model"
        models = {key: model for key, model in models.items() if key in (program, "reflection.model")}
    else:
        return
    for key, model in models.items():
        if dollars(model, 1, 1) is None:
            what = f"the price of {model!r} is unknown, so {limit} cannot limit it"
            yield f"{what}; limit calls or tokens instead: {todo} ({key})"
