"""Grade the passages near the train queries with the reader, and turn the grades into training data.

    readings = Readings(workspace)
    readings.grades["80"]              → {"7317051": 2, "4920376": 1, …}
    readings.fed.extra["80"]           → {"17462437": "We followed 112 …"}       graded 3, not in the qrels

readings.jsonl holds one grade a line. Passages graded 0 and 1 become negatives, even if they score over the margin.
Passages graded 2 are left out and masked in the batch. Passages graded 3 become further positives (docs/training.md,
"Reading").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property

from syneg.core.counts import counted, part_of
from syneg.core.errors import ConfigError, UnusableError
from syneg.core.records import PARTIAL, READ, RELATED, MinedNegative, Pair
from syneg.core.storage import JsonObject, read_rows, write_rows
from syneg.llm.roles import DOUBT
from syneg.negatives.cross_reading import Thresholds
from syneg.negatives.judged import Judged, keys_of
from syneg.negatives.mining import scores_of
from syneg.negatives.reading import ANSWERS, IN_PART, NEAR, Answers, Reading, grades_of
from syneg.verdict.verdict import Cost

from .arms import Arm, arms
from .costs import cost_of, sum_of
from .near_readings import NearReadings
from .reader import Reader
from .second_looks import LOOK, looked_at
from .workspace import Workspace

READING = "read"  # name of the stage, and of the LM use in the ledger


@dataclass(frozen=True)
class Fed:
    """Training data from the grades, by query_id.

    `mined` are negatives, hardest first. `extra` are further positives, doc_id → text. `masked` are texts that must not
    be in-batch negatives. `partial` are passages graded 2; only distillation from a teacher uses them.
    """

    mined: Mapping[str, Sequence[MinedNegative]]
    extra: Mapping[str, Mapping[str, str]]
    masked: Mapping[str, Sequence[str]]
    partial: Mapping[str, Sequence[MinedNegative]] = field(default_factory=dict)


class Readings:
    """The reader's grades for the train queries, made once and kept in readings.jsonl."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._config = workspace.config.reader
        self.reader = Reader(workspace)

    def over(self, workspace: Workspace) -> Readings:
        """Return readings by the same reader for the train queries of another workspace, without measuring anew."""
        other = Readings(workspace)
        other.reader = self.reader
        return other

    @cached_property
    def readings(self) -> list[Reading]:
        """All grades for the train queries, kept in readings.jsonl. Raises UnusableError if no answer can be read."""
        workspace, path, pairs = self._workspace, self._workspace.folder.readings, self._pairs
        thresholds = self._thresholds

        def work() -> None:
            lists = [] if self._config.given else self.reader.lists(pairs)
            with workspace.progress.stage(READING, "queries") as line, workspace.roles.used_for(READING):
                answers = self._given(pairs) if self._config.given else self.reader.answers(lists, thresholds, line)
                if lists and answers.unreadable == len(lists):
                    raise UnusableError(
                        f"no answer of {self.reader.identity!r} grades every passage of its list",
                        todo="try another --reader-lm, or reader.cross_encoder",
                    )
                counts = Counter(reading.grade for reading in answers.readings)
                shown = ", ".join(f"{grade}: {counts[grade]}" for grade in sorted(counts, reverse=True))
                line.note = (
                    f"{counted(counts.total(), 'grade')} for {counted(len(answers.by_query()), 'query')} ({shown})"
                )
                line.note += f"; {counted(answers.in_doubt, 'list')} in doubt read again" if self._config.strong else ""
                line.note += (
                    f"; {counted(answers.unreadable, 'list')} without a readable answer" if answers.unreadable else ""
                )
            looked = looked_at(workspace, self.reader, lists, answers)
            write_rows(path, [asdict(reading) for reading in looked.readings])
            cost = cost_of([*answers.calls, *looked.calls])
            workspace.manifest.note(read={
                "cost": asdict(cost), "unreadable": answers.unreadable, "asked": looked.asked, "denied": looked.denied,
            })  # fmt: skip

        workspace.manifest.make("read", self._key, path, work)
        return [Reading(**row) for row in read_rows(path)]

    @property
    def _thresholds(self) -> Thresholds | None:
        return self.reader.measured.thresholds if self._config.cross_encoder else None

    @property
    def _key(self) -> str:
        looks = [self._config.looks_again] if self._config.looks_again else []
        return self.reader.key([pair.query_id for pair in self._pairs], self._thresholds, *looks)

    @property
    def is_made(self) -> bool:
        """Whether readings.jsonl holds the grades for these settings."""
        if not self.reader.is_compiled:
            return False
        return self._workspace.manifest.has("read", self._key, self._workspace.folder.readings)

    @property
    def queries(self) -> int:
        """Number of train queries whose passages are graded."""
        return len(self._pairs)

    @cached_property
    def grades(self) -> dict[str, dict[str, int]]:
        """query_id → doc_id → grade."""
        return grades_of(self.readings)

    @property
    def unjudged(self) -> dict[str, dict[str, int]] | None:
        """The grades of passages that nobody judged relevant, query_id → doc_id → grade; it makes no LM call.

        None if the grades are not on disk, or if the reader may not be used.
        """
        if self._config.use == "off":
            return None
        if not self._config.given:
            if not self._workspace.folder.readings.exists():
                return None
            if not (self._config.use == "on" or self.reader.is_measured) or not self.is_made:
                return None
        if self.reader.refusal():
            return None
        relevant = self._workspace.collection.relevant
        return grades_of([reading for reading in self.readings if reading.doc_id not in relevant(reading.query_id)])

    @cached_property
    def calls(self) -> dict[str, int]:
        """query_id → LM calls for its list, at least 1; a list of given grades counts one call."""
        rows = read_rows(self._workspace.folder.ledger)
        asked = Counter(
            str(row["query_id"]).removeprefix("read:") for row in rows if row.get("use") in (READING, DOUBT, LOOK)
        )
        return {query_id: max(1, asked[query_id]) for query_id in self.grades}

    @property
    def cost(self) -> Cost:
        """Cost of the LM calls that graded the lists, and of those that measured the reader, if it was measured."""
        _ = self.readings
        own = Cost(**self._workspace.manifest.facts["read"]["cost"])
        return sum_of([own] if self._config.given or not self.reader.is_measured else [self.reader.measured.cost, own])

    def fed_of(self, query_ids: Container[str] | None) -> Fed:
        """Training data from the grades of `query_ids` (None = all); other queries keep their mined negatives."""
        if query_ids is None:
            return self.fed
        fed, mined = self.fed, self._workspace.mined
        return Fed(
            {q: own if q in query_ids else mined.get(q, ()) for q, own in fed.mined.items()},
            {q: own for q, own in fed.extra.items() if q in query_ids},
            {q: own for q, own in fed.masked.items() if q in query_ids},
            {q: own for q, own in fed.partial.items() if q in query_ids},
        )

    @cached_property
    def fed(self) -> Fed:
        """Training data from all grades. Queries without grades keep their mined negatives."""
        workspace = self._workspace
        collection, most = workspace.collection, workspace.config.mine.per_query
        read = [pair for pair in workspace.pairs if pair.query_id in self.grades]
        ids = [[d for d, grade in self.grades[pair.query_id].items() if grade <= NEAR] for pair in read]
        texts = [[collection.passages[doc_id] for doc_id in own] for own in ids]
        mined: dict[str, Sequence[MinedNegative]] = dict(workspace.mined)
        extra: dict[str, dict[str, str]] = {}
        key_of = keys_of(collection)
        masked: dict[str, list[str]] = {}
        partial: dict[str, list[MinedNegative]] = {}
        for pair, own, shown, (scores, _) in zip(
            read, ids, texts, scores_of(workspace.encoder, read, texts), strict=True
        ):
            grades, judged = self.grades[pair.query_id], Judged(collection, pair.query_id, key_of)
            ranked = sorted(zip(scores.tolist(), own, shown, strict=True), key=lambda row: (-row[0], row[1]))
            verified = [
                MinedNegative(doc_id, text, RELATED if grades[doc_id] == NEAR else READ, rank, score)
                for rank, (score, doc_id, text) in enumerate(ranked, 1) if not judged.excludes(doc_id)
            ]  # fmt: skip
            unread = [n for n in workspace.mined.get(pair.query_id, ()) if n.doc_id not in grades]
            mined[pair.query_id] = [*verified, *unread][:most]
            relevant = {d: collection.passages[d] for d, grade in grades.items() if grade >= IN_PART}
            masked[pair.query_id] = list(relevant.values())
            partial[pair.query_id] = [
                MinedNegative(d, text, PARTIAL, 0, 0.0)
                for d, text in relevant.items() if grades[d] == IN_PART and not judged.excludes(d)
            ]  # fmt: skip
            extra[pair.query_id] = {
                d: text for d, text in relevant.items()
                if grades[d] == ANSWERS and d not in collection.qrels[pair.query_id] and not judged.is_known(d)
            }  # fmt: skip
        return Fed(mined, extra, masked, partial)

    @cached_property
    def are_used(self) -> bool:
        """Whether an arm uses grades and the reader may be used."""
        return any(arm.reads for arm in arms(self._workspace.config)) and not self.reader.refusal()

    def serve(self, arm: Arm) -> bool:
        """Whether an arm is made with grades of the lists. `grounded` uses those at hand."""
        return arm.reads or (arm.grounds and self._are_at_hand)

    @property
    def _are_at_hand(self) -> bool:
        """Whether `grades` need no call that is not made for other arms, and may be used."""
        return self.are_used or (bool(self._config.given) and not self.reader.refusal())

    @cached_property
    def near(self) -> NearReadings:
        """The real passages near written texts, with grades."""
        return NearReadings(self._workspace, self.reader, lambda: self.grades if self._are_at_hand else {})

    def candidates(self) -> Mapping[str, Sequence[MinedNegative]]:
        """Passages that a program may rewrite, by query_id: the mined negatives.

        If arms use the reader, its negatives replace them: passages graded 1 (real near-misses) come first.
        """
        if not self.are_used:
            return self._workspace.mined
        return {q: sorted(mined, key=lambda n: n.source != RELATED) for q, mined in self.fed.mined.items()}

    def result(self) -> JsonObject:
        """The reader's agreement as plain data, with counts of its grades if it may be used.

        Raises ConfigError if `reader.use` is off.
        """
        if self._config.use == "off":
            raise ConfigError("reader.use is off", todo="set it to auto or on")
        measured, refusal = self.reader.measured, self.reader.refusal()
        result = {**measured.to_json(), "table": measured.table(), "trusted": measured.trusted, "refusal": refusal}
        return result if refusal else {**result, "read": self.summary()}

    def summary(self) -> JsonObject:
        """Counts of queries, calls, grades, known, new and masked positives, and second looks, as plain data."""
        counts = Counter(reading.grade for reading in self.readings)
        known = [r for r in self.readings if r.doc_id in self._workspace.collection.relevant(r.query_id)]
        facts = self._workspace.manifest.facts["read"]
        return {
            "queries": len(self.grades), "unreadable": facts["unreadable"],
            "calls": self.cost.calls, "grades": {grade: counts[grade] for grade in sorted(counts, reverse=True)},
            "positives": len(known), "recalled": sum(reading.grade >= IN_PART for reading in known),
            "extra": sum(map(len, self.fed.extra.values())), "masked": counts[IN_PART],
            "asked": facts.get("asked", 0), "denied": facts.get("denied", 0),
        }  # fmt: skip

    def _given(self, pairs: Sequence[Pair]) -> Answers:
        wanted = {pair.query_id for pair in pairs}
        return Answers([reading for reading in self.reader.given if reading.query_id in wanted])

    @cached_property
    def _pairs(self) -> list[Pair]:
        pairs = self._workspace.pairs
        limit = self._config.pairs or len(pairs)
        if limit < len(pairs) and not self._config.given:
            self._workspace.progress.say(
                f"  {part_of(limit, len(pairs), 'train query', 'is', 'are')} read for (reader.pairs 0 for all)"
            )
            return pairs[:limit]
        return pairs
