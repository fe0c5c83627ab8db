"""Reading: a trusted reader grades the nearest passages of a query, to find the relevant ones that nobody judged.

    lists = lists_to_read(collection, encoder, pairs, count=20, seed=0)
      → [ToRead("3", "close a socket", ("d9", "d3", …), positives={"d3"}, checks={"d77"}), …]
    read_by_lm(lists, reader_lm, task, passages)
      → Answers([Reading("3", "d9", grade=1), Reading("3", "d3", grade=3, span="close() shuts the socket"), …])

Grades: 3 answers the query, 2 answers it in part, 1 is on the same matter, 0 is on another matter
(`syneg.programs.GradeList`). A list takes passages from dense search and BM25 in turn. It also contains known positives
and one known negative, so that each list measures how well it was read. The reader sees neither ids nor scores. Every
call is in the ledger, so a stage that was interrupted asks only for the remaining lists. Relabelling false negatives
with an LLM is the idea of RLHN (arXiv 2505.16967).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import dspy

from syneg.core.config import ReaderConfig
from syneg.core.progress import Tick
from syneg.core.records import Call, Pair
from syneg.core.threads import in_order
from syneg.data.collection import Collection
from syneg.llm.calls import PROGRAM_ERRORS, purpose, reraise_fatal
from syneg.llm.lms import LanguageModel
from syneg.programs import GradeList
from syneg.retrieval.encoder import Encoder
from syneg.retrieval.indexes import LexicalIndex

from .gates import REFUSED_CALL

ANSWERS, IN_PART, NEAR, OTHER = 3, 2, 1, 0
_POSITIVES = 3  # known positives in a list
_EMBEDDED = 5  # passages that fit the context of an embedded LM
_ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class Reading:
    """One grade of one passage: a row of readings.jsonl.

    `span` holds the words that the reader quotes for a 2 or 3; it is empty otherwise.
    """

    query_id: str
    doc_id: str
    grade: int
    span: str = ""
    lm: str = ""


@dataclass(frozen=True)
class ToRead:
    """The passages of one query to grade, the encoder's nearest first.

    `positives` are those judged relevant, `checks` the known negatives among them. `purpose` is what the ledger calls
    the reading, before the query_id.
    """

    query_id: str
    query: str
    doc_ids: tuple[str, ...]
    positives: frozenset[str]
    checks: frozenset[str]
    purpose: str = "read"


@dataclass
class Answers:
    """The grades of all lists. `unreadable` counts the lists without a usable answer; `calls` are the LM calls made.
    `in_doubt` counts the lists that a second LM read."""

    readings: list[Reading] = field(default_factory=list)
    unreadable: int = 0
    calls: list[Call] = field(default_factory=list)
    in_doubt: int = 0

    def by_query(self) -> dict[str, dict[str, int]]:
        """query_id → doc_id → grade."""
        return grades_of(self.readings)


def grades_of(readings: Sequence[Reading]) -> dict[str, dict[str, int]]:
    """query_id → doc_id → grade."""
    grades: dict[str, dict[str, int]] = {}
    for reading in readings:
        grades.setdefault(reading.query_id, {})[reading.doc_id] = reading.grade
    return grades


def passages_in_a_list(config: ReaderConfig, models: Sequence[str]) -> int:
    """How many passages the LMs called `models` grade at once: at most five if one of them is embedded."""
    embedded = any(model.startswith("local/") for model in models)
    return min(config.candidates, _EMBEDDED) if embedded else config.candidates


def lists_to_read(
    collection: Collection, encoder: Encoder, pairs: Sequence[Pair], count: int, seed: int
) -> list[ToRead]:
    """Choose `count` passages for each pair's query: up to three known positives, one known negative, near passages.

    The same seed gives the same lists. In the corpus, a passage with the query's own id is the query itself (as in some
    BEIR collections) and is left out.
    """
    if not pairs:
        return []
    queries = encoder.encode([pair.query for pair in pairs], "query")
    dense = encoder.index(collection.passages).search(queries, count + _POSITIVES)
    lexical = LexicalIndex(collection.passages).search([pair.query for pair in pairs], count + _POSITIVES)
    doc_ids = list(collection.passages)
    drafts = []
    for pair, near, worded in zip(pairs, dense, lexical, strict=True):
        draw = random.Random(f"{seed}:read:{pair.query_id}")
        relevant = collection.relevant(pair.query_id)
        nearest = _in_turn(near, worded)
        known = sorted(relevant)
        positives = draw.sample(known, min(_POSITIVES, len(known), max(1, count // 5)))
        beside = {*nearest, *collection.no_negative(pair.query_id)}
        checks = _known_negative(collection, pair.query_id, beside, doc_ids, draw)
        own = {pair.query_id} - {*collection.qrels[pair.query_id]}  # as in BEIR: the query itself, in the corpus
        rest = [doc_id for doc_id in nearest if doc_id not in {*relevant, *checks, *own}]
        shown = (*positives, *checks, *rest[: max(0, count - len(positives) - len(checks))])
        drafts.append(ToRead(pair.query_id, pair.query, shown, frozenset(positives), frozenset(checks)))
    return ordered(drafts, collection.passages, encoder)


def near_lists(
    collection: Collection, encoder: Encoder, near: Mapping[str, Sequence[str]], count: int, seed: int
) -> list[ToRead]:
    """Make a list of up to `count` passages for each query_id of `near`: a known positive, a known negative, and the
    first of `near[query_id]`, doc_ids that nobody judged relevant. A query with none gets no list."""
    doc_ids, drafts = list(collection.passages), []
    for query_id, own in near.items():
        if not own:
            continue
        draw = random.Random(f"{seed}:near:{query_id}")
        known = sorted(collection.relevant(query_id))
        positives = draw.sample(known, min(1, len(known)))
        beside = {*own, *collection.no_negative(query_id)}
        checks = _known_negative(collection, query_id, beside, doc_ids, draw)
        rest = [doc_id for doc_id in own if doc_id not in checks]
        shown = (*positives, *checks, *rest[: max(1, count - len(positives) - len(checks))])
        drafts.append(ToRead(query_id, collection.queries[query_id], shown, frozenset(positives), frozenset(checks)))
    return ordered(drafts, collection.passages, encoder) if drafts else []


def _in_turn(near: Sequence[tuple[str, float]], worded: Sequence[tuple[str, float]]) -> list[str]:
    """The doc_ids of two rankings, one from each in turn, without repeats."""
    places = range(max(len(near), len(worded)))
    return list(dict.fromkeys(hits[place][0] for place in places for hits in (near, worded) if place < len(hits)))


def _known_negative(
    collection: Collection, query_id: str, beside: set[str], doc_ids: Sequence[str], draw: random.Random
) -> list[str]:
    """One passage judged not relevant, or else one drawn from the corpus outside `beside`; [] if there is none."""
    grades = collection.qrels[query_id]
    judged = sorted(doc_id for doc_id, grade in grades.items() if grade <= 0 and doc_id in collection.passages)
    if judged:
        return [draw.choice(judged)]
    for doc_id in draw.sample(doc_ids, min(len(doc_ids), len(beside) + 1)):
        if doc_id not in beside:
            return [doc_id]
    return []


def ordered(lists: Sequence[ToRead], passages: Mapping[str, str], encoder: Encoder) -> list[ToRead]:
    """The lists with their passages in the encoder's order, ties by doc_id."""
    queries = encoder.encode([asked.query for asked in lists], "query")
    row = {doc_id: place for place, doc_id in enumerate(dict.fromkeys(d for asked in lists for d in asked.doc_ids))}
    vectors = encoder.encode([passages[doc_id] for doc_id in row], "passage")
    sorted_lists = []
    for asked, query in zip(lists, queries, strict=True):
        score = {doc_id: float(vectors[row[doc_id]] @ query) for doc_id in asked.doc_ids}
        doc_ids = sorted(asked.doc_ids, key=lambda doc_id: (-score[doc_id], doc_id))
        sorted_lists.append(replace(asked, doc_ids=tuple(doc_ids)))
    return sorted_lists


def read_by_lm(
    lists: Sequence[ToRead],
    reader: LanguageModel,
    definition: str,
    passages: Mapping[str, str],
    progress: Tick | None = None,
    program: dspy.Module | None = None,
) -> Answers:
    """Grade each list in one call, in threads, with a second attempt if needed; by `program`, or GradeList.

    Raises BackendError when the LM keeps failing.
    """
    program = program or GradeList()

    def work(asked: ToRead) -> tuple[list[Reading] | None, list[Call]]:
        calls = list[Call]()
        texts = [passages[doc_id] for doc_id in asked.doc_ids]
        for attempt in range(_ATTEMPTS):
            with (
                purpose(f"{asked.purpose}:{asked.query_id}", attempt) as current,
                dspy.context(lm=reader.lm_for(attempt, 1), adapter=reader.adapter),
            ):
                try:
                    answer = program(task=definition, query=asked.query, passages=texts)
                except PROGRAM_ERRORS as error:
                    reraise_fatal(error)
                    calls += current.calls
                    if any(call.finish_reason == REFUSED_CALL for call in current.calls):
                        break
                    continue
            graded = zip(asked.doc_ids, answer.grades, answer.spans, strict=True)
            rows = [Reading(asked.query_id, doc_id, grade, span, reader.identity) for doc_id, grade, span in graded]
            return rows, [*calls, *current.calls]
        return None, calls

    answers = Answers()
    for readings, calls in in_order(work, lists, reader.engine.config.concurrency, progress):
        answers.readings += readings or []
        answers.unreadable += readings is None
        answers.calls += calls
    return answers
