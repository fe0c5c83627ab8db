"""Gates: may a text be trained on as a negative? Each gate compares one figure of the text with a threshold.

    text_gates(negative, GateContext(query="close a socket", positives=("Close the socket. …",)), GatesConfig())
      → GateVerdict(reason="copies a positive", figure=.82, threshold=.3, figures={"positive_ngram": .82, …})

A gate is one row of TEXT_GATES or ENCODER_GATES: its setting in GatesConfig, the name of its figure, the reason for a
rejection, its advice to the writer, and the function that measures the figure. To add a gate, add a row and its
setting. The gates of a table are tried in order, cheap ones first, until one fails; the figures measured so far are
kept. The judge costs a call, so it comes last (`syneg.negatives.judging.ask_judge`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, Literal, TypeVar

from syneg.core.config import GatesConfig
from syneg.core.near import near_key
from syneg.core.records import GateVerdict, HardNegative, margin_share
from syneg.core.text import contains, copied_share, word_count
from syneg.data.corpus_profile import CorpusProfile

UNPARSEABLE, ANSWERS, GRADED = "unparseable answer", "the judge says it answers", "the reader says it answers"
REFUSED, REFUSED_CALL = "refused by the endpoint", "refused"  # reason of the draft, finish_reason of the call
M = TypeVar("M")


@dataclass(frozen=True)
class GateContext:
    """The texts that a negative is compared with.

    `positives` are all relevant passages, `siblings` the pair's accepted negatives, `parent` the passage that the
    negative was rewritten from. `words` is the length of the positive as the program saw it, 0 if unknown. `profile`
    describes scripts, language and lengths of the corpus; without it the gates that need it let every text pass.
    """

    query: str
    positives: Sequence[str] = ()
    siblings: Sequence[str] = ()
    parent: str | None = None
    words: int = 0
    profile: CorpusProfile | None = None


@dataclass(frozen=True)
class Cosines:
    """Similarities of one negative under the base encoder.

    `query` and `positive_query` are the scores of the query with the negative and with the positive: dot products if
    the encoder uses them, otherwise cosines. The other figures are cosines of the negative: `positive` to its nearest
    positive, `sibling` to the nearest accepted negative of the pair, `relevant` to its nearest passage of the corpus.
    `relevant` is 0 unless that passage is relevant, or nearly equal to a relevant one.
    """

    query: float
    positive_query: float
    positive: float
    relevant: float = 0.0
    sibling: float = 0.0

    @property
    def share(self) -> float:
        """The negative's score relative to the positive's: over 1 if the negative scores higher."""
        return margin_share(self.query, self.positive_query)


@dataclass(frozen=True)
class _Measured:
    """A negative with its context. It computes once what several gates need."""

    negative: HardNegative
    context: GateContext

    @cached_property
    def words(self) -> int:
        return word_count(self.negative.text)

    def copied(self, others: Sequence[str]) -> float:
        """The largest share of the negative's 4-grams found in one of `others`; 1 for a near-copy, however short."""
        text, key = self.negative.text, near_key(self.negative.text)
        return max((1.0 if key == near_key(other) else copied_share(text, other) for other in others), default=0.0)


@dataclass(frozen=True)
class Gate(Generic[M]):
    """One gate. If `measure` returns None (the figure is unknown), the gate lets the text pass.

    `setting` names the field of GatesConfig with the threshold; a value of 0 switches the gate off. With a `limit` the
    threshold is that number, and the setting only switches. A gate without a setting is always on. `bound` tells
    whether the threshold is the highest (`most`) or the lowest (`least`) figure that passes.
    """

    setting: str
    figure: str
    reason: str
    advice: str
    measure: Callable[[M, GatesConfig], float | None]
    bound: Literal["most", "least"] = "most"
    limit: float | None = None

    def fails(self, figure: float, config: GatesConfig) -> bool:
        """Whether a text with this figure is rejected."""
        if self.setting and not getattr(config, self.setting):
            return False
        limit = self.threshold(config)
        return figure < limit if self.bound == "least" else figure > limit

    def threshold(self, config: GatesConfig) -> float:
        """The highest figure that passes, or the lowest one if `bound` is `least`."""
        return float(getattr(config, self.setting)) if self.limit is None else self.limit


_LONG, _LONG_ADVICE = "far longer than positive or corpus", "Keep to the length of the positive."
_SHORT, _SHORT_ADVICE = "far shorter than positive or corpus", "Write about as much as the positive has."
_EMPTY, _EMPTY_ADVICE = "empty or too short", "Write a whole passage."


def _truncated(m: _Measured, _: GatesConfig) -> float:
    return float(m.negative.finish_reason == "length")


def _few_words(m: _Measured, config: GatesConfig) -> float | None:
    """The number of words; None if the positive has fewer than wanted, as a title has: `length_low` then decides."""
    return None if 0 < m.context.words < config.min_words else m.words


def _strange(m: _Measured, _: GatesConfig) -> float | None:
    """The share of letters in scripts that the corpus hardly uses; None without a profile of the corpus."""
    return m.context.profile.strange_letters(m.negative.text) if m.context.profile else None


def _language(m: _Measured, _: GatesConfig) -> float | None:
    """The share of trigrams that are common in the corpus, scaled; None without a profile of the corpus."""
    return m.context.profile.language_share(m.negative.text) if m.context.profile else None


def _of_longest(m: _Measured, _: GatesConfig) -> float | None:
    """The length as a share of half of the longest passages of the corpus."""
    # half of what the positive allows: the longest passages of a corpus are rare and no model to write by
    return 2 * m.words / max(1.0, m.context.profile.words[1]) if m.context.profile else None


def _of_shortest(m: _Measured, _: GatesConfig) -> float | None:
    """The length as a share of the shortest passages of the corpus."""
    return m.words / m.context.profile.words[0] if m.context.profile and m.context.profile.words[0] else None


def _of_positive(m: _Measured, _: GatesConfig) -> float | None:
    """The length as a share of the positive's."""
    return m.words / m.context.words if m.context.words else None


def _repeats_query(m: _Measured, config: GatesConfig) -> float | None:
    query = m.context.query
    return float(contains(m.negative.text, query)) if word_count(query) >= config.query_words else None


TEXT_GATES: tuple[Gate[_Measured], ...] = (
    Gate("", "truncated", "truncated", "Write less.", _truncated, limit=0),
    Gate("", "words", _EMPTY, _EMPTY_ADVICE, lambda m, _: m.words, "least", limit=1),
    Gate("min_words", "words", _EMPTY, _EMPTY_ADVICE, _few_words, "least"),
    Gate("script", "script", "not in the corpus's script", "Write in the script of the positive.", _strange),
    Gate(
        "language", "language", "not in the corpus's language", "Write in the language of the positive.", _language,
        "least",
    ),
    Gate("length_high", "corpus_longest", _LONG, _LONG_ADVICE, _of_longest),
    Gate("length_low", "corpus_shortest", _SHORT, _SHORT_ADVICE, _of_shortest, "least"),
    Gate("length_low", "length", _SHORT, _SHORT_ADVICE, _of_positive, "least"),
    Gate("length_high", "length", _LONG, _LONG_ADVICE, _of_positive),
    Gate("query_words", "query", "repeats the query", "Do not repeat the query.", _repeats_query, limit=0),
    Gate(
        "", "equal", "equals a positive", "Write another statement, not the positive again.",
        lambda m, _: float(near_key(m.negative.text) in map(near_key, m.context.positives)), limit=0,
    ),
    Gate(
        "positive_ngram", "positive_ngram", "copies a positive",
        "Use words of your own; copy no phrase of the positive.", lambda m, _: m.copied(m.context.positives),
    ),
    Gate(
        "parent_ngram", "parent_ngram", "copies its parent", "Rewrite more of the source passage.",
        lambda m, _: m.copied([m.context.parent] if m.context.parent else []),
    ),
    Gate(
        "sibling_ngram", "sibling_ngram", "repeats a sibling", "Write something else than the negatives before it.",
        lambda m, _: m.copied(m.context.siblings),
    ),
)  # fmt: skip

_MARGIN = Gate[Cosines](
    "margin", "margin", "over the margin of the positive",
    "The encoder finds it as near as the positive: it may be relevant. Change a requirement of the query.",
    lambda c, _: c.share,
)  # fmt: skip
ENCODER_GATES: tuple[Gate[Cosines], ...] = (
    Gate(
        "positive_cosine", "positive_cosine", "means the same as a positive",
        "It says what the positive says, so it is relevant. Change what is asked for.", lambda c, _: c.positive,
    ),
    Gate(
        "positive_cosine", "relevant_cosine", "near a relevant passage of the corpus",
        "It says what a relevant passage says. Change what is asked for.", lambda c, _: c.relevant,
    ),
    Gate(
        "sibling_cosine", "sibling_cosine", "means the same as a sibling",
        "Write something else than the negatives before it.", lambda c, _: c.sibling,
    ),
    Gate(
        "floor", "floor", "too far from the query",
        "It is on another matter. Stay with the subject of the query.", lambda c, _: c.share, "least",
    ),
    _MARGIN,
)  # fmt: skip

ADVICE: dict[str, str] = {
    **{gate.reason: gate.advice for gate in TEXT_GATES},
    **{gate.reason: gate.advice for gate in ENCODER_GATES},
    UNPARSEABLE: "Answer in the form that is asked for.",
    ANSWERS: "It holds what the query asks for. Break a requirement of the query.",
    GRADED: "It holds what the query asks for, or a part of it. Break a requirement of the query.",
}
"""reason of a rejection → advice to the writer, also shown to the LM that improves its prompt."""


def text_gates(negative: HardNegative, context: GateContext, config: GatesConfig) -> GateVerdict:
    """The verdict of the gates that need no encoder."""
    return _verdict(TEXT_GATES, _Measured(negative, context), config, {})


def encoder_gates(cosines: Cosines, config: GatesConfig, *, judged: bool = False) -> GateVerdict:
    """The verdict of the gates on cosines.

    The margin is the 95 % rule of NV-Retriever (arXiv 2407.15831). It guards against relevant texts that nobody judged,
    but rejects a third of a strong writer's valid negatives. So with `judged`, when a trusted judge decides whether a
    text answers, or a trusted reader, the margin is only recorded.
    """
    figures = {"query_cosine": cosines.query, "positive_query_cosine": cosines.positive_query}
    if judged:
        figures["margin"] = cosines.share
    gates = [gate for gate in ENCODER_GATES if not (judged and gate is _MARGIN)]
    return _verdict(gates, cosines, config, {key: round(value, 4) for key, value in figures.items()})


def _verdict(gates: Sequence[Gate[M]], measured: M, config: GatesConfig, figures: dict[str, float]) -> GateVerdict:
    """The verdict of the first gate that the text fails. Adds the figure of each gate that was tried to `figures`."""
    for gate in gates:
        figure = gate.measure(measured, config)
        if figure is None:
            continue
        figures[gate.figure] = round(figure, 4)
        if gate.fails(figure, config):
            return GateVerdict(gate.reason, round(figure, 4), round(gate.threshold(config), 4), figures)
    return GateVerdict("", figures=figures)
