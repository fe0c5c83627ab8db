"""How many tokens an answer may have: from the length asked for, unless the settings say it.

room_for(LMConfig(), words=200) → 760      room_for(LMConfig(model="openai/gpt-5-mini"), words=200) → 16000
"""

from __future__ import annotations

import re
from functools import lru_cache

from syneg.core.config import LMConfig

_PER_WORD = 3  # English has 1.3 tokens a word, other languages up to 3
_BESIDE = 160  # reasoning fields, names of fields, quotes
_EMBEDDED_PER_WORD = 2  # the embedded models are English; one in a loop costs its whole room
_LEAST_OF_OPENAI = 16_000  # what DSPy asks for OpenAI's reasoning models
_THINKING = 4_000
WIDER, WIDER_FOR_THINKING = 2, 8  # times the room, where an answer was cut
WIDEST = 32_000  # where litellm does not know the model
_REASONING = re.compile(
    r"^(?:o\d(?:-(?:mini|nano|pro|preview))?(?:-\d{4}-\d{2}-\d{2})?|gpt-5(?:\.\d+)*(?!-chat)(?:-.*)?)$"
)


def is_reasoning_model(model: str) -> bool:
    """Whether a model is one of OpenAI's that reason: they take temperature 1 only, and count thinking as answer.

    >>> names = ("openai/gpt-5-mini", "azure/o3", "openai/gpt-5-chat-latest", "openai/gpt-4o")
    >>> [is_reasoning_model(name) for name in names]
    [True, True, False, False]
    """
    return _REASONING.match(model.rpartition("/")[2].lower()) is not None


def room_for(config: LMConfig, words: int, answers: int = 1) -> int:
    """Tokens for so many texts of `words` words each; `config.max_tokens` is that of one text, where it is given."""
    per_word = _EMBEDDED_PER_WORD if config.model.startswith("local/") else _PER_WORD
    room = answers * (config.max_tokens or per_word * words + _BESIDE)
    if is_reasoning_model(config.model):
        return max(_LEAST_OF_OPENAI, room)
    if not config.max_tokens and thinks(config.model):
        room += _THINKING
    return min(room, most_output(config.model) or room)


@lru_cache(maxsize=64)
def thinks(model: str) -> bool:
    """Whether litellm knows that a model thinks before it answers."""
    if model.startswith("local/"):
        return False
    import litellm

    return bool(litellm.supports_reasoning(model=model))


@lru_cache(maxsize=64)
def most_output(model: str) -> int:
    """The most tokens that a model writes, by litellm's table; 0 where it is not there."""
    if model.startswith("local/"):
        return 0
    import litellm

    known = litellm.model_cost.get(model) or litellm.model_cost.get(model.partition("/")[2]) or {}
    return int(known.get("max_output_tokens") or 0)
