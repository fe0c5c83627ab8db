"""What every recipe works with: the program, examples, metrics, LMs, and a register of all that was tried.

    compiling = Compiling(target, config, reflection, budget, say)
    recipe(compiling)                          proposes; whatever it runs is registered, with its scores
    compiling.ranked() → [Candidate(program, scores={"q1": .71, …}), …]

A recipe may be any optimizer of DSPy: it gets `student`, `trainset`, and `metric` or `feedback_metric`, and what it
returns does not matter. The register sees each program that runs, by its instructions and demos, so that a recipe that
is stopped by the budget, or that keeps its candidates to itself, loses nothing. All LM calls go through the ledger: the
same command after a kill is answered from there up to the point where it stopped.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import dspy

from syneg.core.config import Config
from syneg.core.errors import BackendError, BudgetError
from syneg.core.records import fingerprint
from syneg.llm.budget import Budget
from syneg.llm.calls import in_threads, purpose
from syneg.llm.lms import LanguageModel

from .guards import copies_corpus, fences_of, keep_fence
from .target import Scored, Target, Worth


@dataclass(frozen=True)
class Attempt:
    """One run of a program for one example: what it returned, what that is worth, and DSPy's trace of its calls."""

    prediction: dspy.Prediction
    judgement: Worth
    trace: Sequence[Any]


@dataclass
class Candidate:
    """A program that was tried: `answers[example_id]` as the target judged the last try, `score` of all together."""

    key: str
    program: dspy.Module
    number: int
    answers: dict[str, Worth] = field(default_factory=dict)
    score: Scored | None = None

    @property
    def mean(self) -> float:
        """What its answers are worth on average."""
        return sum(judged.value for judged in self.answers.values()) / len(self.answers) if self.answers else 0.0

    def shared(self, other: Candidate) -> list[str]:
        """The examples that both have answered."""
        return [example_id for example_id in self.answers if example_id in other.answers]

    def leads(self, other: Candidate) -> list[float]:
        """The difference in value on each example that both have answered, as some examples are easier than others."""
        return [self.answers[example].value - other.answers[example].value for example in self.shared(other)]

    def lead(self, other: Candidate) -> float:
        """The mean of these differences."""
        leads = self.leads(other)
        return sum(leads) / len(leads) if leads else 0.0


class Register:
    """All candidates by content. Copies of programs share it."""

    def __init__(self) -> None:
        self.candidates: dict[str, Candidate] = {}
        self._fences: dict[str, list[str]] | None = None
        self._lock = threading.Lock()

    def knows(self, program: dspy.Module) -> bool:
        """Whether a program with this content was noted before; it gets its fence back first, as `note` does."""
        if self._fences is not None:
            keep_fence(program, self._fences)
        return content_of(program) in self.candidates

    def note(self, program: dspy.Module) -> Candidate:
        """The candidate of a program; the first one noted says which prompts fence corpus text, and all others have
        to."""
        with self._lock:
            if self._fences is None:
                self._fences = fences_of(program)
            keep_fence(program, self._fences)
            key = content_of(program)
            if key not in self.candidates:
                own = copy.deepcopy(program)
                own.set_lm(None)  # SIMBA sets LMs of its own
                self.candidates[key] = Candidate(key, own, len(self.candidates))
            return self.candidates[key]

    def __deepcopy__(self, memo: dict[int, Any]) -> Register:
        return self


class Tracked(dspy.Module):
    """A program whose runs are registered. An answer that cannot be read is worth nothing, and is no error."""

    def __init__(self, program: dspy.Module, register: Register, target: Target) -> None:
        super().__init__()
        self.program = program
        self._register, self._target = register, target

    def forward(self, example_id: str, **ask: Any) -> dspy.Prediction:
        """What the target takes as an answer, and under `candidate` the key of the program. Raises BackendError where
        no call was answered."""
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
    """A hash of what an optimizer may change: instructions (line breaks aside), fields' words and demos."""
    steps = []
    for name, predictor in program.named_predictors():
        words = {field: info.json_schema_extra or {} for field, info in predictor.signature.fields.items()}
        fields = [[field, extra.get("prefix"), extra.get("desc")] for field, extra in words.items()]
        demos = [{key: str(value) for key, value in dict(demo).items()} for demo in predictor.demos]
        steps.append([name, predictor.signature.instructions.split(), fields, demos])
    return fingerprint(steps)


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
        """Whether the score alone orders programs on so many examples."""
        return len(self.ids) >= self.target.enough

    def tracked(self, program: dspy.Module) -> Tracked:
        """The program, with its runs registered."""
        return program if isinstance(program, Tracked) else Tracked(program, self.register, self.target)

    @property
    def at_once(self) -> int:
        """Calls side by side. One for an embedded LM: each of its slots would have to read each new instruction (8
        pairs of SciFact with a new instruction take 82 s one by one and 100 s by four)."""
        config = self.target.lm.engine.config
        return 1 if config.model.startswith("local/") else config.concurrency

    def context(self) -> Any:
        """The LM of the program and its adapter, as DSPy wants them."""
        return dspy.context(lm=self.lm, adapter=self.target.lm.adapter)

    # metrics, in the forms that DSPy's optimizers want

    def judge(self, example_id: str, prediction: dspy.Prediction) -> Worth:
        """What an answer is worth; it is noted as the candidate's."""
        judgement = self.target.judge(example_id, prediction)
        candidate = self.register.candidates[prediction.candidate]
        with self._lock:
            candidate.answers[example_id] = judgement
            lead, pairs = candidate.lead(self.first), len(candidate.shared(self.first))
            if pairs >= self._least and lead > self._best + 0.005:
                self._best = lead
                self.say(f"program {candidate.number}: {lead:+.3f} over the first on {pairs} examples, the best so far")
        return judgement

    def metric(self, example: dspy.Example, prediction: dspy.Prediction, trace: Any = None) -> float:
        """A value from 0 to 1; for bootstrapping, whether the answer is good enough for a demo."""
        value = self.judge(example.example_id, prediction).value
        return value if trace is None else value >= self.target.threshold

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
        """example_id → the attempt of a program, tracked or not, in threads."""
        tracked = self.tracked(program)
        examples = {example.example_id: example for example in self.trainset}

        def work(place: int) -> Attempt:
            example_id = example_ids[place]
            with dspy.context(lm=self.lm, adapter=self.target.lm.adapter, trace=[]):
                prediction = tracked(**examples[example_id].inputs())
                trace = list(dspy.settings.trace)
            return Attempt(prediction, self.judge(example_id, prediction), trace)

        attempts = dict(in_threads(work, len(example_ids), self.at_once))
        return {example_id: attempts[place] for place, example_id in enumerate(example_ids)}

    def score(self, candidate: Candidate, example_ids: Sequence[str]) -> Scored:
        """The score of what a candidate answers to these examples; with a spent budget, of what it has answered."""
        try:
            self.run(candidate.program, [example for example in example_ids if example not in candidate.answers])
        except BudgetError as error:
            if error.budget is not self.budget:  # that of the whole command ends it
                raise
        answers = {example: candidate.answers[example] for example in example_ids if example in candidate.answers}
        return self.target.score(answers)

    def ranked(self) -> list[Candidate]:
        """All candidates that copy nothing from the corpus, by their lead over the first program, the greatest first;
        those that share few pairs with it after the rest."""
        usable = [c for c in self.register.candidates.values() if c.answers and not self.copied(c)]
        return sorted(usable, key=lambda c: (len(c.shared(self.first)) < self._least, -c.lead(self.first), c.number))

    def copied(self, candidate: Candidate) -> str:
        """The phrase of the examples that an instruction of the candidate repeats, or ""; the program's own words may
        stay."""
        if candidate.key not in self._copied:
            own = [p.signature.instructions for p in self.first.program.predictors()]
            new = [p.signature.instructions for p in candidate.program.predictors()]
            self._copied[candidate.key] = copies_corpus(new, self.target.texts, own)
        return self._copied[candidate.key]
