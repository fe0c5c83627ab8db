"""Gates: may this text be trained on as a negative? Pure functions, cheap ones first, each with a figure and a threshold.

    text_gates(negative, query, ["Close the socket. …"], GatesConfig())
      → GateVerdict(reason="copies a positive", figure=.82, threshold=.3)

Order: truncated, empty or too short, repeats the query, equals a positive, copies a positive (share of its word 4-grams),
and then, with the encoder: means the same as a positive (cosine), over the share of the positive's score (the 95 % rule
of NV-Retriever). What is rejected is kept with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence

from .config import GatesConfig
from .records import GateVerdict, HardNegative, normalise

UNPARSEABLE = "unparseable answer"
_NGRAM = 4


def text_gates(negative: HardNegative, query: str, positives: Sequence[str], config: GatesConfig) -> GateVerdict:
    """The gates that need no model. `positives` are the texts of all passages relevant to the query."""
    if negative.finish_reason == "length":
        return GateVerdict("truncated")
    words = normalise(negative.text).split()
    if len(words) < max(1, config.min_words):
        return GateVerdict("empty or too short", len(words), config.min_words)
    text = " ".join(words)
    asked = normalise(query)
    if asked and f" {asked} " in f" {text} ":
        return GateVerdict("repeats the query")
    for positive in positives:
        if text == normalise(positive):
            return GateVerdict("equals a positive")
    copied = max((copied_share(text, normalise(positive)) for positive in positives), default=0.0)
    if config.positive_ngram and copied > config.positive_ngram:
        return GateVerdict("copies a positive", copied, config.positive_ngram)
    return GateVerdict("", figures={"words": float(len(words)), "copied_share": copied})


def encoder_gates(to_query: float, positive_to_query: float, to_positive: float, config: GatesConfig) -> GateVerdict:
    """The gates on cosines: negative to query, positive to query, and negative to its nearest positive."""
    figures = {
        "query_cosine": to_query,
        "positive_query_cosine": positive_to_query,
        "positive_cosine": to_positive,
    }
    if config.positive_cosine and to_positive > config.positive_cosine:
        return GateVerdict("means the same as a positive", to_positive, config.positive_cosine, figures)
    limit = config.margin * positive_to_query
    if config.margin and to_query > limit:
        return GateVerdict("over the margin of the positive", to_query, limit, figures)
    return GateVerdict("", figures=figures)


def copied_share(text: str, other: str) -> float:
    """Share of the word 4-grams of `text` that stand in `other`, both normalised; 0 for texts under four words.

    >>> copied_share("a b c d e", "x a b c d")
    0.5
    """
    grams = _grams(text)
    return len(grams & _grams(other)) / len(grams) if grams else 0.0


def _grams(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[i : i + _NGRAM]) for i in range(len(words) - _NGRAM + 1)}
