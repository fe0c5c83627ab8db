"""What one negative is worth, in under a second and in words: gates, hardness, and its influence on held-out queries.

    critic(pair, [HardNegative("We follow 112 giant planets …")])
      → Judgement(value=.71, feedback="accepted. The encoder gives it .55 and the positive .61 (hard). Training on it helps …")

The value of what the gates let through is hardness times validity: near to the query (its cosine over that of the
positive, from the floor of the gates to the positive's own), and not another wording of a positive (cosine to it, from
.85 down to 0 at 1). Its mean says what to try next, and with less than 100 pairs it chooses together with the objective
(`search.ordered`; docs/lab_notes.md has how far each can be trusted).

Influence stands in the words alone. It is first-order (TracIn, arXiv 2002.08484): with the probe trained on mined
negatives, does a step that lowers the loss of the dev queries lower the loss of this pair with this negative, too? It
is taken by moving the weights a little along the gradient of the dev loss, forth and back, and stands in units of what
mined negatives spread. Beside it stands the rank of the positive among the passages nearest to the query, before and
after a step on the negative. A single negative cannot say what a whole set does, which is the objective's
(`objective`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from syneg.core.config import GatesConfig
from syneg.core.records import GateVerdict, HardNegative, Instance, Pair
from syneg.core.text import word_count
from syneg.data.collection import Collection
from syneg.data.corpus_profile import CorpusProfile
from syneg.negatives.gates import ADVICE, GateContext, text_gates
from syneg.negatives.generation import Draft
from syneg.negatives.judging import compare
from syneg.programs import fenced
from syneg.retrieval.encoder import Encoder
from syneg.retrieval.prompts import Role

from .objective import DEEPEST, Objective

_NOTHING, _REJECTED, _LEAST = 0.0, 0.1, 0.2
_VALID = 0.85  # cosine to a positive from which a text counts as less and less of a negative
_STEP = 0.01  # of the length of the weights
_CONTEXT, _MINED = 16, 3


@dataclass(frozen=True)
class Judgement:
    """`value` 0 (no answer) to 1, `feedback` in words, and the negative as it passed or failed the gates."""

    value: float
    feedback: str
    draft: Draft | None = None
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """The feedback with its value, for a reflection LM."""
        return f"value {self.value:.2f} of 1. {self.feedback}"

    @property
    def accepted(self) -> bool:
        return self.draft is not None and self.draft.verdict.accepted


class Critic:
    """Judges negatives of the pairs of an objective; programs were shown `passage_words` of a positive. One at a time,
    from any thread."""

    def __init__(
        self, objective: Objective, encoder: Encoder, collection: Collection, gates: GatesConfig, passage_words: int
    ) -> None:
        self._objective, self._encoder, self._collection, self._gates = objective, encoder, collection, gates
        self._passage_words = passage_words
        self._profile = CorpusProfile.of(collection.passages.values())
        self._kept: dict[tuple[str, str], Judgement] = {}
        self._fixed: dict[tuple[str, int], np.ndarray] = {}
        self._means: dict[str, float] = {}
        self._ranks: dict[str, int] = {}
        self._ready = False

    def __call__(self, pair: Pair, negatives: Sequence[HardNegative]) -> Judgement:
        """The judgement of the first negative, which stands for the program's answer to this pair."""
        if not negatives or not negatives[0].text.strip():
            why = negatives[0].reasoning if negatives else ""
            return Judgement(_NOTHING, f"no negative could be read from the answer. {why}".strip())
        key = pair.query_id, negatives[0].text
        with self._objective.lock:
            if key not in self._kept:
                self._kept[key] = self._judge(pair, negatives[0])
            return self._kept[key]

    def _judge(self, pair: Pair, negative: HardNegative) -> Judgement:
        draft = self.gated([(pair, negative)])[0]
        verdict, figures = draft.verdict, dict(draft.verdict.figures)
        if not verdict.accepted:
            return Judgement(self.value(draft), _rejection(verdict), draft, figures)
        figures["influence"] = self.influence(pair, [negative.text])[0]
        figures["rank"], figures["rank_after"] = self.ranks(pair, negative.text)
        return Judgement(self.value(draft), self._words(pair, figures), draft, figures)

    def gated(self, answers: Sequence[tuple[Pair, HardNegative]]) -> list[Draft]:
        """Each negative with what the gates say of it."""
        drafts = []
        for pair, negative in answers:
            relevant = self._collection.relevant_texts(pair.query_id)
            words = min(word_count(pair.positive), self._passage_words)
            context = GateContext(pair.query, relevant, (), None, words, self._profile)
            drafts.append(Draft(pair, negative, text_gates(negative, context, self._gates)))
        return compare(drafts, self._collection, self._encoder, self._gates, judged=False)

    def value(self, draft: Draft) -> float:
        """What a text is worth, .1 where a gate rejects it, else .2 to 1."""
        return _LEAST + (1 - _LEAST) * self._worth(draft.verdict.figures) if draft.verdict.accepted else _REJECTED

    def _worth(self, figures: Mapping[str, float]) -> float:
        """Hardness times validity, 0 to 1."""
        near, positive = figures.get("query_cosine", 0.0), figures.get("positive_query_cosine", 0.0)
        share = near / positive if positive > 0 else 1.0
        hardness = min(1.0, max(0.0, (share - self._gates.floor) / max(1e-6, 1 - self._gates.floor)))
        return hardness * min(1.0, max(0.0, (1 - figures.get("positive_cosine", 0.0)) / (1 - _VALID)))

    def influence(self, pair: Pair, texts: Sequence[str]) -> list[float]:
        """Of each text as a negative of `pair`, against its mined negatives, in standard deviations of mined ones."""
        with self._objective.lock:
            self._prepare()
            return [(value - self._usual(pair)) / self._spread for value in self._raw(pair, texts)]

    def ranks(self, pair: Pair, text: str) -> tuple[int, int]:
        """Of the pair's positive among it and the wrong passages nearest to the query, under the probe trained on mined
        negatives: before and after a step down the loss of the pair with `text` as its negative."""
        with self._objective.lock:
            self._prepare()
            if pair.query_id not in self._ranks:
                self._ranks[pair.query_id] = self._rank(pair, self._middle)
            return self._ranks[pair.query_id], self._rank(pair, self._after(pair, text))

    def _after(self, pair: Pair, text: str) -> dict[str, Tensor]:
        """The weights after a step on one negative; with a mined one it would be as long as that of influence, on
        average."""
        gradient = self._gradient(pair, text)
        return {
            name: weights - self._epsilon / self._steepness * gradient[name] for name, weights in self._middle.items()
        }

    def _gradient(self, pair: Pair, text: str) -> dict[str, Tensor]:
        self._objective.probe.move(self._middle)
        return self._objective.probe.gradient([Instance(pair, (text,), ("synthetic",), (1.0,), (None,))])

    def _rank(self, pair: Pair, weights: Mapping[str, Tensor]) -> int:
        self._objective.probe.move(weights)
        _, wrong = self._objective.standing(pair)
        scores = (
            self._objective.probe.embed([pair.positive, *wrong], "passage")
            @ self._objective.probe.embed([pair.query], "query")[0]
        )
        return 1 + int((scores[1:] > scores[0]).sum())

    def _usual(self, pair: Pair) -> float:
        """What mined negatives of the pair have on average."""
        if pair.query_id not in self._means:
            mined = [n.text for n in self._objective.mined(pair)[:_MINED]]
            self._means[pair.query_id] = float(np.mean(self._raw(pair, mined))) if mined else 0.0
        return self._means[pair.query_id]

    def _prepare(self) -> None:
        """Train the probe on mined negatives, and take the gradient of the dev loss there."""
        if self._ready:
            return
        objective = self._objective
        probe = objective.probe
        probe.train(objective.instances({}, 0), seed=0)
        middle = self._middle = probe.weights()
        gradient = probe.gradient(objective.dev_rows())
        length = _length(gradient) or 1.0
        self._epsilon = _STEP * _length(middle)
        self._sides: list[dict[str, Tensor]] = [
            {name: weights - sign * self._epsilon / length * gradient[name] for name, weights in middle.items()}
            for sign in (1, -1)
        ]
        self._context = [pair.positive for pair in objective.pairs[:_CONTEXT]]
        spread = [
            value - self._usual(pair)
            for pair in objective.pairs[:_CONTEXT]
            for value in self._raw(pair, [n.text for n in objective.mined(pair)[:_MINED]])
        ]
        self._spread = float(np.std(spread)) or 1.0
        lengths = [
            _length(self._gradient(pair, objective.mined(pair)[0].text))
            for pair in objective.pairs[:_CONTEXT]
            if objective.mined(pair)
        ]
        self._steepness = float(np.mean(lengths or [0.0])) or 1.0
        self._ready = True

    def _raw(self, pair: Pair, texts: Sequence[str]) -> list[float]:
        """How much the loss of the pair with each text falls on the way down the dev loss."""
        losses = []
        # from here on both sides take the kept (rounded) output of the frozen layers
        self._objective.probe.embed([*texts, pair.positive, *self._context], "passage")
        self._objective.probe.embed([pair.query], "query")
        for side, weights in enumerate(self._sides):
            self._objective.probe.move(weights)
            query = self._embedded((pair.query_id, side), [pair.query], "query")[0]
            positive = self._embedded((f"+{pair.query_id}", side), [pair.positive], "passage")[0]
            context = self._embedded(("", side), self._context, "passage")
            own = self._objective.probe.embed(texts, "passage", exact=True)
            temperature = self._objective.temperature
            scores = np.array([float(query @ positive), *(context @ query)]) / temperature
            keep = np.array([True, *(text != pair.positive for text in self._context)])
            rest = np.logaddexp.reduce(scores[keep])
            losses.append([float(np.logaddexp(rest, float(v @ query) / temperature) - scores[0]) for v in own])
        return [(up - down) / (2 * self._epsilon) for down, up in zip(*losses, strict=True)]

    def _embedded(self, key: tuple[str, int], texts: Sequence[str], role: Role) -> np.ndarray:
        if key not in self._fixed:
            self._fixed[key] = self._objective.probe.embed(texts, role, exact=True)
        return self._fixed[key]

    def _words(self, pair: Pair, figures: dict[str, float]) -> str:
        near, positive = figures.get("query_cosine", 0.0), figures.get("positive_query_cosine", 0.0)
        hard = "hard" if near > 0.8 * positive else "easy: it is on another matter" if near < 0.6 * positive else "fair"
        sign = figures["influence"]
        says = (
            "Training on it helps held-out queries more than a mined negative does."
            if sign > 0.25
            else "Training on it helps held-out queries less than a mined negative does; it may answer the query in part, or be too far from it."
            if sign < -0.25
            else "Training on it helps held-out queries about as a mined negative does."
        )
        rank, wrong = self._objective.standing(pair)
        return (
            f"accepted. The encoder gives it {near:.2f} and the positive {positive:.2f} ({hard}). {says} "
            f"The positive ranks {rank if rank <= DEEPEST else f'below {DEEPEST}'} of all passages; of the {len(wrong) + 1} nearest it ranks "
            f"{figures['rank']:.0f} before and {figures['rank_after']:.0f} after a step on this negative. "
            f"The nearest wrong passage is: {fenced(wrong[0][:160] if wrong else '')}"
        )


def _length(weights: Mapping[str, Tensor]) -> float:
    """Euclidean."""
    return math.sqrt(sum(float((w**2).sum()) for w in weights.values()))


def _rejection(verdict: GateVerdict) -> str:
    figure = "" if verdict.figure is None else f" ({verdict.figure:g}, limit {verdict.threshold:g})"
    return f"rejected: {verdict.reason}{figure}. {ADVICE.get(verdict.reason, '')}".strip()
