"""Estimate the size of a program's calls before the first call: steps, and tokens read and written.

    Sizes(workspace).of("multi_attribute", config) → Size(steps=1, reads=610.0, writes=210.0)

The prompts of a sample of pairs are rendered exactly as they are sent. Tokens are counted with litellm's tokenizer for
the model, or with a common one. The length of an answer is assumed from its output fields: a passage is as long as
the positives, any other field is short.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin

import dspy
import numpy as np
from pydantic import BaseModel

from syneg.core.config import Config
from syneg.core.records import MinedNegative, Pair
from syneg.core.text import cut
from syneg.data.tasks import task_for
from syneg.data.texts import sample
from syneg.llm.role_settings import judge_settings, reader_settings
from syneg.llm.usage import count_tokens
from syneg.negatives.assignment import Assignment
from syneg.negatives.prompts import as_text, record
from syneg.programs import GradeList, Judge, fenced, load_program
from syneg.programs.grade_list import SHOWN_WORDS

from .workspace import Workspace

_SAMPLE, _CANDIDATES = 16, 12
_PASSAGES = {"hard_negative", "passage", "revised", "text"}  # output fields that hold a whole passage
_SHORT, _FRAME = 25, 12  # tokens of any other field; of a field's name and markers


@dataclass(frozen=True)
class Size:
    """One run of a program: its LM calls (`steps`), and the mean tokens that one call reads and writes."""

    steps: int
    reads: float
    writes: float


class Sizes:
    """Sizes of calls for the pairs and passages of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._known: dict[tuple[str, int], Size] = {}

    def of(self, name: str, config: Config) -> Size:
        """The size of the uncompiled program `name`."""
        key = name, config.generate.per_pair
        if key not in self._known:
            self._known[key] = self._rendered(name, config)
        return self._known[key]

    def of_judge(self, config: Config) -> Size:
        """The size of one call of the judge."""
        config = config.model_copy(update={"lm": judge_settings(config)})
        task = task_for(config).definition
        asks = [
            {"task": task, "query": pair.query, "passage": cut(pair.positive, config.generate.passage_words)}
            for pair in self._sample()
        ]
        return self._size(Judge(), config, asks)

    def of_lists(self, config: Config, count: int) -> float:
        """Mean tokens of a prompt with `count` passages to be graded."""
        config = config.model_copy(update={"lm": reader_settings(config)})
        shown = sample(self._workspace.collection.passages, count, random.Random(f"{config.seed}:dry"))
        passages = [f"{number}. {fenced(cut(text, SHOWN_WORDS))}" for number, (_, text) in enumerate(shown, 1)]
        task = task_for(config).definition
        asks = [{"task": task, "query": fenced(pair.query), "passages": passages} for pair in self._sample()[:2]]
        return self._size(GradeList().grade, config, asks).reads

    def _rendered(self, name: str, config: Config) -> Size:
        draw, pairs = random.Random(f"{config.seed}:dry"), self._sample()
        passages = self._workspace.collection.passages
        near = {
            pair.query_id: [
                MinedNegative(doc_id, text, "dense", 1, 0.0) for doc_id, text in sample(passages, _CANDIDATES, draw)
            ]
            for pair in pairs
        }
        program = load_program(name)
        assignment = Assignment(pairs, near, task_for(config), config, name, program)
        return self._size(program, config, [assignment.ask(place) for place in range(len(pairs))])

    def _size(self, program: dspy.Module, config: Config, asks: Sequence[Mapping[str, object]]) -> Size:
        rendered = [
            [count_tokens(as_text(request), config.lm.model) for request in record(program, config, ask)]
            for ask in asks
        ]
        steps = max(1, round(float(np.mean([len(counts) for counts in rendered])))) if rendered else 1
        reads = float(np.mean([count for counts in rendered for count in counts])) if rendered else 0.0
        passage = self._passage_tokens(config)
        answers = [
            _answer_tokens(predictor.signature, passage, config.generate.per_pair) for predictor in program.predictors()
        ]
        return Size(steps, reads, float(np.mean(answers)) if answers else passage)

    def _passage_tokens(self, config: Config) -> float:
        texts = [cut(pair.positive, config.generate.passage_words) for pair in self._sample()]
        return float(np.mean([count_tokens(text, config.lm.model) for text in texts])) if texts else 0.0

    def _sample(self) -> list[Pair]:
        pairs = self._workspace.train_split[: self._workspace.config.generate.pairs or None]
        return random.Random(f"{self._workspace.config.seed}:dry").sample(pairs, min(_SAMPLE, len(pairs)))


def expected_attempts(passing: float, wanted: int, most: int) -> float:
    """Return the expected number of calls until `wanted` negatives pass the gates, at most `most`.

    Each negative passes with probability `passing`. Every call asks for all negatives that are still missing.

    >>> round(expected_attempts(0.5, 1, 2), 2), expected_attempts(1.0, 3, 6)
    (1.5, 1.0)
    """
    missing = {wanted: 1.0}  # number of missing negatives → its probability
    calls = 0.0
    for _ in range(most):
        calls += sum(missing.values())
        after: dict[int, float] = {}
        for count, chance in missing.items():
            for passed in range(count):  # passed == count ends here: none is missing
                share = math.comb(count, passed) * passing**passed * (1 - passing) ** (count - passed)
                after[count - passed] = after.get(count - passed, 0.0) + chance * share
        missing = after
    return calls


def _answer_tokens(signature: type[dspy.Signature], passage: float, answers: int) -> float:
    return sum(
        _FRAME + _field_tokens(name, info.annotation, passage, answers)
        for name, info in signature.output_fields.items()
    )


def _field_tokens(name: str, annotation: Any, passage: float, answers: int) -> float:
    if get_origin(annotation) is list:
        inner = get_args(annotation)[0]
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            fields = inner.model_fields.items()
            return answers * sum(_FRAME + _field_tokens(key, info.annotation, passage, 1) for key, info in fields)
        return 3.0 * _SHORT
    return passage if name in _PASSAGES else float(_SHORT)
