"""The one path through the gates, for texts of any origin: a program, a file, a program that is being compiled.

    gating = Gating(collection, encoder, GatesConfig(), passage_words=200, definition="A passage is relevant …")
    drafts = gating.on_text(pair, [HardNegative("Shut down one half …")])      the gates that need no model
    gating.rest(drafts)                                                        those on cosines, then a trusted judge
      → [Draft(pair, HardNegative("Shut down one half …"), GateVerdict("over the margin of the positive", .97)), …]

They are two steps because a text that fails the first can be asked for again at once, pair by pair; the second takes
all texts of a set together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from syneg.core.config import GatesConfig
from syneg.core.progress import Progress
from syneg.core.records import Draft, GateVerdict, HardNegative, Pair
from syneg.core.text import cut, word_count
from syneg.data.collection import Collection
from syneg.data.corpus_profile import CorpusProfile
from syneg.programs import Judge
from syneg.retrieval.encoder import Encoder

from .calibration import TrustedJudge
from .gates import REFUSED, REFUSED_CALL, UNPARSEABLE, GateContext, text_gates
from .judging import ask_judge, compare


@dataclass(frozen=True)
class Gating:
    """What texts are held against. A positive is shown up to `passage_words`; `definition` is what the judge is told of
    relevance. Without a judge the margin decides."""

    collection: Collection
    encoder: Encoder
    config: GatesConfig
    passage_words: int
    definition: str
    judge: TrustedJudge | None = None

    @cached_property
    def profile(self) -> CorpusProfile:
        """Scripts, language and lengths of the corpus."""
        return CorpusProfile.of(self.collection.passages.values())

    def on_text(self, pair: Pair, negatives: Sequence[HardNegative], siblings: Sequence[str] = ()) -> list[Draft]:
        """Hold negatives of one pair against its positives, their parents, the corpus, and the accepted ones before
        them."""
        positives = self.collection.relevant_texts(pair.query_id)
        words = word_count(cut(pair.positive, self.passage_words))
        drafts: list[Draft] = []
        for negative in negatives:
            parent = self.collection.passages.get(negative.parent_doc_id or "")
            accepted = (*siblings, *(draft.negative.text for draft in drafts if draft.accepted))
            context = GateContext(pair.query, positives, accepted, parent, words, self.profile)
            nothing = GateVerdict(REFUSED if negative.finish_reason == REFUSED_CALL else UNPARSEABLE)
            verdict = text_gates(negative, context, self.config) if negative.text else nothing
            drafts.append(Draft(pair, negative, verdict))
        return drafts

    def rest(self, drafts: Sequence[Draft], progress: Progress | None = None) -> list[Draft]:
        """Hold what passed the gates on text against the encoder's, then let the judge read what is left.

        Raises BackendError when the judge keeps failing.
        """
        return self.judged(self.compared(drafts), progress)

    def compared(self, drafts: Sequence[Draft]) -> list[Draft]:
        """The drafts after the gates on cosines: without that on the margin where a judge decides."""
        return compare(drafts, self.collection, self.encoder, self.config, judged=self.judge is not None)

    def judged(self, drafts: Sequence[Draft], progress: Progress | None = None) -> list[Draft]:
        """The drafts after the judge; as they are without one."""
        if self.judge is None:
            return list(drafts)
        if progress is None:
            return ask_judge(drafts, Judge(), self.judge.lm, self.definition, self.config)
        with progress.stage("judge", "negatives") as line:
            judged = ask_judge(drafts, Judge(), self.judge.lm, self.definition, self.config, line)
            line.note = f"{sum(draft.accepted for draft in judged)} do not answer"
        return judged
