"""Look again at single passages graded 3, before they become positives.

    looked_at(workspace, reader, lists, answers)
      → Looked(readings=[Reading("80", "17462437", grade=2, …), …], asked=14, denied=5, calls=[…])

A passage graded 3 that nobody judged becomes a further positive, so a wrong 3 costs most. With `reader.second_look`,
an LM grades each of them once more, beside one known positive: the one that was graded highest. The passage stays a 3
if it is graded 3 again and the known positive is graded at least 2. Otherwise it counts as 2, and is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from syneg.core.counts import counted
from syneg.core.records import Call
from syneg.data.collection import Collection
from syneg.data.tasks import task_for
from syneg.negatives.judged import Judged, keys_of
from syneg.negatives.reading import ANSWERS, IN_PART, Answers, Reading, ToRead, grades_of, read_by_lm

from .reader import Reader
from .workspace import Workspace

LOOK = "look again"  # name of the stage, and of the LM use in the ledger
_CHECK = "check "  # before the doc_id of the passage that a known positive stands beside


@dataclass(frozen=True)
class Looked:
    """The grades after the second looks. `asked` passages were looked at, `denied` of them count as 2 now."""

    readings: Sequence[Reading]
    asked: int = 0
    denied: int = 0
    calls: Sequence[Call] = field(default_factory=tuple)


def looked_at(workspace: Workspace, reader: Reader, lists: Sequence[ToRead], answers: Answers) -> Looked:
    """Ask about each new 3 of `answers` to `lists`, by the strong LM if there is one, if the settings want it.

    Raises BackendError when the LM keeps failing.
    """
    if not workspace.config.reader.looks_again:
        return Looked(answers.readings)
    collection, roles = workspace.collection, workspace.roles
    texts = dict[str, str]()
    doubted = list(second_lists(lists, answers.by_query(), collection, texts))
    if not doubted:
        return Looked(answers.readings)
    with workspace.progress.stage(LOOK, "passages") as line, roles.used_for(LOOK):
        lm = roles.strong_reader_lm if workspace.config.reader.strong else roles.reader_lm
        again = read_by_lm(doubted, lm, task_for(workspace.config).definition, texts, line, reader.grader)
        kept, asked = confirmed(again.readings), {(look.query_id, look.doc_ids[0]) for look in doubted}
        line.note = f"{len(kept)} of {counted(len(asked), 'new 3')} graded 3 again"
    denied = asked - kept
    readings = [replace(r, grade=IN_PART) if (r.query_id, r.doc_id) in denied else r for r in answers.readings]
    return Looked(readings, len(asked), len(denied), again.calls)


def second_lists(
    lists: Sequence[ToRead], grades: Mapping[str, Mapping[str, int]], collection: Collection, texts: dict[str, str]
) -> Iterator[ToRead]:
    """Yield a list for each passage graded 3 that would become a positive: the passage, then a known positive under an
    id of its own. Puts their texts into `texts`, by id."""
    key_of = keys_of(collection)
    for asked in lists:
        own = grades.get(asked.query_id, {})
        new = [d for d, grade in own.items() if grade == ANSWERS and d not in collection.qrels[asked.query_id]]
        judged = Judged(collection, asked.query_id, key_of) if new else None
        known = max((d for d in asked.doc_ids if d in asked.positives), key=lambda d: own.get(d, 0), default=None)
        for doc_id in new:
            if judged is None or judged.is_known(doc_id):
                continue
            shown = [doc_id]
            texts[doc_id] = collection.passages[doc_id]
            if known is not None:
                shown.append(f"{_CHECK}{asked.query_id} {doc_id}")
                texts[shown[1]] = collection.passages[known]
            yield ToRead(asked.query_id, asked.query, tuple(shown), frozenset(shown[1:]), frozenset())


def confirmed(readings: Sequence[Reading]) -> set[tuple[str, str]]:
    """(query_id, doc_id) of the passages graded 3 beside a known positive that is graded 2 or 3.

    >>> rows = [("q", "a", 3), ("q", "check q a", 2), ("q", "b", 3), ("q", "check q b", 1), ("q", "c", 2)]
    >>> sorted(confirmed([Reading(*row) for row in rows]))
    [('q', 'a')]
    """
    return {
        (query_id, doc_id)
        for query_id, grades in grades_of(readings).items()
        for doc_id, grade in grades.items()
        if grade == ANSWERS and not doc_id.startswith(f"{_CHECK}{query_id} ")
        and grades.get(f"{_CHECK}{query_id} {doc_id}", IN_PART) >= IN_PART
    }  # fmt: skip
