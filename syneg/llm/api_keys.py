"""Keys that hosted LMs want, known without loading litellm, so that a missing one is said before anything else.

    missing_key(LMConfig(model="openai/gpt-4o-mini")) → "OPENAI_API_KEY"; "" if the key is set

Only providers that take nothing but a key are listed; what others miss is said by litellm with the first call.
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
_ADDRESSES = ("_BASE_URL", "_API_BASE")


def missing_key(lm: LMConfig) -> str:
    """The variable to set for an LM; "" if none is missing, or if nobody knows what the provider needs.

    A server of one's own, by `api_base` or by the environment, may need none.
    """
    provider = lm.model.partition("/")[0]
    own = lm.api_base or any(os.environ.get(f"{provider.upper()}{ending}") for ending in _ADDRESSES)
    given = any(name in lm.extra for name in ("api_key", "extra_headers", "headers"))
    if own or given or provider not in _KEYS or any(os.environ.get(name) for name in _KEYS[provider]):
        return ""
    return _KEYS[provider][0]
