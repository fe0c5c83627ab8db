"""Find the real passages near written texts, and let the reader grade those that nobody has graded.

    near = readings.near.of("multi_attribute", drafts)
    near.doc_ids["80"]    → ["4920376", "711256", …]    the nearest first
    near.grades["80"]     → {"4920376": 1, …}

Arms `grounded` are made of them. The reader is asked once for each query with a text, if it may be used, and its grades
are kept in readings-grounded.jsonl, by other programs than the run's in readings-grounded-NAME.jsonl. Where it has
answered, only what it graded is in `doc_ids`. Grades of a file (`reader.given`) are used as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from syneg.core.counts import counted
from syneg.core.records import Draft
from syneg.core.storage import read_rows, write_rows
from syneg.llm.roles import DOUBT
from syneg.negatives.grounding import Grades, nearest
from syneg.negatives.reading import Reading, ToRead, grades_of
from syneg.verdict.verdict import Cost

from .costs import cost_of
from .negative_sets import slug
from .reader import Reader
from .workspace import Workspace

GROUNDING = "read grounded"  # name of the stage, and of the LM use in the ledger


@dataclass(frozen=True)
class Near:
    """The real passages near the texts of one program: `doc_ids[query_id]`, the nearest first, and their grades.

    `readings` are those that the reader was asked for, `calls` and `cost` what they took, by query_id and as a whole.
    """

    doc_ids: Mapping[str, Sequence[str]]
    grades: Grades
    readings: Sequence[Reading] = ()
    calls: Counter[str] = field(default_factory=Counter)
    cost: Cost = field(default_factory=Cost)


class NearReadings:
    """The passages near the texts of each program, graded once."""

    def __init__(self, workspace: Workspace, reader: Reader, listed: Callable[[], Grades]) -> None:
        """`listed()` are the grades of the reader's lists, as far as arms use them."""
        self._workspace, self._reader, self._listed = workspace, reader, listed
        self._made: dict[str, Near] = {}

    def of(self, program: str, drafts: Sequence[Draft]) -> Near:
        """Find the passages near the texts of `drafts`, all that `program` wrote, and have them graded."""
        if program not in self._made:
            self._made[program] = self._read(program, drafts)
        return self._made[program]

    def is_made(self, program: str) -> bool:
        """Whether the grades near the texts of `program` are on disk. Their inputs are not compared."""
        return self._workspace.manifest.key(self._stage(program)) is not None and self._path(program).exists()

    def _read(self, program: str, drafts: Sequence[Draft]) -> Near:
        workspace, config = self._workspace, self._workspace.config.reader
        texts: dict[str, list[str]] = {}
        for draft in drafts:
            if draft.negative.text:
                texts.setdefault(draft.pair.query_id, []).append(draft.negative.text)
        near = nearest(workspace.collection, workspace.encoder, workspace.pairs, texts)
        if self._reader.refusal():
            return Near(near, {})
        listed = self._listed()
        if config.given:
            return Near(near, listed)
        read = {pair.query_id for pair in workspace.pairs[: config.pairs or None]}
        new = {q: [d for d in own if d not in listed.get(q, {})] for q, own in near.items() if q in read}
        lists = self._reader.lists_near(new, self._purpose(program))
        readings = self._graded(program, lists)
        answered = grades_of(readings)
        grades = {q: {**answered.get(q, {}), **listed.get(q, {})} for q in near}
        done = {q for q in read if q in answered or (q in listed and not new.get(q))}
        doc_ids = {q: [d for d in own if q not in done or d in grades[q]] for q, own in near.items()}
        cost = Cost(**workspace.manifest.facts[GROUNDING][self._purpose(program)])
        return Near(doc_ids, grades, readings, self._calls(program, lists), cost)

    def _graded(self, program: str, lists: Sequence[ToRead]) -> list[Reading]:
        """The grades of `lists`, from disk if they were read with the same inputs."""
        workspace, reader, path = self._workspace, self._reader, self._path(program)
        thresholds = reader.measured.thresholds if workspace.config.reader.cross_encoder else None

        def work() -> None:
            with workspace.progress.stage(GROUNDING, "queries") as line, workspace.roles.used_for(GROUNDING):
                answers = reader.answers(lists, thresholds, line)
                counts = Counter(reading.grade for reading in answers.readings)
                shown = ", ".join(f"{grade}: {counts[grade]}" for grade in sorted(counts, reverse=True))
                line.note = f"{counted(counts.total(), 'grade')} near written texts ({shown})"
                line.note += (
                    f"; {counted(answers.unreadable, 'list')} without a readable answer" if answers.unreadable else ""
                )
            write_rows(path, [asdict(reading) for reading in answers.readings])
            spent = {
                **workspace.manifest.facts.get(GROUNDING, {}),
                self._purpose(program): asdict(cost_of(answers.calls)),
            }
            workspace.manifest.note(**{GROUNDING: spent})

        key = reader.key(GROUNDING, [(asked.query_id, asked.doc_ids) for asked in lists], thresholds)
        workspace.manifest.make(self._stage(program), key, path, work)
        return [Reading(**row) for row in read_rows(path)]

    def _calls(self, program: str, lists: Sequence[ToRead]) -> Counter[str]:
        """Count the LM calls for `lists`, at least 1 for each, by query_id."""
        begin, ledger = f"{self._purpose(program)}:", self._workspace.folder.ledger
        asked = Counter(
            str(row["query_id"]).removeprefix(begin)
            for row in read_rows(ledger)
            if row.get("use") in (GROUNDING, DOUBT)
        )
        return Counter({each.query_id: max(1, asked[each.query_id]) for each in lists})

    def _name(self, program: str) -> str:
        return "" if program in ("auto", self._workspace.config.generate.program) else slug(program)

    def _purpose(self, program: str) -> str:
        return f"near {name}" if (name := self._name(program)) else "near"

    def _stage(self, program: str) -> str:
        return f"{GROUNDING} {name}" if (name := self._name(program)) else GROUNDING

    def _path(self, program: str) -> Path:
        return self._workspace.folder.readings_near(self._name(program))
