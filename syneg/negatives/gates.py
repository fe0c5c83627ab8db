"""Gates: may this text be trained on as a negative? Pure functions, cheap ones first, each with a figure and a threshold.

    text_gates(negative, Surroundings(query="close a socket", positives=("Close the socket. …",)), GatesConfig())
      → GateVerdict(reason="copies a positive", figure=.82, threshold=.3, figures={"words": 14.0, "positive_ngram": .82})

A gate is a line of `_text_checks` or `_encoder_checks`: its key in GatesConfig, the figure, the threshold, whether the
text fails, and the reason in words. Checks are made in their order until one fails; the figures of all that were made
are kept. The judge, which costs a call, comes last (`syneg.negatives.generation.ask_judge`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from syneg.core.config import GatesConfig
from syneg.core.records import GateVerdict, HardNegative, copied_share, margin_share, normalise
from syneg.data.corpus_profile import CorpusProfile

UNPARSEABLE, ANSWERS = "unparseable answer", "the judge says it answers"


@dataclass(frozen=True)
class Surroundings:
    """What a negative is held against: texts of all relevant passages, of the pair's accepted negatives, of its parent.

    `words` is the length of the positive that the program was shown; 0 when it is not known.
    """

    query: str
    positives: tuple[str, ...] = ()
    siblings: tuple[str, ...] = ()
    parent: str | None = None
    words: int = 0
    profile: CorpusProfile | None = None


@dataclass(frozen=True)
class Cosines:
    """Under the base encoder: negative to query, positive to query, and negative to its nearest of each group.

    `relevant` is to the nearest passage of the corpus that is relevant to the query or says the same as one that is.
    """

    query: float
    positive_query: float
    positive: float
    relevant: float = 0.0
    sibling: float = 0.0


_Check = tuple[str, float, float, bool, str]


def text_gates(negative: HardNegative, around: Surroundings, config: GatesConfig) -> GateVerdict:
    """The gates that need no model."""
    return _first_failure(_text_checks(negative, around, config))


def encoder_gates(cosines: Cosines, config: GatesConfig, *, judged: bool = False) -> GateVerdict:
    """The gates on cosines. With `judged` a trusted judge decides what answers, and the margin is a figure only.

    The margin is the 95 % rule of NV-Retriever (arXiv 2407.15831). It guards against unknown relevance, and a third of a
    strong writer's valid negatives lie above it.
    """
    return _first_failure(_encoder_checks(cosines, config, judged))


def _first_failure(checks: Iterator[_Check]) -> GateVerdict:
    figures: dict[str, float] = {}
    for key, figure, threshold, failed, reason in checks:
        figures[key] = round(figure, 4)
        if failed:
            return GateVerdict(reason, round(figure, 4), round(threshold, 4), figures)
    return GateVerdict("", figures=figures)


def _text_checks(negative: HardNegative, around: Surroundings, config: GatesConfig) -> Iterator[_Check]:
    text = normalise(negative.text)
    words = len(negative.text.split())
    cut = float(negative.finish_reason == "length")
    yield "truncated", cut, 0, bool(cut), "truncated"
    yield "words", words, config.min_words, not text or words < config.min_words, "empty or too short"
    if around.profile:
        yield from _corpus_checks(negative.text, words, around.profile, config)
    if around.words:
        low, high = config.length_low, config.length_high
        share = words / around.words
        yield "length", share, low, bool(low) and share < low, "far shorter than positive or corpus"
        yield "length", share, high, bool(high) and share > high, "far longer than positive or corpus"
    query = normalise(around.query)
    repeats = float(f" {query} " in f" {text} " and len(query.split()) >= max(1, config.query_words))
    yield "query", repeats, 0, bool(config.query_words and repeats), "repeats the query"
    positives = [normalise(positive) for positive in around.positives]
    equal = float(text in positives)
    yield "equal", equal, 0, bool(equal), "equals a positive"
    for key, others, limit, reason in (
        ("positive_ngram", positives, config.positive_ngram, "copies a positive"),
        ("parent_ngram", [normalise(around.parent)] if around.parent else [], config.parent_ngram, "copies its parent"),
        ("sibling_ngram", [normalise(s) for s in around.siblings], config.sibling_ngram, "repeats a sibling"),
    ):
        copied = max((copied_share(text, other) for other in others), default=0.0)
        yield key, copied, limit, bool(limit) and copied > limit, reason


def _corpus_checks(text: str, words: int, profile: CorpusProfile, config: GatesConfig) -> Iterator[_Check]:
    strange = profile.strange_letters(text)
    yield (
        "script",
        strange,
        config.script,
        bool(config.script) and strange > config.script,
        "not in the corpus's script",
    )
    language = profile.language_share(text)
    if language is not None:
        yield "language", language, config.language, language < config.language, "not in the corpus's language"
    low, high = profile.words
    if config.length_high:  # the longest passages of a corpus are no model; nor are its stubs
        yield "corpus_words", words, 2 * high, words > 2 * high, "far longer than positive or corpus"
    if config.length_low:
        yield "corpus_words", words, low / 4, words < low / 4, "far shorter than positive or corpus"


def _encoder_checks(cosines: Cosines, config: GatesConfig, judged: bool) -> Iterator[_Check]:
    near = config.positive_cosine
    for key, figure, reason in (
        ("positive_cosine", cosines.positive, "means the same as a positive"),
        ("relevant_cosine", cosines.relevant, "near a relevant passage of the corpus"),
    ):
        yield key, figure, near, bool(near) and figure > near, reason
    limit = config.sibling_cosine
    yield (
        "sibling_cosine",
        cosines.sibling,
        limit,
        bool(limit) and cosines.sibling > limit,
        "means the same as a sibling",
    )
    share = margin_share(cosines.query, cosines.positive_query)
    yield "query_cosine", cosines.query, 0, False, ""
    yield "positive_query_cosine", cosines.positive_query, 0, False, ""
    yield "floor", share, config.floor, bool(config.floor) and share < config.floor, "too far from the query"
    over = bool(config.margin) and not judged and share > config.margin
    yield "margin", share, config.margin, over, "over the margin of the positive"
