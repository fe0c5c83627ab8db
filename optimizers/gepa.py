"""The recipe `gepa` (arXiv 2507.19457), with an adapter that reflects on the target's words and scores whole batches.

    gepa(compiling)     every program that GEPA tries is in compiling.register afterwards

Minibatches are judged answer by answer. A batch of `Target.sets_from` examples or more is also scored as a set: half of
each answer's score is then the score of the set. So the Pareto front, over value and set score, keeps programs that
help retrieval.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import dspy
from gepa.api import optimize
from gepa.core.adapter import EvaluationBatch

from syneg.core.errors import BudgetError
from syneg.core.storage import JsonObject
from syneg.programs import fenced

from .compiling import Compiling
from .reflecting import fitted, room


class Adapter:
    """The adapter that GEPA requires. A candidate is a mapping predictor name → instruction."""

    propose_new_texts = None

    def __init__(self, compiling: Compiling) -> None:
        self._compiling = compiling

    def program(self, candidate: Mapping[str, str]) -> dspy.Module:
        """A copy of the first program with the candidate's instructions."""
        program = copy.deepcopy(self._compiling.first.program)
        for name, predictor in program.named_predictors():
            if name in candidate:
                predictor.signature = predictor.signature.with_instructions(candidate[name])
        return program

    def evaluate(
        self, batch: list[str], candidate: dict[str, str], capture_traces: bool = False
    ) -> EvaluationBatch[Any, str]:
        """Run a candidate on the examples with the ids in `batch`; score each answer, and the set if it is large."""
        compiling = self._compiling
        program = self.program(candidate)
        attempts = compiling.run(program, batch)
        judgements = {example_id: attempt.judgement for example_id, attempt in attempts.items()}
        values = [judgements[example_id].value for example_id in batch]
        objectives = [{"value": value} for value in values]
        if 0 < compiling.target.sets_from <= len(batch):
            score = compiling.target.score(judgements)
            compiling.register.note(program).score = score
            share = (1 + score.value) / 2
            values = [(value + share) / 2 for value in values]
            objectives = [{**values_of_one, "objective": share} for values_of_one in objectives]
        return EvaluationBatch(
            outputs=[judgements[example_id].feedback for example_id in batch], scores=values,
            objective_scores=objectives,
            trajectories=[attempts[example_id] for example_id in batch] if capture_traces else None,
        )  # fmt: skip

    def make_reflective_dataset(
        self, candidate: dict[str, str], eval_batch: EvaluationBatch[Any, str], components_to_update: list[str]
    ) -> dict[str, list[JsonObject]]:
        """predictor name → one row for each example: inputs, outputs, and the worth of the answer in words.

        The texts of all rows of a predictor share the room of the reflection prompt.
        """
        # traces hold copies of predictors, so they are recognised by their output fields
        fields = {n: set(p.signature.output_fields) for n, p in self._compiling.first.program.named_predictors()}
        examples: dict[str, list[JsonObject]] = {name: [] for name in components_to_update}
        for attempt in eval_batch.trajectories or []:
            for name in components_to_update:
                for predictor, inputs, outputs in attempt.trace:
                    if set(predictor.signature.output_fields) == fields[name]:
                        examples[name].append({
                            "Inputs": {key: str(value) for key, value in inputs.items()},
                            "Generated Outputs": {key: fenced(str(value)) for key, value in outputs.items()},
                            "Feedback": attempt.judgement.words,
                        })  # fmt: skip
                        break
                else:
                    unread = fenced(str(attempt.prediction))
                    examples[name].append(
                        {"Inputs": {}, "Generated Outputs": unread, "Feedback": attempt.judgement.feedback}
                    )
        tokens = room(self._compiling.reflection)
        return {name: _within(rows, tokens) for name, rows in examples.items()}


def _within(rows: Sequence[JsonObject], tokens: int) -> list[JsonObject]:
    """The rows with all their texts, shortened where they exceed `tokens` together."""
    texts = iter(fitted([text for row in rows for part in row.values() for text in _texts(part)], tokens))
    return [
        {
            name: {key: next(texts) for key in part} if isinstance(part, dict) else next(texts)
            for name, part in row.items()
        }
        for row in rows
    ]


def _texts(part: str | Mapping[str, str]) -> Sequence[str]:
    return [part] if isinstance(part, str) else [*part.values()]


def gepa(compiling: Compiling) -> None:
    """Run GEPA for about `compile.proposals` proposals."""
    ids = compiling.ids
    half = max(1, len(ids) // 2)
    seed = {name: p.signature.instructions for name, p in compiling.first.program.named_predictors()}
    size = min(3, half)

    def ask(prompt: Any) -> str:
        text = prompt if isinstance(prompt, str) else "\n\n".join(str(message["content"]) for message in prompt)
        with dspy.context(lm=compiling.reflection.lm):
            return str(compiling.reflection.lm(text)[0])

    adapter: Any = Adapter(compiling)
    optimize(
        seed_candidate=seed, trainset=ids[:half], valset=ids[half:] or ids, adapter=adapter, reflection_lm=ask,
        reflection_minibatch_size=size, frontier_type="hybrid", seed=compiling.seed, display_progress_bar=False,
        max_metric_calls=(len(ids) - half) + compiling.config.proposals * (2 * size + (len(ids) - half)),
        stop_callbacks=[_after(compiling)], raise_on_exception=True,
    )  # fmt: skip


def _after(compiling: Compiling) -> Any:
    """A callback that stops GEPA after `compile.proposals` proposals; raises BudgetError if the budget is spent."""

    def stop(state: Any) -> bool:
        if compiling.budget.spent:
            raise BudgetError(f"the budget is spent ({compiling.budget.spent})")
        return int(getattr(state, "i", 0)) >= compiling.config.proposals

    return stop
