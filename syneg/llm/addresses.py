"""Resolve the address of an LM: write out the address that litellm would take from the environment.

    OPENAI_BASE_URL=http://host:8000/v1
    connected(LMConfig(model="openai/qwen3")).api_base → "http://host:8000/v1"
    identity_of(LMConfig(model="openai/qwen3"))        → "openai/qwen3@http://host:8000/v1"

The address is part of every ledger key, so that two servers never share an answer. Secrets are not part of a key. A
`$NAME` in an address or in `extra` is replaced here, and the replaced value is never written to disk.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from syneg.core.config import LMConfig
from syneg.core.errors import ConfigError, misspelled
from syneg.core.records import fingerprint
from syneg.core.secrets import MASK, REFERENCE, is_secret, masked_address, remember

_VARIABLES = {
    "openai": ("OPENAI_BASE_URL", "OPENAI_API_BASE"),
    "anthropic": ("ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL"),
    "ollama_chat": ("OLLAMA_API_BASE",),
    "bedrock": ("AWS_BEDROCK_RUNTIME_ENDPOINT",),
}
_OPENAI_LIKE = {"openai", "hosted_vllm", "lm_studio", "llamafile", "openai_like", "custom_openai"}
_HOSTED = ("api.openai.com", ".azure.com", ".microsoft.com")
_LITELLM_ONLY = ("api_version", "extra_headers", "headers", "organization", "project")
SET_ELSEWHERE = {
    "model": "model", "api_base": "api_base", "base_url": "api_base", "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens", "temperature": "temperature", "timeout": "timeout_s", "messages": "adapter",
    "response_format": "adapter", "n": "adapter", "stream": "adapter", "num_retries": "retries",
}  # fmt: skip


def provider_of(model: str, key: str = "") -> str:
    """The provider of a model string, by its name in litellm. Raises ConfigError for an unknown provider.

    `key` names the setting in the message.
    """
    if model.startswith("local/"):
        return "local"
    if model.startswith("openai/") and "USE_LITELLM_PROXY" not in os.environ:  # which sends every model to a proxy
        return "openai"  # most are; to load litellm takes seconds
    import litellm

    litellm.suppress_debug_info = True  # the debug info would go to stdout
    try:
        return str(litellm.get_llm_provider(model)[1])
    except litellm.exceptions.BadRequestError as error:
        near = misspelled(
            model.partition("/")[0], [str(getattr(name, "value", name)) for name in litellm.provider_list]
        )
        form = "write provider/model, as in openai/gpt-4o-mini, ollama_chat/qwen3 or local/qwen2.5-coder-1.5b"
        raise ConfigError(
            f"litellm does not know the provider of {model!r}",
            where=key or None,
            todo=f"did you mean {near!r}?" if near and "/" in model else form,
        ) from error


def connected(config: LMConfig, section: str = "lm") -> LMConfig:
    """Settings for a client: the address is written out, and every `$NAME` replaced.

    The result holds secrets, so never write it to disk. `section` names the settings in messages. Raises ConfigError
    for an unknown provider, for a variable that is not set, and for a parameter in `extra` that has its own setting.
    """
    twice = next((name for name in config.extra if name in SET_ELSEWHERE), None)
    if twice is not None:
        raise ConfigError(
            f"{section}.extra.{twice} has a setting of its own", todo=f"set {section}.{SET_ELSEWHERE[twice]} instead"
        )
    litellms = next((name for name in _LITELLM_ONLY if name in config.extra and config.engine == "native"), None)
    if litellms is not None:
        raise ConfigError(
            f"DSPy's native client does not support {section}.extra.{litellms}", todo=f"set {section}.engine=litellm"
        )
    address = _resolved(config.api_base, f"{section}.api_base") or _from_environment(config.model)
    extra = {name: _resolved(value, f"{section}.extra.{name}") for name, value in config.extra.items()}
    remember([address, extra])
    return config.model_copy(update={"api_base": address or None, "extra": extra})


def origin_of(lm: LMConfig) -> str:
    """The address of an LM and its source, for the user, with secrets masked. Does not load litellm.

    >>> origin_of(LMConfig(model="openai/qwen3", api_base="http://me:pw@host:8000/v1"))
    'http://***@host:8000/v1 (api_base)'
    """
    provider = lm.model.partition("/")[0]
    if provider == "local":
        return "embedded: a server of its own on this machine"
    if lm.api_base:
        return f"{masked_address(lm.api_base)} (api_base)"
    for name in _VARIABLES.get(provider, (f"{provider.upper()}_API_BASE",)):
        if os.environ.get(name):
            return f"{masked_address(os.environ[name])} (from {name})"
    return "the provider's own address"


def identity_of(connected_config: LMConfig, weights: str = "") -> str:
    """The identity of an LM in ledger keys: `MODEL@ADDRESS+HASH`.

    `weights` (a hash) replaces the address of an embedded LM. HASH covers `extra` without its secrets.
    """
    place = weights or masked_address(connected_config.api_base or "default")
    known = _without_secrets(connected_config.extra)
    return f"{connected_config.model}@{place}" + (f"+{fingerprint(known)[:12]}" if known else "")


def is_own_server(connected_config: LMConfig) -> bool:
    """Whether calls go to the user's own server with OpenAI's protocol, and not to a hosted service."""
    if not connected_config.api_base or provider_of(connected_config.model) not in _OPENAI_LIKE:
        return False
    host = urlsplit(connected_config.api_base).hostname or ""
    return not host.endswith(_HOSTED)


def missing_keys(model: str) -> list[str]:
    """The environment variables that litellm needs for a model and that are not set."""
    import litellm

    return list(litellm.validate_environment(model).get("missing_keys") or [])


def _from_environment(model: str) -> str:
    provider = provider_of(model)
    if provider == "local":
        return ""
    for name in _VARIABLES.get(provider, (f"{provider.upper()}_API_BASE",)):
        if os.environ.get(name):
            return os.environ[name]
    import litellm

    address = litellm.get_llm_provider(model)[3]
    return str(address) if address and address in os.environ.values() else ""


def _resolved(value: Any, where: str) -> Any:
    """Replace every $NAME in a setting from the environment. Raises ConfigError for a variable that is not set."""
    if isinstance(value, Mapping):
        return {key: _resolved(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_resolved(item, where) for item in value]
    if not isinstance(value, str):
        return value
    if MASK in value:
        raise ConfigError(
            f"the secret in {where} was masked when it was saved", todo=f"give {where} again, or write it as $NAME"
        )
    names = [braced or bare for braced, bare in REFERENCE.findall(value)]
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise ConfigError(f"{where} names ${missing[0]}, which is not set", todo=f"export {missing[0]}=…")
    for name in names:  # whoever keeps a value out of the settings wants it in no file
        remember(os.environ[name], "secret")
    return REFERENCE.sub(lambda match: os.environ[match[1] or match[2]], value)


def _without_secrets(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_secrets(item) for key, item in value.items() if not is_secret(str(key))}
    return value
