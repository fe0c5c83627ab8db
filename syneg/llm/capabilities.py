"""Look up what an LM supports: the adapter to use, JSON schemas, parameters, and the key that it needs.

adapter_for(LMConfig(model="openai/gpt-4o-mini")) → "json"
capabilities_of(LMConfig(model="openai/gpt-4o-mini")) → (True, frozenset({"temperature", "response_format", …}))
"""

from __future__ import annotations

from syneg.core.config import LMConfig

from .adapters import ChatAdapter, CompactAdapter, JSONAdapter, XMLAdapter
from .addresses import is_own_server, missing_keys, provider_of

ADAPTERS = {
    "json": JSONAdapter,
    "chat": ChatAdapter,
    "xml": XMLAdapter,
    "compact": CompactAdapter,
}


def adapter_for(config: LMConfig) -> str:
    """Resolve the adapter "auto": "compact" for embedded models, because they read slowly, else "json"."""
    return config.adapter if config.adapter != "auto" else "compact" if config.model.startswith("local/") else "json"


def capabilities_of(connected_config: LMConfig) -> tuple[bool, frozenset[str]]:
    """Return whether the backend accepts a JSON schema, and the names of the parameters that it accepts.

    The user's own server is assumed to accept all; the first calls show what it refuses (`fallbacks`). Raises
    ConfigError for an unknown provider.
    """
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
    """Whether the model always follows a JSON schema, by litellm's table."""
    if model.startswith("local/"):
        return True
    import litellm

    return bool(litellm.supports_response_schema(model=model))


def key_hint(model: str) -> str:
    """A hint such as "set OPENAI_API_KEY" for the missing variables of a model; "" if none is missing."""
    missing = missing_keys(model)
    return f"set {' and '.join(missing)}" if missing else ""
