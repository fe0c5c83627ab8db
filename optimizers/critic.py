"""Judge one answer in under a second, with a number and in words: the gates, then hardness and validity.

    critic(pair, [HardNegative("We follow 112 giant planets …")])
      → Judgement(value=.71, feedback="accepted. The encoder gives it .55 and the positive .61 (hard). …", drafts=(…,))

The value of a negative that passes the gates is hardness times validity, scaled to .2 to 1:
- hardness is 0 at the floor of the gates, and 1 when the negative is as near to the query as the positive;
- validity is 1 up to a cosine of .85 to the positive, and 0 when the negative is another wording of it.

The mean over answers decides which program to try next. With under 100 pairs it also takes part in the final choice
(`search.ordered`; docs/lab_notes.md tells how far critic and objective can be trusted). What a whole set of negatives
does to retrieval is measured by `objective`.
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

_NOTHING, _REJECTED, _LEAST = 0.0, 0.1, 0.2  # values: no text, rejected by a gate, the least of an accepted negative
_VALID = 0.85  # cosine to a positive above which validity falls
_HARD, _EASY = 0.8, 0.6  # shares of the positive's cosine to the query
_DEEPEST = 1000  # lower ranks of a positive are reported as "below 1000"


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
    """Judges a program's answer for a pair, of which `wanted` negatives are expected. Safe to call from any thread."""

    def __init__(self, gating: Gating, wanted: int = 1) -> None:
        self._gating, self._wanted = gating, wanted
        self._judgements: dict[tuple[object, ...], Judgement] = {}
        self._baselines: dict[str, tuple[int, str]] = {}
        self._lock = threading.Lock()

    def __call__(self, pair: Pair, negatives: Sequence[HardNegative]) -> Judgement:
        """The judgement of an answer: the mean value of its negatives; a missing negative counts 0.

        Raises BackendError when the judge's LM keeps failing.
        """
        key = pair.query_id, *((n.text, n.parent_doc_id, n.finish_reason) for n in negatives)
        if key not in self._judgements:
            with self._lock:  # one thread uses the encoder; the judge's calls run in parallel
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
        """The value of one draft: 0 without a text, .1 if a gate rejects it, otherwise .2 to 1."""
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
        rank, wrong = self._baseline(pair)
        return (
            f"accepted. The encoder gives it {near:.2f} and the positive {positive:.2f} ({hard}). "
            f"The positive ranks {rank if rank <= _DEEPEST else f'below {_DEEPEST}'} of all passages. "
            f"The nearest wrong passage is: {fenced(wrong)}"
        )

    def _baseline(self, pair: Pair) -> tuple[int, str]:
        """The rank of the pair's best positive under the untuned encoder, and the first wrong passage.

        Ranks below 1000 are given as 1001.
        """
        if pair.query_id not in self._baselines:
            collection, encoder = self._gating.collection, self._gating.encoder
            query = encoder.encode([pair.query], "query")  # (1, dim)
            (hits,) = encoder.index(collection.passages).search(query, _DEEPEST)
            ranked = [doc_id for doc_id, _ in hits]
            relevant = collection.relevant(pair.query_id)
            rank = next((i for i, doc_id in enumerate(ranked, 1) if doc_id in relevant), _DEEPEST + 1)
            right = {*collection.no_negative(pair.query_id), pair.query_id}
            wrong = next((doc_id for doc_id in ranked if doc_id not in right), None)
            self._baselines[pair.query_id] = rank, collection.passages[wrong] if wrong else ""
        return self._baselines[pair.query_id]


def _rejection(verdict: GateVerdict) -> str:
    figure = "" if verdict.figure is None else f" ({verdict.figure:g}, limit {verdict.threshold:g})"
    return f"rejected: {verdict.reason}{figure}. {ADVICE.get(verdict.reason, '')}".strip()
