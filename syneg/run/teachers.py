"""Score passages by the teacher of a distillation (`train.teacher`), if its order beats the encoder's on dev.

    teachers = Teachers(workspace, readings)
    teachers.refusal("reader")       → "" or "the teacher's order of dev passages is no better than …"
    teachers.scores("reader")        → {"80": {"7317051": 2.0, "4920376": 1.0, …}, …}      from 0 to 3

The scores of the reader are its grades. A cross-encoder scores mined passages and positives of each train query; a
file holds such scores (`query_id`, `doc_id`, `score`). Both are rescaled to the range of grades, 0 to 3. The untuned
encoder (`base`) has no scores and needs no test: it only keeps the trained encoder close to its start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from syneg.core.counts import counted
from syneg.core.errors import ConfigError, DataError
from syneg.core.records import Pair
from syneg.core.storage import read_json, write_json
from syneg.data.cells import grade_cell, known_id
from syneg.data.collection import Collection
from syneg.negatives.cross_reading import CrossReader
from syneg.negatives.given_readings import lists_of
from syneg.negatives.given_rows import given_rows, id_of, not_used
from syneg.negatives.reader_agreement import Scores, order_gains
from syneg.negatives.reading import ANSWERS, Reading, ToRead, ordered
from syneg.retrieval.metrics import mean
from syneg.verdict.statistics import paired_interval

from .arms import BASE_TEACHER, CROSS, READER
from .keys import stage_key
from .readings import Readings
from .workspace import Workspace

_TEACHERS = "give base, reader, cross-encoder or a file as train.teacher"
_TAILS = (5, 95)  # percentiles of the scores that become 0 and 3


class Teachers:
    """The teachers of a run. Each is scored once."""

    def __init__(self, workspace: Workspace, readings: Readings) -> None:
        self._workspace, self._readings = workspace, readings
        self._made: dict[str, dict[str, Any]] = {}

    def refusal(self, teacher: str) -> str:
        """Return why an arm must not learn from a teacher; "" if it may.

        Raises ConfigError if a cross-encoder is wanted and none is named, DataError for a file that cannot be used.
        """
        if teacher == BASE_TEACHER:
            return ""
        if teacher == READER:
            return self._readings.reader.refusal() or self._too_bad(self._readings.reader.order)
        return self._too_bad(self._asked(teacher)["order"])

    def scores(self, teacher: str) -> Mapping[str, Mapping[str, float]]:
        """Return query_id → doc_id → score, about 0 to 3, for train queries; {} for the base."""
        if teacher == BASE_TEACHER:
            return {}
        return self._readings.grades if teacher == READER else self._asked(teacher)["scores"]

    def _too_bad(self, order: Sequence[float] | None) -> str:
        """Return why `order` is too bad; "" if it is not, or is None.

        `order` is [nDCG@10 of the teacher, of the encoder, low and high end of the interval of the gain].
        """
        if order is None or (order[0] > order[1] and order[2] >= 0):
            return ""
        ours, theirs, low, high = order
        return (
            f"the teacher's order of dev passages is no better than the encoder's: nDCG@10 {ours:.3f} against "
            f"{theirs:.3f} [{low:+.3f}, {high:+.3f}]"
        )

    def _asked(self, teacher: str) -> dict[str, Any]:
        """Return `scores` of train queries by a cross-encoder or a file, and its `order` on dev (see `_too_bad`)."""
        if teacher not in self._made:
            given, notes = (None, []) if teacher == CROSS else _given(Path(teacher), self._workspace.collection)
            for note in notes:
                self._workspace.progress.say(f"  {note}")
            self._made[teacher] = self._of_file(given, teacher) if given is not None else self._of_cross_encoder()
        return self._made[teacher]

    def _of_file(self, given: Scores, name: str) -> dict[str, Any]:
        collection = self._workspace.collection
        rows = [Reading(q, d, 0) for q, scores in given.items() for d in scores]
        lists = lists_of(rows, collection, set(collection.splits["dev"]))
        if not lists:
            raise DataError(
                "no dev query has scores for a relevant passage, so that its order cannot be tested", where=name,
                todo="give scores of dev queries, too",
            )  # fmt: skip
        workspace = self._workspace
        train = {pair.query_id for pair in workspace.pairs}
        order = _order(ordered(lists, collection.passages, workspace.encoder), given, collection)
        return {"scores": spread({q: given[q] for q in given if q in train}), "order": order}

    def _of_cross_encoder(self) -> dict[str, Any]:
        workspace, config = self._workspace, self._workspace.config
        if not config.reader.cross_encoder:
            raise ConfigError(
                "train.teacher is a cross-encoder and none is named", todo="set reader.cross_encoder, as in "
                "cross-encoder/ms-marco-MiniLM-L6-v2",
            )  # fmt: skip
        model = CrossReader.load(config.reader.cross_encoder, config.encoder.device)
        collection = workspace.collection
        dev = self._readings.reader.lists(collection.pairs("dev")[: config.reader.sample])
        train = [self._list(pair) for pair in workspace.pairs]
        path = workspace.folder.teacher
        key = stage_key(
            "read", config, collection.fingerprint, workspace.encoder.fingerprint, workspace.encoder.prompts,
            model.identity, [(asked.query_id, asked.doc_ids) for asked in (*dev, *train)],
        )  # fmt: skip

        def work() -> None:
            with workspace.progress.stage("teach", "queries") as line:
                scored = _by_query(train, model.scores(train, collection.passages, line))
                tested = _by_query(dev, model.scores(dev, collection.passages))
                line.note = model.identity.split("@")[0]
            write_json(path, {"scores": spread(scored), "order": _order(dev, tested, collection)})

        workspace.manifest.make("teach", key, path, work)
        return dict(read_json(path))

    def _list(self, pair: Pair) -> ToRead:
        """Return the passages that a training row of the pair can hold: positives and mined negatives."""
        collection = self._workspace.collection
        known = collection.relevant(pair.query_id)
        mined = (negative.doc_id for negative in self._workspace.mined.get(pair.query_id, ()))
        doc_ids = tuple(dict.fromkeys([*sorted(known), *mined]))
        return ToRead(pair.query_id, pair.query, doc_ids, frozenset(known), frozenset())


def spread(scores: Scores) -> dict[str, dict[str, float]]:
    """Rescale scores to the range of grades: the 5th percentile becomes 0, the 95th becomes 3.

    >>> spread({"q": {"a": -10.0, "b": 0.0, "c": 10.0}})
    {'q': {'a': -0.17, 'b': 1.5, 'c': 3.17}}
    """
    low, high = np.percentile([value for own in scores.values() for value in own.values()], _TAILS)
    width = max(float(high - low), 1e-9)
    return {
        q: {d: round(ANSWERS * (value - float(low)) / width, 2) for d, value in own.items()}
        for q, own in scores.items()
    }


def _by_query(lists: Sequence[ToRead], scores: Iterable[np.ndarray]) -> dict[str, dict[str, float]]:
    return {
        asked.query_id: dict(zip(asked.doc_ids, own.tolist(), strict=True))
        for asked, own in zip(lists, scores, strict=True)
    }


def _order(lists: Sequence[ToRead], scores: Scores, collection: Collection) -> list[float]:
    """Return [nDCG@10 by `scores`, by the encoder, low and high end of the 95 % interval of the difference]."""
    ours, theirs = order_gains(lists, scores, collection.qrels)
    interval = paired_interval([ours[q] - theirs[q] for q in ours]) or (-1.0, 1.0)
    return [mean(ours), mean(theirs), *interval]


def _given(path: Path, collection: Collection) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Read a file of scores: query_id → doc_id → score, for queries and passages of the collection; notes on the rest.

    Raises DataError if the file cannot be read, a row holds no score, or no row fits the collection.
    """
    scores: dict[str, dict[str, float]] = {}
    foreign: list[tuple[str, str]] = []
    twice: set[tuple[str, str]] = set()
    rows, _ = given_rows(path.expanduser(), ("scores", _TEACHERS), _score, 0.0)
    for named, passage, score in rows:
        query_id, doc_id = known_id(named, collection.queries), known_id(passage, collection.passages)
        if query_id not in collection.queries:
            foreign.append(("query", query_id))
        elif doc_id not in collection.passages:
            foreign.append(("passage", doc_id))
        else:
            own = scores.setdefault(query_id, {})
            twice |= {(query_id, doc_id)} if own.get(doc_id, score) != score else set()
            own[doc_id] = score
    notes = not_used(foreign, {"query": collection.queries, "passage": collection.passages}, "score")
    if not scores:
        raise DataError("no row names a query and a passage of this collection", where=str(path), todo=notes[0])
    if twice:
        notes.append(f"{counted(len(twice), 'passage has', 'passages have')} two scores: the last one counts")
    return scores, notes


def _score(row: Mapping[str, Any]) -> tuple[str, str, float]:
    return id_of(row, "query_id"), id_of(row, "doc_id"), grade_cell(row["score"], "score")
