"""What an LM takes: the layout of prompts, a JSON schema or not, the parameters of a call, a key.

adapter_for(LMConfig(model="openai/gpt-4o-mini")) → "json"
capabilities_of(LMConfig(model="openai/gpt-4o-mini")) → (True, frozenset({"temperature", "response_format", …}))
"""

from __future__ import annotations

import dspy

from syneg.core.config import LMConfig

from .adapters import CompactAdapter
from .addresses import is_own_server, missing_keys, provider_of

ADAPTERS = {
    "json": dspy.JSONAdapter,
    "chat": dspy.ChatAdapter,
    "xml": dspy.XMLAdapter,
    "compact": CompactAdapter,
}


def adapter_for(config: LMConfig) -> str:
    """`auto` is the compact layout for embedded models, which read slowly, and DSPy's JSONAdapter for all others."""
    return config.adapter if config.adapter != "auto" else "compact" if config.model.startswith("local/") else "json"


def capabilities_of(connected_config: LMConfig) -> tuple[bool, frozenset[str]]:
    """Whether the backend takes a JSON schema, and the parameters it takes; what a server of one's own takes shows
    itself with the first call. Raises ConfigError for no known provider."""
    model = connected_config.model
    if model.startswith("local/"):
        return enforces_schema(model), frozenset({"response_format", "temperature", "max_tokens"})
    provider_of(model)
    import litellm

    params = frozenset(litellm.get_supported_openai_params(model=model) or ())
    if is_own_server(connected_config):
        return True, params | {"response_format", "temperature", "max_tokens"}
    return enforces_schema(model), params


def enforces_schema(model: str) -> bool:
    """Whether the model is known to keep to a JSON schema."""
    if model.startswith("local/"):
        return True
    import litellm

    return bool(litellm.supports_response_schema(model=model))


def key_hint(model: str) -> str:
    """The name of the environment variable that litellm wants for a model and does not find, or ""."""
    missing = missing_keys(model)
    return f"set {' and '.join(missing)}" if missing else ""
