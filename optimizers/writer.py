"""The target `writer`: a program that writes hard negatives.

target = WriterTarget(assignment, critic, objective, writer, judge=None)
target.judge("q1", prediction)      → Judgement(value=.71, feedback="accepted. …", …)    by the critic
target.score(judgements)            → Score(gain=.012, …)    by training a probe on the accepted negatives
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import dspy

from syneg.core.records import HardNegative
from syneg.llm.calls import CallPurpose
from syneg.llm.lms import LanguageModel
from syneg.negatives.assignment import Assignment
from syneg.negatives.generation import answers_of
from syneg.programs import fenced

from .critic import Critic, Judgement
from .objective import Objective, Score
from .target import Worth

ENOUGH = 100  # from so many pairs on, the objective orders sets as full training does (docs/lab_notes.md)
SECOND = "accepted negatives per 1,000 tokens"

IDEAS = (
    "answer what the critic complains of most",
    "say in steps how to find the one thing to change",
    "make the passages harder: nearer to the query, and still not relevant",
    "make sure that nothing written answers the query",
    "keep closer to the words and the style of the collection",
    "half as long, only what matters",
)


class WriterTarget:
    """The program of `assignment`, tried on its pairs."""

    name = "writer"
    does = "writes hard negatives for a search engine: passages that look relevant to a query and are not"
    ideas: Sequence[str] = IDEAS
    measure = "nDCG@10"
    baseline = "mined alone"
    second = SECOND
    enough = ENOUGH
    sets_from = ENOUGH // 2  # half of all pairs are the set that GEPA compares candidates on
    threshold: float = 0.5

    def __init__(
        self,
        assignment: Assignment,
        critic: Critic,
        objective: Objective,
        writer: LanguageModel,
        judge: LanguageModel | None = None,
    ) -> None:
        """`judge` is the LM that the critic asks; None where no judge is trusted."""
        assert assignment.program is not None, "negatives from a file have no program to compile"
        self.critic, self.objective = critic, objective
        if objective.near:
            self.measure = "nDCG@10 with near-misses"
        self.program, self.lm = assignment.program, writer
        self.others: Sequence[LanguageModel] = [judge] if judge else []
        self.answers = assignment.config.generate.per_pair
        self._pairs = {pair.query_id: pair for pair in assignment.pairs}
        self.asks: Mapping[str, Mapping[str, Any]] = {
            query_id: assignment.ask(place) for place, query_id in enumerate(self._pairs)
        }
        self.texts: Sequence[str] = [text for pair in assignment.pairs for text in (pair.query, pair.positive)]

    def answer(self, program: dspy.Module, ask: Mapping[str, Any], current: CallPurpose) -> dspy.Prediction:
        """A prediction with `negatives`; a negative that cannot be read has no text."""
        negatives = answers_of(program, ask, current, self.lm.identity)
        return dspy.Prediction(negatives=negatives, failed="" if negatives[0].text else negatives[0].reasoning)

    def judge(self, example_id: str, prediction: dspy.Prediction) -> Judgement:
        """The critic's judgement."""
        return self.critic(self._pairs[example_id], prediction.negatives)

    def shown(self, example_id: str, worth: Worth) -> str:
        """The query, the first negative, and the critic's words."""
        assert isinstance(worth, Judgement)
        written = worth.drafts[0].negative.text if worth.drafts else ""
        return f"query {fenced(self._pairs[example_id].query)}, written {fenced(written)}: {worth.feedback}"

    def score(self, worths: Mapping[str, Judgement]) -> Score:
        """The effect of all accepted negatives together on held-out queries."""
        negatives = [draft.negative for judged in worths.values() for draft in judged.drafts]
        tokens = sum(negative.input_tokens + negative.output_tokens for negative in negatives)
        count = sum(len(judged.accepted) for judged in worths.values())
        rate = 1000 * count / max(1, tokens)
        score = self.objective.score(accepted(worths))
        return replace(score, more={SECOND: (rate, rate / max(1, count) ** 0.5)})  # the error of a count is its root

    def demos(self) -> Sequence[Mapping[str, Sequence[dspy.Example]]]:
        """No demos: no label tells what a good negative is."""
        return []


def accepted(judgements: Mapping[str, Judgement]) -> dict[str, list[HardNegative]]:
    """query_id → the negatives that passed the gates."""
    return {query_id: judged.accepted for query_id, judged in judgements.items() if judged.accepted}
