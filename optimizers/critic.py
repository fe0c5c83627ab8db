"""What one answer is worth, in under a second and in words: the gates, then hardness and validity.

    critic(pair, [HardNegative("We follow 112 giant planets …")])
      → Judgement(value=.71, feedback="accepted. The encoder gives it .55 and the positive .61 (hard). …", drafts=(…,))

The value of what the gates let through is hardness times validity: near to the query (its cosine over that of the
positive, from the floor of the gates to the positive's own), and not another wording of a positive (cosine to it, from
.85 down to 0 at 1). Its mean says what to try next, and with less than 100 pairs it chooses together with the objective
(`search.ordered`; docs/lab_notes.md has how far each can be trusted). A single negative cannot say what a whole set
does, which is the objective's (`objective`).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from syneg.core.records import Draft, GateVerdict, HardNegative, Pair
from syneg.negatives.gates import ADVICE
from syneg.negatives.gating import Gating
from syneg.programs import fenced

from .target import Worth

_NOTHING, _REJECTED, _LEAST = 0.0, 0.1, 0.2
_VALID = 0.85  # cosine to a positive from which a text counts as less and less of a negative
_HARD, _EASY = 0.8, 0.6  # of the positive's cosine to the query
_DEEPEST = 1000  # rank from which a positive is only said to be below it
_SHOWN = 160  # characters of a wrong passage


@dataclass(frozen=True)
class Judgement(Worth):
    """What an answer is worth, and its negatives with what the gates say."""

    drafts: tuple[Draft, ...] = ()

    @property
    def accepted(self) -> list[HardNegative]:
        """The negatives that passed all gates."""
        return [draft.negative for draft in self.drafts if draft.accepted]

    @property
    def counts(self) -> tuple[int, int]:
        """How many negatives passed the gates, and how many did not."""
        return len(self.accepted), len(self.drafts) - len(self.accepted)


class Critic:
    """Judges what a program answers for a pair, where `wanted` negatives are asked for; from any thread."""

    def __init__(self, gating: Gating, wanted: int = 1) -> None:
        self._gating, self._wanted = gating, wanted
        self._judgements: dict[tuple[object, ...], Judgement] = {}
        self._standings: dict[str, tuple[int, str]] = {}
        self._lock = threading.Lock()

    def __call__(self, pair: Pair, negatives: Sequence[HardNegative]) -> Judgement:
        """The judgement of an answer: the mean over the negatives asked for, of which a missing one counts nothing."""
        key = pair.query_id, *((n.text, n.parent_doc_id, n.finish_reason) for n in negatives)
        if key not in self._judgements:
            with self._lock:  # of the encoder; the judge's calls are made side by side
                drafts = self._gating.compared(self._gating.on_text(pair, negatives))
            drafts = self._gating.judged(drafts)
            with self._lock:
                self._judgements[key] = self._judgement(pair, drafts)
        return self._judgements[key]

    def _judgement(self, pair: Pair, drafts: Sequence[Draft]) -> Judgement:
        if not drafts:
            return Judgement(_NOTHING, "no negative could be read from the answer.")
        value = sum(map(self.value, drafts)) / max(self._wanted, len(drafts))
        feedback = [self._words(pair, draft) for draft in drafts]
        if len(feedback) > 1:
            feedback = [f"Negative {number}: {words}" for number, words in enumerate(feedback, 1)]
        return Judgement(value, " ".join(feedback), tuple(drafts))

    def value(self, draft: Draft) -> float:
        """What a text is worth: 0 for none, .1 where a gate rejects it, else .2 to 1."""
        if not draft.negative.text:
            return _NOTHING
        return _LEAST + (1 - _LEAST) * self._worth(draft.verdict.figures) if draft.accepted else _REJECTED

    def _worth(self, figures: Mapping[str, float]) -> float:
        """Hardness times validity, 0 to 1."""
        near, positive = figures.get("query_cosine", 0.0), figures.get("positive_query_cosine", 0.0)
        # hardness: 0 at the floor of the gates, 1 where the text is as near to the query as the positive
        floor = self._gating.config.floor
        share = near / positive if positive > 0 else 1.0
        hardness = min(1.0, max(0.0, (share - floor) / max(1e-6, 1 - floor)))
        # validity: 1 up to a cosine of .85 to the positive, 0 where it is another wording of it
        validity = min(1.0, max(0.0, (1 - figures.get("positive_cosine", 0.0)) / (1 - _VALID)))
        return hardness * validity

    def _words(self, pair: Pair, draft: Draft) -> str:
        if not draft.negative.text:
            why = fenced(draft.negative.reasoning) if draft.negative.reasoning else ""
            return f"no negative could be read from the answer. {why}".strip()
        if not draft.accepted:
            return _rejection(draft.verdict)
        near = draft.verdict.figures.get("query_cosine", 0.0)
        positive = draft.verdict.figures.get("positive_query_cosine", 0.0)
        hard = "hard" if near > _HARD * positive else "fair"
        if near < _EASY * positive:
            hard = "easy: it is on another matter"
        rank, wrong = self._standing(pair)
        return (
            f"accepted. The encoder gives it {near:.2f} and the positive {positive:.2f} ({hard}). "
            f"The positive ranks {rank if rank <= _DEEPEST else f'below {_DEEPEST}'} of all passages. "
            f"The nearest wrong passage is: {fenced(wrong)}"
        )

    def _standing(self, pair: Pair) -> tuple[int, str]:
        """The rank of the pair's best positive among all passages under the untuned encoder (`_DEEPEST` + 1 for any
        below that), and the start of the first wrong passage."""
        if pair.query_id not in self._standings:
            collection, encoder = self._gating.collection, self._gating.encoder
            query = encoder.encode([pair.query], "query")  # (1, dim)
            (hits,) = encoder.index(collection.passages).search(query, _DEEPEST)
            ranked = [doc_id for doc_id, _ in hits]
            relevant = collection.relevant(pair.query_id)
            rank = next((i for i, doc_id in enumerate(ranked, 1) if doc_id in relevant), _DEEPEST + 1)
            right = {*collection.no_negative(pair.query_id), pair.query_id}
            wrong = next((doc_id for doc_id in ranked if doc_id not in right), None)
            self._standings[pair.query_id] = rank, collection.passages[wrong][:_SHOWN] if wrong else ""
        return self._standings[pair.query_id]


def _rejection(verdict: GateVerdict) -> str:
    figure = "" if verdict.figure is None else f" ({verdict.figure:g}, limit {verdict.threshold:g})"
    return f"rejected: {verdict.reason}{figure}. {ADVICE.get(verdict.reason, '')}".strip()
