"""What every recipe works with: the program, examples, metrics, LMs, and a register of all that was tried.

    compiling = Compiling(assignment, critic, objective, Lms(writer, reflection, judge), budget, say)
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dspy

from syneg.core.errors import BackendError, BudgetError
from syneg.core.records import HardNegative, fingerprint
from syneg.llm.budget import Budget
from syneg.llm.calls import in_threads, purpose
from syneg.llm.lms import LanguageModel
from syneg.negatives.assignment import Assignment
from syneg.negatives.generation import answers_of

from .critic import Critic, Judgement
from .guards import copies_corpus, fences_of, keep_fence
from .objective import Objective, Score


@dataclass(frozen=True)
class Lms:
    """The LMs of a compilation; `judge` is None where no judge is trusted."""

    writer: LanguageModel
    reflection: LanguageModel
    judge: LanguageModel | None = None


@dataclass(frozen=True)
class Attempt:
    """One run of a program for one pair: what it returned, what that is worth, and DSPy's trace of its calls."""

    prediction: dspy.Prediction
    judgement: Judgement
    trace: Sequence[Any]


@dataclass
class Candidate:
    """A program that was tried: `answers[query_id]` as the critic judged the last try, `score` by the objective."""

    key: str
    program: dspy.Module
    number: int
    answers: dict[str, Judgement] = field(default_factory=dict)
    score: Score | None = None

    @property
    def mean(self) -> float:
        """What the critic gives its answers on average."""
        return sum(judged.value for judged in self.answers.values()) / len(self.answers) if self.answers else 0.0

    def shared(self, other: Candidate) -> list[str]:
        """The pairs that both have answered."""
        return [query_id for query_id in self.answers if query_id in other.answers]

    def lead(self, other: Candidate) -> float:
        """The critic's mean difference over the pairs that both have answered, as some pairs are easier than others."""
        leads = [self.answers[query_id].value - other.answers[query_id].value for query_id in self.shared(other)]
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
    """A program whose runs are registered. An answer that cannot be read is an empty negative, not an error."""

    def __init__(self, program: dspy.Module, register: Register, lm: str) -> None:
        """`lm` is the identity of the LM that writes."""
        super().__init__()
        self.program = program
        self._register, self._lm = register, lm

    def forward(self, query_id: str, **ask: Any) -> dspy.Prediction:
        """`negatives`, and under `candidate` the key of the program. Raises BackendError where no call was answered."""
        candidate = self._register.note(self.program)
        lm = self.program.predictors()[0].lm or dspy.settings.lm
        with purpose(query_id, int(lm.kwargs.get("rollout_id") or 0)) as current:
            negatives = answers_of(self.program, ask, current, self._lm)
        if not current.calls and not negatives[0].text:
            raise BackendError(
                f"the LM failed: {negatives[0].reasoning}", todo="check --lm, --api-base and the network"
            )
        return dspy.Prediction(negatives=negatives, candidate=candidate.key)


def accepted(judgements: Mapping[str, Judgement]) -> dict[str, list[HardNegative]]:
    """The negatives that passed the gates, by query."""
    return {query_id: judged.accepted for query_id, judged in judgements.items() if judged.accepted}


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
    """One compilation of the program of `assignment`, for its pairs."""

    def __init__(
        self,
        assignment: Assignment,
        critic: Critic,
        objective: Objective,
        lms: Lms,
        budget: Budget,
        say: Callable[[str], None],
    ) -> None:
        assert assignment.program is not None, "nothing is compiled where negatives are given"
        self.assignment, self.critic, self.objective = assignment, critic, objective
        self.lms, self.budget, self.say = lms, budget, say
        self.config, self.seed = assignment.config.compile, assignment.config.seed
        self.writer, self.reflection = lms.writer, lms.reflection
        self.lm = lms.writer.lm_for(0, assignment.config.generate.per_pair)
        self.register = Register()
        self.student = self.tracked(assignment.program)
        self.pairs = {pair.query_id: pair for pair in assignment.pairs}
        asks = {query_id: assignment.ask(place) for place, query_id in enumerate(self.pairs)}
        self.trainset = [
            dspy.Example(query_id=query_id, **ask).with_inputs("query_id", *ask) for query_id, ask in asks.items()
        ]
        self.first = self.register.note(assignment.program)
        self._lock, self._best, self._least = threading.Lock(), 0.0, max(2, len(self.pairs) // 4)

    def tracked(self, program: dspy.Module) -> Tracked:
        """The program, with its runs registered."""
        return program if isinstance(program, Tracked) else Tracked(program, self.register, self.writer.identity)

    @property
    def at_once(self) -> int:
        """Calls side by side. One for an embedded LM: each of its slots would have to read each new instruction (8
        pairs of SciFact with a new instruction take 82 s one by one and 100 s by four)."""
        config = self.writer.engine.config
        return 1 if config.model.startswith("local/") else config.concurrency

    def context(self) -> Any:
        """The writer's LM and adapter, as DSPy wants them."""
        return dspy.context(lm=self.lm, adapter=self.writer.adapter)

    # metrics, in the forms that DSPy's optimizers want

    def judge(self, query_id: str, prediction: dspy.Prediction) -> Judgement:
        """What the critic says of an answer; the candidate's score is noted."""
        judgement = self.critic(self.pairs[query_id], prediction.negatives)
        candidate = self.register.candidates[prediction.candidate]
        with self._lock:
            candidate.answers[query_id] = judgement
            lead, pairs = candidate.lead(self.first), len(candidate.shared(self.first))
            if pairs >= self._least and lead > self._best + 0.005:
                self._best = lead
                self.say(
                    f"program {candidate.number}: critic {lead:+.3f} over the first on {pairs} pairs, the best so far"
                )
        return judgement

    def metric(self, example: dspy.Example, prediction: dspy.Prediction, trace: Any = None) -> float:
        """A value from 0 to 1 (bootstrapping takes what a mined negative is worth, or better)."""
        value = self.judge(example.query_id, prediction).value
        return value if trace is None else value >= self.config.threshold

    def feedback_metric(
        self,
        example: dspy.Example,
        prediction: dspy.Prediction,
        trace: Any = None,
        pred_name: Any = None,
        pred_trace: Any = None,
    ) -> dspy.Prediction:
        """`score` from 0 to 1, `feedback` in words and `objective_scores`, as `dspy.GEPA` takes them."""
        judged = self.judge(example.query_id, prediction)
        return dspy.Prediction(score=judged.value, feedback=judged.words, objective_scores={"critic": judged.value})

    # running

    def run(self, program: dspy.Module, query_ids: Sequence[str]) -> dict[str, Attempt]:
        """query_id → the attempt of a program, tracked or not, in threads."""
        tracked = self.tracked(program)
        examples = {example.query_id: example for example in self.trainset}

        def work(place: int) -> Attempt:
            query_id = query_ids[place]
            with dspy.context(lm=self.lm, adapter=self.writer.adapter, trace=[]):
                prediction = tracked(**examples[query_id].inputs())
                trace = list(dspy.settings.trace)
            return Attempt(prediction, self.judge(query_id, prediction), trace)

        attempts = dict(in_threads(work, len(query_ids), self.at_once))
        return {query_id: attempts[place] for place, query_id in enumerate(query_ids)}

    def score(self, candidate: Candidate, query_ids: Sequence[str]) -> Score:
        """The objective's score of what a candidate writes for these pairs; with a spent budget, of what it has
        written."""
        try:
            self.run(candidate.program, [q for q in query_ids if q not in candidate.answers])
        except BudgetError as error:
            if error.budget is not self.budget:  # that of the whole command ends it
                raise
        return self.objective.score(accepted({q: candidate.answers[q] for q in query_ids if q in candidate.answers}))

    def ranked(self) -> list[Candidate]:
        """All candidates that copy nothing from the corpus, by their lead over the first program, the greatest first;
        those that share few pairs with it after the rest."""
        usable = [c for c in self.register.candidates.values() if c.answers and not self.copied(c)]
        return sorted(usable, key=lambda c: (len(c.shared(self.first)) < self._least, -c.lead(self.first), c.number))

    def copied(self, candidate: Candidate) -> str:
        """The phrase of the pairs that an instruction of the candidate repeats, or ""; the program's own words may
        stay."""
        own = [p.signature.instructions for p in self.first.program.predictors()]
        texts = [text for pair in self.pairs.values() for text in (pair.query, pair.positive)]
        new = [p.signature.instructions for p in candidate.program.predictors()]
        return copies_corpus(new, texts, own)
