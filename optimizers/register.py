"""The register of a compilation: every program that was tried, with its answers, whoever proposed it.

    register.note(program)     → Candidate(key, program, 3, answers={"q1": Worth(.71, …), …})
    Tracked(program, register, target)(example_id="q1", …)   runs the program, and notes it

A program is recognised by its instructions and demos (`content_of`).
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import dspy
from scipy.stats import ttest_1samp

from syneg.core.errors import BackendError
from syneg.core.records import fingerprint
from syneg.llm.calls import purpose

from .guards import fences_of, keep_fence
from .target import Scored, Target, Worth

SURE = 0.05  # p-value under which a lead counts


@dataclass
class Candidate:
    """A program that was tried: `answers[example_id]` as the target judged the last try, `score` of all together.

    `origin` says how it was made, `stopped` why not all examples were tried, `refused` why it must not win; "" where
    nothing is to say.
    """

    key: str
    program: dspy.Module
    number: int
    answers: dict[str, Worth] = field(default_factory=dict)
    score: Scored | None = None
    origin: str = ""
    stopped: str = ""
    refused: str = ""

    @property
    def mean(self) -> float:
        """What its answers are worth on average."""
        return sum(judged.value for judged in self.answers.values()) / len(self.answers) if self.answers else 0.0

    def shared(self, other: Candidate) -> list[str]:
        """The ids of the examples that both have answered."""
        return [example_id for example_id in self.answers if example_id in other.answers]

    def leads(self, other: Candidate) -> list[float]:
        """This program's value minus the other's, on each example that both have answered.

        Differences are needed because some examples are easier than others.
        """
        return [self.answers[example].value - other.answers[example].value for example in self.shared(other)]

    def lead(self, other: Candidate) -> float:
        """The mean of `leads`; 0 if the two share no example."""
        leads = self.leads(other)
        return sum(leads) / len(leads) if leads else 0.0


def chance(leads: Sequence[float]) -> float:
    """The one-sided p-value of leads that are over 0 on average: a paired t-test. 1 for under two of them.

    If all leads are equal, it is 0 for leads over 0, and 1 for others.
    """
    if len(leads) < 2:
        return 1.0
    if max(leads) - min(leads) < 1e-12:
        return float(leads[0] <= 0)
    return float(ttest_1samp(leads, 0.0, alternative="greater").pvalue)


class Register:
    """All candidates, by the content of their programs. Copies of a tracked program share one register."""

    def __init__(self) -> None:
        self.candidates: dict[str, Candidate] = {}
        self._fences: dict[str, list[str]] | None = None
        self._lock = threading.Lock()

    def knows(self, program: dspy.Module) -> bool:
        """Whether a program with this content was noted before. First restores its fence, as `note` does."""
        if self._fences is not None:
            keep_fence(program, self._fences)
        return content_of(program) in self.candidates

    def note(self, program: dspy.Module) -> Candidate:
        """The candidate of a program, which is registered if it is new.

        Prompts that fence corpus text in the first program must do so in all others: a lost fence is restored.
        """
        with self._lock:
            if self._fences is None:
                self._fences = fences_of(program)
            keep_fence(program, self._fences)
            key = content_of(program)
            if key not in self.candidates:
                own = copy.deepcopy(program)
                own.set_lm(None)  # SIMBA attaches an LM to its programs
                self.candidates[key] = Candidate(key, own, len(self.candidates))
            return self.candidates[key]

    def __deepcopy__(self, memo: dict[int, Any]) -> Register:
        return self


class Tracked(dspy.Module):
    """A program whose runs are registered. An answer that cannot be read has value 0; it is not an error."""

    def __init__(self, program: dspy.Module, register: Register, target: Target) -> None:
        super().__init__()
        self.program = program
        self._register, self._target = register, target

    def forward(self, example_id: str, **ask: Any) -> dspy.Prediction:
        """The target's answer to the inputs `ask`, with the key of the program as `candidate`.

        Raises BackendError if no LM call was answered.
        """
        candidate = self._register.note(self.program)
        lm = self.program.predictors()[0].lm or dspy.settings.lm
        with purpose(example_id, int(lm.kwargs.get("rollout_id") or 0)) as current:
            prediction = self._target.answer(self.program, ask, current)
        if not current.calls and prediction.failed:
            raise BackendError(f"the LM failed: {prediction.failed}", todo="check --lm, --api-base and the network")
        prediction.candidate = candidate.key
        return prediction

    def __deepcopy__(self, memo: dict[int, Any]) -> Tracked:
        """A copy of the program; register and target are shared."""
        copied = Tracked(copy.deepcopy(self.program, memo), self._register, self._target)
        memo[id(self)] = copied
        return copied


def content_of(program: dspy.Module) -> str:
    """A hash of what an optimizer may change: instructions (whatever their line breaks), descriptions and demos."""
    steps = []
    for name, predictor in program.named_predictors():
        words = {field: info.json_schema_extra or {} for field, info in predictor.signature.fields.items()}
        fields = [[field, extra.get("prefix"), extra.get("desc")] for field, extra in words.items()]
        demos = [{key: str(value) for key, value in dict(demo).items()} for demo in predictor.demos]
        steps.append([name, predictor.signature.instructions.split(), fields, demos])
    return fingerprint(steps)
