"""Targets: what a compilation improves. A target is a program, its examples, and the worth of its answers.

    target = ReaderTarget(…)                       each target has its own class: writer, reader, …
    target.asks["q1"]                              → {"query": "close a socket", "passages": […], "task": "…"}
    target.judge("q1", prediction)                 → Worth(value=.63, feedback="Passage … should have had 3.")
    target.score({"q1": Worth(…), …})              → Score(gain=.041, error=.012)

Recipes, register, guards, budget and report use only this protocol. A row of `syneg.run.targets` says how a run makes a
target and confirms the winner.
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
    """The worth of one answer: `value` from 0 (it cannot be read) to 1, and `feedback` in words."""

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
    """The score of all answers of a program. `gain` is in `Target.measure`, over `Target.baseline`."""

    @property
    def gain(self) -> float:
        """The gain over the baseline, the mean over `queries`."""
        ...

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
        """The number that ranks programs."""
        ...

    @property
    def figures(self) -> Mapping[str, tuple[float, float]]:
        """Further figures by name, each with its standard error."""
        ...

    def refusal(self, first: Any) -> str:
        """Why a program with this score must not replace the one with the score `first`; "" if it may."""
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

    def refusal(self, first: Score) -> str:
        """No other figure is a condition."""
        return ""


class Target(Protocol):
    """One program to improve. All attributes and methods are used from several threads."""

    name: str
    "As `compile.target` names it."
    does: str
    'What the program does, for an LM that improves its instruction: "writes hard negatives …".'
    ideas: Sequence[str]
    "What a proposal may try, in turn."
    measure: str
    'What the gain of `score` is in: "nDCG@10".'
    baseline: str
    'What `score` compares with: "mined alone".'
    second: str
    "The figure of `score` beside the gain; the report marks the programs that none beats in both."
    program: dspy.Module
    "The program as its author wrote it."
    lm: LanguageModel
    "The LM that runs the program."
    others: Sequence[LanguageModel]
    "Other LMs that judging an answer calls, such as a trusted judge."
    answers: int
    "Answers that one call gives; its max_tokens grows with them."
    asks: Mapping[str, Mapping[str, Any]]
    "Example id → the inputs of the program."
    texts: Sequence[str]
    "Texts that no instruction may quote."
    threshold: float
    "Value of an answer from which it may become a demo, if `compile.threshold` is auto."
    enough: int
    "With fewer examples than this, the mean value of the answers chooses together with the score."
    sets_from: int
    "GEPA also scores a batch as a set if it has at least as many examples; 0 means never."

    def answer(self, program: dspy.Module, ask: Mapping[str, Any], current: CallPurpose) -> dspy.Prediction:
        """Run a program once, in DSPy's current context.

        An answer that cannot be read is not an error: `failed` of the prediction tells why, and is "" otherwise. Raises
        errors that end the run.
        """
        ...

    def judge(self, example_id: str, prediction: dspy.Prediction) -> Worth:
        """The worth of one answer."""
        ...

    def shown(self, example_id: str, worth: Worth) -> str:
        """Inputs and answer as text, for an LM that improves the instruction; "" if there is nothing to show."""
        ...

    def score(self, worths: Mapping[str, Any]) -> Scored:
        """The score of all answers together, from example id → worth."""
        ...

    def demos(self) -> Sequence[Mapping[str, Sequence[dspy.Example]]]:
        """Sets of demos made from labels: predictor name → demos. None of their queries is among the examples."""
        ...
