"""Check the API key of a hosted LM without loading litellm, so that a missing key is reported at once.

    missing_key(LMConfig(model="openai/gpt-4o-mini")) → "OPENAI_API_KEY"; "" if the key is set

Only providers that need nothing but a key are listed. For the others litellm reports what is missing at the first call.
"""

from __future__ import annotations

import os

from syneg.core.config import LMConfig

_KEYS: dict[str, tuple[str, ...]] = {
    "openai": ("OPENAI_API_KEY",),
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "groq": ("GROQ_API_KEY",),
    "mistral": ("MISTRAL_API_KEY",),
    "deepseek": ("DEEPSEEK_API_KEY",),
    "openrouter": ("OPENROUTER_API_KEY", "OR_API_KEY"),
    "xai": ("XAI_API_KEY",),
    "cohere": ("COHERE_API_KEY", "CO_API_KEY"),
    "together_ai": ("TOGETHERAI_API_KEY", "TOGETHER_API_KEY", "TOGETHER_AI_API_KEY", "TOGETHER_AI_TOKEN"),
    "fireworks_ai": ("FIREWORKS_AI_API_KEY", "FIREWORKS_API_KEY", "FIREWORKSAI_API_KEY", "FIREWORKS_AI_TOKEN"),
    "perplexity": ("PERPLEXITYAI_API_KEY", "PERPLEXITY_API_KEY"),
}
COMMON = frozenset((*_KEYS, "local"))  # providers that need no look into litellm's list
_ADDRESSES = ("_BASE_URL", "_API_BASE")


def missing_key(lm: LMConfig) -> str:
    """The environment variable that an LM needs and that is not set; "" if there is none or the provider is not listed.

    An address in `api_base` or in the environment means the user's own server, which may need no key.
    """
    provider = lm.model.partition("/")[0]
    own = lm.api_base or any(os.environ.get(f"{provider.upper()}{ending}") for ending in _ADDRESSES)
    given = any(name in lm.extra for name in ("api_key", "extra_headers", "headers"))
    if own or given or provider not in _KEYS or any(os.environ.get(name) for name in _KEYS[provider]):
        return ""
    return _KEYS[provider][0]
