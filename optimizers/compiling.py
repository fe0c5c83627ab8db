"""One compilation: the program, examples, metrics and LMs for a recipe, and a register of every program that it tried.

    compiling = Compiling(target, config, reflection, budget, say)
    recipe(compiling)                          proposes programs; each one that it runs is registered with its answers
    compiling.ranked() → [Candidate(key, program, 3, answers={"q1": Worth(.71, …), …}), …]

A recipe may be any optimizer of DSPy. It gets `student`, `trainset`, and `metric` or `feedback_metric`; its return
value is ignored. The register records each program that runs, by its instructions and demos. So nothing is lost if the
budget stops a recipe, or if a recipe does not return its candidates. All LM calls go through the ledger: after a kill,
the same command gets its answers from there, up to the point where it stopped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import dspy

from syneg.core.config import Config
from syneg.core.errors import BudgetError
from syneg.core.progress import Tick
from syneg.core.threads import in_order
from syneg.llm.budget import Budget
from syneg.llm.lms import LanguageModel
from syneg.retrieval.metrics import mean_and_error

from .guards import copies_corpus
from .register import SURE, Candidate, Register, Tracked, chance
from .target import Scored, Target, Worth

_WIDTH = 4  # proposals side by side, for compile.width=auto


@dataclass(frozen=True)
class Attempt:
    """One run of a program for one example: what it returned, what that is worth, and DSPy's trace of its calls."""

    prediction: dspy.Prediction
    judgement: Worth
    trace: Sequence[Any]


class Compiling:
    """One compilation of the program of `target`, on its examples."""

    def __init__(
        self,
        target: Target,
        config: Config,
        reflection: LanguageModel,
        budget: Budget,
        say: Callable[[str], None],
    ) -> None:
        self.target, self.reflection, self.budget, self.say = target, reflection, budget, say
        self.config, self.seed = config.compile, config.seed
        self.lm = target.lm.lm_for(0, target.answers)
        self.register = Register()
        self.student = self.tracked(target.program)
        self.ids = list(target.asks)
        self.trainset = [
            dspy.Example(example_id=example_id, **ask).with_inputs("example_id", *ask)
            for example_id, ask in target.asks.items()
        ]
        self.first = self.register.note(target.program)
        self._lock, self._best, self._least = threading.Lock(), 0.0, max(2, len(self.ids) // 4)
        self._copied: dict[str, str] = {}

    @property
    def enough(self) -> bool:
        """Whether there are enough examples for the score alone to order programs (`Target.enough`)."""
        return len(self.ids) >= self.target.enough

    def tracked(self, program: dspy.Module) -> Tracked:
        """The program, with its runs registered."""
        return program if isinstance(program, Tracked) else Tracked(program, self.register, self.target)

    @property
    def at_once(self) -> int:
        """Number of parallel calls: 1 for an embedded LM, because each of its slots would read each new instruction.

        Eight pairs of SciFact with a new instruction take 82 s one by one, and 100 s four at a time.
        """
        config = self.target.lm.engine.config
        return 1 if config.model.startswith("local/") else config.concurrency

    @property
    def width(self) -> int:
        """Proposals side by side."""
        width = self.config.width
        return width if width != "auto" else min(_WIDTH, self.at_once)

    @property
    def threshold(self) -> float:
        """Value of an answer from which it may become a demo: the setting, or the target's own."""
        threshold = self.config.threshold
        return self.target.threshold if threshold == "auto" else threshold

    def context(self) -> Any:
        """A DSPy context with the program's LM and adapter."""
        return dspy.context(lm=self.lm, adapter=self.target.lm.adapter)

    # metrics, in the forms that DSPy's optimizers want

    def judge(self, example_id: str, prediction: dspy.Prediction) -> Worth:
        """The worth of an answer, which is recorded with its candidate."""
        judgement = self.target.judge(example_id, prediction)
        candidate = self.register.candidates[prediction.candidate]
        with self._lock:
            candidate.answers[example_id] = judgement
            leads = candidate.leads(self.first)
            lead, error = mean_and_error(leads)
            if len(leads) >= self._least and lead > self._best + 0.005:
                self._best, p = lead, chance(leads)
                sure = "the best so far" if p < SURE else "no program leads by more, but within chance"
                self.say(
                    f"program {candidate.number}: {lead:+.3f} ± {error:.3f} over the first on {len(leads)} examples, "
                    f"{sure} (p {p:.2g})"
                )
        return judgement

    def metric(self, example: dspy.Example, prediction: dspy.Prediction, trace: Any = None) -> float:
        """The value of an answer, 0 to 1. During bootstrapping (`trace` is set), whether it may become a demo."""
        value = self.judge(example.example_id, prediction).value
        return value if trace is None else value >= self.threshold

    def feedback_metric(
        self,
        example: dspy.Example,
        prediction: dspy.Prediction,
        trace: Any = None,
        pred_name: Any = None,
        pred_trace: Any = None,
    ) -> dspy.Prediction:
        """`score` from 0 to 1, `feedback` in words and `objective_scores`, as `dspy.GEPA` takes them."""
        judged = self.judge(example.example_id, prediction)
        return dspy.Prediction(score=judged.value, feedback=judged.words, objective_scores={"value": judged.value})

    # running

    def run(self, program: dspy.Module, example_ids: Sequence[str]) -> dict[str, Attempt]:
        """example_id → one attempt of a program, tracked or not, in threads."""
        return self.run_all([(program, example_ids)])[0]

    def run_all(
        self, jobs: Sequence[tuple[dspy.Module, Sequence[str]]], tick: Tick = lambda done, total: None
    ) -> list[dict[str, Attempt]]:
        """`run` for several programs, all their examples side by side."""
        examples = {example.example_id: example for example in self.trainset}
        tracked = [self.tracked(program) for program, _ in jobs]
        flat = [(job, example_id) for job, (_, example_ids) in enumerate(jobs) for example_id in example_ids]

        def work(one: tuple[int, str]) -> Attempt:
            job, example_id = one
            with dspy.context(lm=self.lm, adapter=self.target.lm.adapter, trace=[]):
                prediction = tracked[job](**examples[example_id].inputs())
                trace = list(dspy.settings.trace)
            return Attempt(prediction, self.judge(example_id, prediction), trace)

        attempts: list[dict[str, Attempt]] = [{} for _ in jobs]
        for (job, example_id), attempt in zip(flat, in_order(work, flat, self.at_once, tick), strict=True):
            attempts[job][example_id] = attempt
        return attempts

    def answer(
        self,
        candidates: Sequence[Candidate],
        example_ids: Sequence[str],
        tick: Tick = lambda done, total: None,
    ) -> None:
        """Run candidates, side by side, on those of the examples that each has not answered.

        A spent budget of the compilation leaves some unanswered. That of the whole command raises BudgetError.
        """
        missing = [[example for example in example_ids if example not in c.answers] for c in candidates]
        try:
            self.run_all([(c.program, ids) for c, ids in zip(candidates, missing, strict=True)], tick)
        except BudgetError as error:
            if error.budget is not self.budget:
                raise

    def score(self, candidate: Candidate, example_ids: Sequence[str]) -> Scored:
        """The score of a candidate's answers to these examples; if the budget is spent, of the answers that exist."""
        self.answer([candidate], example_ids)
        answers = {example: candidate.answers[example] for example in example_ids if example in candidate.answers}
        return self.target.score(answers)

    def ranked(self) -> list[Candidate]:
        """All candidates that copy nothing from the examples, the greatest lead over the first program first.

        Candidates that share too few examples with the first program come last.
        """
        usable = [c for c in self.register.candidates.values() if c.answers and not self.copied(c)]
        return sorted(usable, key=lambda c: (len(c.shared(self.first)) < self._least, -c.lead(self.first), c.number))

    def copied(self, candidate: Candidate) -> str:
        """A phrase of the examples that the candidate's instructions quote, or "".

        Words of the first program's instructions do not count.
        """
        if candidate.key not in self._copied:
            own = [p.signature.instructions for p in self.first.program.predictors()]
            new = [p.signature.instructions for p in candidate.program.predictors()]
            self._copied[candidate.key] = copies_corpus(new, self.target.texts, own)
        return self._copied[candidate.key]
