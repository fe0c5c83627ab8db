"""How much text of answers and critics a reflection LM is shown: all of it, as long as its prompt has room.

    room(reflection)                             → 24000 tokens, or half of the context of an embedded LM
    fitted(["short", "a long text …"], 100)      → ["short", "a long …"]     only the longest texts are shortened

A reflection LM that sees 300 characters of a text seldom sees what is wrong with it. So texts are shortened only where
all of them together exceed the room, and then to one length that makes them fit.
"""

from __future__ import annotations

from collections.abc import Sequence

from syneg.llm.lms import LanguageModel
from syneg.programs import shortened

_REMOTE, _EMBEDDED = 24_000, 2048  # tokens: for the examples of a prompt, and the whole context of an embedded LM
_CHARACTERS = 3  # of a token, at least; English has about 4


def room(reflection: LanguageModel) -> int:
    """The tokens that a prompt of this LM has for examples."""
    config = reflection.engine.config
    if not config.model.startswith("local/"):
        return _REMOTE
    return int(config.extra.get("num_ctx") or _EMBEDDED) // 2


def fitted(texts: Sequence[str], tokens: int) -> list[str]:
    """The texts, whose fenced parts stay closed; the longest are shortened until all fit into `tokens`."""
    left, most = tokens * _CHARACTERS, max(map(len, texts), default=0)
    for place, length in enumerate(sorted(map(len, texts))):
        share = left // (len(texts) - place)
        if length > share:
            most = share
            break
        left -= length
    return [shortened(text, most) for text in texts]
