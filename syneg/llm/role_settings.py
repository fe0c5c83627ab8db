"""The settings of each LM of a run, by its role. Loads no heavy library.

    all_roles(load_config(None, ["lm.model=openai/gpt-4o-mini", "reader.strong=openai/gpt-4o"]))
      → {"writer": LMConfig(model="openai/gpt-4o-mini", …), "judge": …, "reader": …, "reflection": …,
         "strong reader": LMConfig(model="openai/gpt-4o", …)}

What a role's own section lacks is taken from the writer's.
"""

from __future__ import annotations

from syneg.core.config import Config, LMConfig, RoleLM

SECTIONS = {"writer": "lm", "strong reader": "reader"}  # the section of each role in the settings, if not its name


def setting_of(role: str) -> str:
    """Return the setting that names the LM of a role.

    >>> [setting_of(role) for role in ("writer", "judge", "strong reader")]
    ['lm.model', 'judge.model', 'reader.strong']
    """
    return "reader.strong" if role == "strong reader" else f"{SECTIONS.get(role, role)}.model"


def all_roles(config: Config) -> dict[str, LMConfig]:
    """Map each role to the settings of its LM. `boundary` and `strong reader` are left out if no setting names them."""
    lms = {
        "writer": config.lm,
        "judge": judge_settings(config),
        "reader": reader_settings(config),
        "reflection": reflection_settings(config),
    }
    if config.boundary.model:
        lms["boundary"] = boundary_settings(config)
    if config.reader.strong:
        lms["strong reader"] = strong_reader_settings(config)
    return lms


def judge_settings(config: Config) -> LMConfig:
    """Settings of the judge's LM. Its temperature is 0, or 1 if the writer's is: reasoning models accept only 1."""
    return config.judge.beside(config.lm, temperature=float(config.lm.temperature == 1))


def reader_settings(config: Config) -> LMConfig:
    """Settings of the reader's LM, with the temperature of the judge."""
    return config.reader.beside(config.lm, temperature=float(config.lm.temperature == 1), max_tokens=0)


def strong_reader_settings(config: Config) -> LMConfig:
    """The settings of the LM for lists in doubt: those of the reader's with a model and an address of its own.

    Limits of rate and further parameters are the reader's only where the provider is the same.
    """
    cheap, model = reader_settings(config), config.reader.strong
    reader = config.reader.model_copy(update={"model": model, "api_base": config.reader.strong_api_base})
    if model is not None and model.partition("/")[0] != cheap.model.partition("/")[0]:
        reader = reader.model_copy(update={"max_rpm": None, "max_tpm": None, "extra": None})
    return reader_settings(config.model_copy(update={"reader": reader}))


def boundary_settings(config: Config) -> LMConfig:
    """Settings of the LM that writes near-misses: the writer's, or those of an LM of its own."""
    own = config.boundary
    return config.lm if own.model is None else RoleLM(model=own.model, api_base=own.api_base).beside(config.lm)


def reflection_settings(config: Config) -> LMConfig:
    """Settings of the reflection LM, which proposes instructions at temperature 1."""
    return config.reflection.beside(config.lm, temperature=1.0, max_tokens=0)


def endpoint_of(lm: LMConfig) -> tuple[object, ...]:
    """The settings in which two LMs must agree to share an endpoint."""
    return lm.model, lm.api_base, lm.engine, sorted(lm.extra.items(), key=str)
