"""The one path through the gates, for texts of any origin: a program, a file, a program that is being compiled.

    gating = Gating(collection, encoder, GatesConfig(), passage_words=200, definition="A passage is relevant …")
    drafts = gating.on_text(pair, [HardNegative("Shut down one half …")])      gates that need no encoder
    gating.rest(drafts)                                                        gates on cosines, then a trusted judge
      → [Draft(pair, HardNegative("Shut down one half …"), GateVerdict("over the margin of the positive", .97)), …]

These are two steps. The first runs pair by pair, so that the LM can be asked again at once for a text that fails; the
second runs on all texts of a set together.
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
from syneg.retrieval.encoder import Encoder

from .calibration import TrustedJudge
from .gates import REFUSED, REFUSED_CALL, UNPARSEABLE, GateContext, text_gates
from .judging import compare
from .text_reading import TrustedReader


@dataclass(frozen=True)
class Gating:
    """The gates with the collection and the encoder that they compare texts with.

    `passage_words` is how many words of a positive the program sees. `definition` tells the judge what relevant means.
    A trusted reader may take the judge's place; it reads only texts over the margin. Without either the margin decides
    whether a text may be relevant.
    """

    collection: Collection
    encoder: Encoder
    config: GatesConfig
    passage_words: int
    definition: str
    judge: TrustedJudge | TrustedReader | None = None

    @cached_property
    def profile(self) -> CorpusProfile:
        """Scripts, language and lengths of the corpus, computed on first use."""
        return CorpusProfile.of(self.collection.passages.values())

    def on_text(self, pair: Pair, negatives: Sequence[HardNegative], siblings: Sequence[str] = ()) -> list[Draft]:
        """Apply the gates that need no encoder to the negatives of one pair; return a draft for each.

        `siblings` are texts accepted for the pair before. Each accepted negative is a sibling of the next.
        """
        positives = self.collection.answers(pair.query_id)
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
        """Apply the gates on cosines to the accepted drafts, then the judge to those still accepted.

        Returns all drafts, in the same order. Raises BackendError when the judge keeps failing.
        """
        return self.judged(self.compared(drafts), progress)

    def compared(self, drafts: Sequence[Draft]) -> list[Draft]:
        """The drafts after the gates on cosines. With a judge or a reader, the margin rejects nothing."""
        return compare(drafts, self.collection, self.encoder, self.config, judged=self.judge is not None)

    def judged(self, drafts: Sequence[Draft], progress: Progress | None = None) -> list[Draft]:
        """The drafts after the judge, or the reader, has read the accepted ones; unchanged without one."""
        if self.judge is None:
            return list(drafts)
        if progress is None:
            return self.judge.decide(drafts, self.definition, self.config)
        with progress.stage(self.judge.name, "negatives") as line:
            judged = self.judge.decide(drafts, self.definition, self.config, line)
            line.note = f"{sum(draft.accepted for draft in judged)} do not answer"
        return judged
