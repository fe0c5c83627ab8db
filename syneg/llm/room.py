"""Set the token limit of an answer by the length asked for, unless the settings give a limit.

room_for(LMConfig(), words=200) → 560      room_for(LMConfig(model="openai/gpt-5-mini"), words=200) → 16000
"""

from __future__ import annotations

import re
from functools import lru_cache

from syneg.core.config import LMConfig

_PER_WORD = 3  # tokens per word: 1.3 in English, up to 3 in other languages
_OVERHEAD = 160  # tokens for reasoning fields, field names and quotes
_EMBEDDED_PER_WORD = 2  # embedded models write English; an answer that loops runs up to the limit
_LEAST_OF_OPENAI = 16_000  # DSPy's minimum for OpenAI's reasoning models
_THINKING = 4_000  # tokens for thinking before an answer
WIDER, WIDER_FOR_THINKING = 2, 8  # factors of the limit after a cut answer, without and with thinking
WIDEST = 32_000  # highest limit if litellm does not know the model's own
_REASONING = re.compile(
    r"^(?:o\d(?:-(?:mini|nano|pro|preview))?(?:-\d{4}-\d{2}-\d{2})?|gpt-5(?:\.\d+)*(?!-chat)(?:-.*)?)$"
)


def is_reasoning_model(model: str) -> bool:
    """Whether a model is a reasoning model of OpenAI. These accept only temperature 1, and their token limit includes
    the thinking.

    >>> names = ("openai/gpt-5-mini", "azure/o3", "openai/gpt-5-chat-latest", "openai/gpt-4o")
    >>> [is_reasoning_model(name) for name in names]
    [True, True, False, False]
    """
    return _REASONING.match(model.rpartition("/")[2].lower()) is not None


def room_for(config: LMConfig, words: int, answers: int = 1) -> int:
    """Token limit for `answers` texts of about `words` words each.

    `config.max_tokens`, if set, is the limit for one text. The result never exceeds the model's own limit.
    """
    per_word = _EMBEDDED_PER_WORD if config.model.startswith("local/") else _PER_WORD
    room = answers * (config.max_tokens or per_word * words + _OVERHEAD)
    if is_reasoning_model(config.model):
        return max(_LEAST_OF_OPENAI, room)
    if not config.max_tokens and thinks(config.model):
        room += _THINKING
    return min(room, most_output(config.model) or room)


@lru_cache(maxsize=64)
def thinks(model: str) -> bool:
    """Whether a model thinks before it answers, by litellm's table."""
    if model.startswith("local/"):
        return False
    import litellm

    return bool(litellm.supports_reasoning(model=model))


@lru_cache(maxsize=64)
def most_output(model: str) -> int:
    """The most tokens that a model writes, by litellm's table; 0 if it is not in the table."""
    if model.startswith("local/"):
        return 0
    import litellm

    known = litellm.model_cost.get(model) or litellm.model_cost.get(model.partition("/")[2]) or {}
    return int(known.get("max_output_tokens") or 0)
