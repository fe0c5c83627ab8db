"""Estimate the minutes of a cross-encoder that reads or teaches: it scores a query with each passage of a list.

    CrossTime(parts, left).scored("verdict")
      → {"read with the cross-encoder": 14000, "teach by the cross-encoder": 8400}       passages to score
    CrossTime(parts, left).each → .004                                                   seconds to score one

It reads lists of dev and train queries for arms with grades, and scores the mined passages of every train query if it
is a teacher (`train.teacher = cross-encoder`). Seconds are measured on a few passages; None if it is not on this
machine.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cached_property

from syneg.negatives.cross_reading import CrossReader
from syneg.negatives.reading import ToRead, passages_in_a_list

from .arms import CROSS
from .parts import Parts
from .remaining import Remaining

_PROBED = 32  # passages scored to measure the speed
_TRAINS = ("train", "evaluate", "verdict")  # stages that need the scores of a teacher


class CrossTime:
    """The passages that `reader.cross_encoder` still has to score, and the seconds for each."""

    def __init__(self, parts: Parts, left: Remaining) -> None:
        self._workspace, self._left = parts.workspace, left
        self._config = parts.workspace.config

    def scored(self, stage: str) -> Iterator[tuple[str, int]]:
        """Yield a name and the number of passages for each use that is left up to `stage` (a key of STAGES)."""
        if self._config.reader.cross_encoder is None:
            return
        if reading := self._to_read(stage):
            yield "read with the cross-encoder", reading
        if stage in _TRAINS and any(arm.teacher == CROSS for arm in self._left.arms) and not self._has_taught:
            yield "teach by the cross-encoder", self._to_teach

    def _to_read(self, stage: str) -> int:
        reader, measured = self._config.reader, self._left.measured_reader
        samples = stage == "compile" and self._config.compile.target == "sampler"
        uses = samples or stage in ("generate", *_TRAINS)
        listed = stage == "read" or (uses and any(arm.reads for arm in self._left.arms))
        grounds = (samples or stage in _TRAINS) and any(arm.grounds for arm in self._left.arms)
        if not (listed or grounds) or reader.given or reader.use == "off":
            return 0
        lists = 0 if measured or (reader.use == "on" and stage != "read") else self._sampled("dev")
        lists += 0 if measured else self._sampled("train")  # the thresholds are fitted on these
        if reader.use == "on" or measured is None or measured.trusted:
            lists += listed * self._left.queries_to_read + grounds * self._left.queries_to_ground
        return lists * self._list

    @property
    def _to_teach(self) -> int:
        """One positive and the mined passages of every train query, and the lists of dev queries that test it."""
        return self._left.pairs * (1 + self._config.mine.per_query) + self._sampled("dev") * self._list

    @property
    def _has_taught(self) -> bool:
        return self._workspace.manifest.key("teach") is not None and self._workspace.folder.teacher.exists()

    @property
    def _list(self) -> int:
        strong = self._config.reader.strong
        return passages_in_a_list(self._config.reader, [strong] if strong else [])

    def _sampled(self, split: str) -> int:
        return min(self._config.reader.sample, self._left.queries(split))

    @cached_property
    def each(self) -> float | None:
        """Seconds to score one passage, measured now; None if the cross-encoder is not on this machine."""
        name, collection = self._config.reader.cross_encoder, self._workspace.collection
        if name is None or not self._left.cross_encoder_is_here:
            return None
        model, doc_ids = CrossReader.load(name, self._config.encoder.device), list(collection.passages)[:_PROBED]
        query_id = next(iter(collection.queries))
        asked = ToRead(query_id, collection.queries[query_id], tuple(doc_ids), frozenset(), frozenset())
        model.scores([asked], collection.passages)  # warm up
        start = time.perf_counter()
        model.scores([asked], collection.passages)
        return (time.perf_counter() - start) / len(doc_ids)
