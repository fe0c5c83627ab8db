"""GEPA (arXiv 2507.19457) with an adapter of ours: reflection on the target's words, and the score of whole batches.

    gepa(compiling)

A minibatch is judged answer by answer. A batch that is large enough for the probe of the writer, as the whole set can
be, is scored as a set, too: half of each score is then the gain that the batch causes together, so that the Pareto
front holds what helps downstream. Its objectives are the mean value and the gain.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import dspy
from gepa.api import optimize
from gepa.core.adapter import EvaluationBatch

from syneg.core.errors import BudgetError
from syneg.programs import fenced, shortened

from .compiling import Compiling

_SHOWN = 300  # characters of each field; embedded LLMs have room for 2,048 tokens in all


class Adapter:
    """What GEPA asks for; a candidate is instruction by predictor."""

    propose_new_texts = None

    def __init__(self, compiling: Compiling) -> None:
        self._compiling = compiling

    def program(self, candidate: Mapping[str, str]) -> dspy.Module:
        """The first program with the candidate's instructions."""
        program = copy.deepcopy(self._compiling.first.program)
        for name, predictor in program.named_predictors():
            if name in candidate:
                predictor.signature = predictor.signature.with_instructions(candidate[name])
        return program

    def evaluate(
        self, batch: list[str], candidate: dict[str, str], capture_traces: bool = False
    ) -> EvaluationBatch[Any, str]:
        """Run a candidate on query ids."""
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
            outputs=[judgements[example_id].feedback for example_id in batch], scores=values, objective_scores=objectives,
            trajectories=[attempts[example_id] for example_id in batch] if capture_traces else None,
        )  # fmt: skip

    def make_reflective_dataset(
        self, candidate: dict[str, str], eval_batch: EvaluationBatch[Any, str], components_to_update: list[str]
    ) -> dict[str, list[dict[str, Any]]]:
        """For each predictor: what it was given, what it said, and what that is worth."""
        # traces hold copies, so predictors are matched by their fields
        fields = {n: set(p.signature.output_fields) for n, p in self._compiling.first.program.named_predictors()}
        examples: dict[str, list[dict[str, Any]]] = {name: [] for name in components_to_update}
        for attempt in eval_batch.trajectories or []:
            for name in components_to_update:
                for predictor, inputs, outputs in attempt.trace:
                    if set(predictor.signature.output_fields) == fields[name]:
                        examples[name].append({
                            "Inputs": {key: shortened(str(value), _SHOWN) for key, value in inputs.items()},
                            "Generated Outputs": {key: fenced(str(value)[:_SHOWN]) for key, value in outputs.items()},
                            "Feedback": attempt.judgement.words,
                        })  # fmt: skip
                        break
                else:
                    unread = fenced(str(attempt.prediction)[:_SHOWN])
                    examples[name].append(
                        {"Inputs": {}, "Generated Outputs": unread, "Feedback": attempt.judgement.feedback}
                    )
        return examples


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
    """Stops GEPA when it has proposed enough, or the budget is spent."""

    def stop(state: Any) -> bool:
        if compiling.budget.spent:
            raise BudgetError(f"the budget is spent ({compiling.budget.spent})")
        return int(getattr(state, "i", 0)) >= compiling.config.proposals

    return stop
