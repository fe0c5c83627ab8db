"""A trusted reader in place of the margin: it grades written texts that score too near to the positive.

    TrustedReader(reader_lm, GradeList(), "gpt-4o-mini@…", 12).decide(drafts, definition, GatesConfig())
      → [Draft(…, GateVerdict("", figures={"margin": 1.02, "grade": 1})), …]

The margin rejects a text because it may be relevant, and so the hardest valid texts first. A reader tells the two
apart. It reads only texts over the margin, in one list for each query, beside a known positive. A text graded 2 or 3 is
rejected. The margin decides where the list cannot be read, or where the positive got less than a 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import dspy

from syneg.core.config import GatesConfig
from syneg.core.progress import Tick
from syneg.core.records import Draft, GateVerdict, fingerprint
from syneg.llm.lms import LanguageModel

from .gates import GRADED
from .judging import without_judge
from .reading import IN_PART, ToRead, read_by_lm


@dataclass(frozen=True)
class TrustedReader:
    """An LM that may grade written texts. `identity` names it with its measurement; it grades `count` texts at once."""

    lm: LanguageModel
    program: dspy.Module
    identity: str
    count: int
    name: str = "reader"

    @property
    def key(self) -> tuple[str, str]:
        """The part of a stage's key that names this reader: its identity and a hash of its program."""
        return self.identity, fingerprint(self.program.dump_state())

    def decide(
        self, drafts: Sequence[Draft], definition: str, gates: GatesConfig, progress: Tick | None = None
    ) -> list[Draft]:
        """The drafts, in the same order; accepted ones over the margin have the reader's grade. Raises BackendError
        when the LM keeps failing."""
        near = [place for place, draft in enumerate(drafts) if draft.accepted and _is_over(draft.verdict, gates)]
        grades = self._grades([drafts[place] for place in near], definition, progress)
        decided = list(drafts)
        for place, grade in zip(near, grades, strict=True):
            decided[place] = replace(drafts[place], verdict=_verdict(drafts[place].verdict, grade, gates))
        return decided

    def _grades(self, drafts: Sequence[Draft], definition: str, progress: Tick | None) -> list[int | None]:
        """The grade of each draft; None if it was not read, or not read well."""
        texts = {str(place): draft.negative.text for place, draft in enumerate(drafts)}
        of_query: dict[str, list[str]] = {}  # query_id → ids of its texts
        pairs = {draft.pair.query_id: draft.pair for draft in drafts}
        for place, draft in enumerate(drafts):
            of_query.setdefault(draft.pair.query_id, []).append(str(place))
        lists, most = list[ToRead](), max(1, self.count - 1)
        for query_id, ids in of_query.items():
            for start in range(0, len(ids), most):
                positive = f"positive {len(lists)}"
                texts[positive] = pairs[query_id].positive
                shown = (positive, *ids[start : start + most])
                lists.append(ToRead(query_id, pairs[query_id].query, shown, frozenset({positive}), frozenset()))
        read = read_by_lm(lists, self.lm, definition, texts, progress, self.program).by_query()
        grades: list[int | None] = [None] * len(drafts)
        for asked in lists:
            own = read.get(asked.query_id, {})
            if own.get(asked.doc_ids[0], 0) >= IN_PART:
                for doc_id in asked.doc_ids[1:]:
                    grades[int(doc_id)] = own.get(doc_id)
        return grades


def _is_over(verdict: GateVerdict, gates: GatesConfig) -> bool:
    """Whether the margin would reject an accepted text."""
    return not without_judge(verdict, gates).accepted


def _verdict(verdict: GateVerdict, grade: int | None, gates: GatesConfig) -> GateVerdict:
    if grade is None:
        return without_judge(verdict, gates)
    figures = {**verdict.figures, "grade": float(grade)}
    if grade < IN_PART:
        return replace(verdict, figures=figures)
    return replace(verdict, reason=GRADED, figure=float(grade), threshold=float(IN_PART - 1), figures=figures)
