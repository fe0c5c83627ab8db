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

_WIDTH = 4  # proposals side by side, for compile.width=auto


@dataclass(frozen=True)
class Attempt:
    """One run of a program for one example: what it returned, what that is worth, and DSPy's trace of its calls."""

    prediction: dspy.Prediction
    judgement: Worth
    trace: Sequence[Any]


@dataclass
class Candidate:
    """A program that was tried: `answers[example_id]` as the target judged the last try, `score` of all together.

    `origin` says how it was made, `stopped` why not all examples were tried; "" where nothing is to say.
    """

    key: str
    program: dspy.Module
    number: int
    answers: dict[str, Worth] = field(default_factory=dict)
    score: Scored | None = None
    origin: str = ""
    stopped: str = ""

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
            lead, pairs = candidate.lead(self.first), len(candidate.shared(self.first))
            if pairs >= self._least and lead > self._best + 0.005:
                self._best = lead
                self.say(f"program {candidate.number}: {lead:+.3f} over the first on {pairs} examples, the best so far")
        return judgement

    def metric(self, example: dspy.Example, prediction: dspy.Prediction, trace: Any = None) -> float:
        """The value of an answer, 0 to 1. During bootstrapping (`trace` is set), whether it may become a demo."""
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
        """example_id → one attempt of a program, tracked or not, in threads."""
        return self.run_all([(program, example_ids)])[0]

    def run_all(self, jobs: Sequence[tuple[dspy.Module, Sequence[str]]]) -> list[dict[str, Attempt]]:
        """`run` for several programs, all their examples side by side."""
        examples = {example.example_id: example for example in self.trainset}
        tracked = [self.tracked(program) for program, _ in jobs]
        flat = [(job, example_id) for job, (_, example_ids) in enumerate(jobs) for example_id in example_ids]

        def work(place: int) -> Attempt:
            job, example_id = flat[place]
            with dspy.context(lm=self.lm, adapter=self.target.lm.adapter, trace=[]):
                prediction = tracked[job](**examples[example_id].inputs())
                trace = list(dspy.settings.trace)
            return Attempt(prediction, self.judge(example_id, prediction), trace)

        done = dict(in_threads(work, len(flat), self.at_once))
        attempts: list[dict[str, Attempt]] = [{} for _ in jobs]
        for place, (job, example_id) in enumerate(flat):
            attempts[job][example_id] = done[place]
        return attempts

    def score(self, candidate: Candidate, example_ids: Sequence[str]) -> Scored:
        """The score of a candidate's answers to these examples; if the budget is spent, of the answers that exist."""
        try:
            self.run(candidate.program, [example for example in example_ids if example not in candidate.answers])
        except BudgetError as error:
            if error.budget is not self.budget:  # the budget of the whole command ends the command
                raise
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
