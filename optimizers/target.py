"""What a compilation improves: a program, the examples it is tried on, and what its answers are worth.

    target = ReaderTarget(…)                       one class for each target: writer, reader, …
    target.asks["q1"]                              → {"query": "close a socket", "passages": […], "task": "…"}
    target.judge("q1", prediction)                 → Worth(value=.63, feedback="Passage … should have had 3.")
    target.score({"q1": Worth(…), …})              → Score(gain=.041, error=.012)

Recipes, register, guards, budget, resuming and report know a target by this protocol alone. How a run makes a target
and confirms what won is a row of `syneg.run.targets`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import dspy

from syneg.llm.calls import CallPurpose
from syneg.llm.lms import LanguageModel


@dataclass(frozen=True)
class Worth:
    """What one answer is worth: `value` from 0 (it cannot be read) to 1, and `feedback` in words."""

    value: float
    feedback: str

    @property
    def words(self) -> str:
        """The feedback with its value, for a reflection LM."""
        return f"value {self.value:.2f} of 1. {self.feedback}"

    @property
    def counts(self) -> tuple[int, int]:
        """How many usable and unusable results the answer holds."""
        return (1, 0) if self.value > 0 else (0, 1)


class Scored(Protocol):
    """The score of a program's answers together. `gain` is that of the target's main metric over its baseline."""

    @property
    def gain(self) -> float: ...
    @property
    def error(self) -> float:
        """Standard error of the gain over `queries`."""
        ...

    @property
    def queries(self) -> Mapping[str, float]:
        """The gain of each query."""
        ...

    @property
    def value(self) -> float:
        """What programs are ranked by."""
        ...

    @property
    def figures(self) -> Mapping[str, tuple[float, float]]:
        """Further figures by name, each with its standard error."""
        ...


@dataclass(frozen=True)
class Score:
    """A score whose value is its gain."""

    gain: float
    error: float
    queries: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The gain."""
        return self.gain


class Target(Protocol):
    """One program to improve. Each attribute and method is asked from several threads."""

    name: str
    "As `compile.target` names it."
    does: str
    'What the program does, for an LM that improves its instruction: "writes hard negatives …".'
    ideas: Sequence[str]
    "What a proposal may try, in turn."
    baseline: str
    'What the gain of `score` is over: "mined alone".'
    program: dspy.Module
    "The program as its author wrote it."
    lm: LanguageModel
    "The LM that runs the program."
    others: Sequence[LanguageModel]
    "Further LMs that judging an answer asks, such as a trusted judge."
    answers: int
    "Answers in one call, which the room for it goes by."
    asks: Mapping[str, Mapping[str, Any]]
    "Example id → the inputs of the program."
    texts: Sequence[str]
    "Texts that no instruction may quote."
    threshold: float
    "Value of an answer from which it may become a demo."
    enough: int
    "With fewer examples than this, the mean value of the answers chooses together with the score."
    sets_from: int
    "Size of a batch from which GEPA scores it as a set, too; 0 is never."

    def answer(self, program: dspy.Module, ask: Mapping[str, Any], current: CallPurpose) -> dspy.Prediction:
        """Run a program once under DSPy's context. What cannot be read is a prediction whose `failed` says why, never
        an error; "" says that it can. Raises what ends a run."""
        ...

    def judge(self, example_id: str, prediction: dspy.Prediction) -> Worth:
        """What one answer is worth."""
        ...

    def shown(self, example_id: str, worth: Worth) -> str:
        """What was asked and answered, for an LM that improves the instruction; "" where there is nothing to show."""
        ...

    def score(self, worths: Mapping[str, Any]) -> Scored:
        """The score of judged answers together, by example id."""
        ...

    def demos(self) -> Sequence[Mapping[str, Sequence[dspy.Example]]]:
        """Sets of demos made from labels, by predictor; none of their queries is among the examples."""
        ...
