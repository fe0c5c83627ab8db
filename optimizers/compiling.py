"""What every recipe works with: the program, examples, metrics, LMs, and a register of all that was tried.

    compiling = Compiling(program, pairs, …)
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

from syneg.core.config import CompileConfig
from syneg.core.errors import BudgetError, SynegError
from syneg.core.records import HardNegative, Pair, fingerprint
from syneg.llm.budget import Budget
from syneg.llm.calls import PROGRAM_ERRORS, check_answered, in_threads, purpose
from syneg.llm.lms import LanguageModel

from .critic import Critic, Judgement
from .guards import copies_corpus, fences_of, keep_fence
from .objective import Objective, Score

Say = Callable[[str], None]
Run = tuple[Any, Judgement, Any]  # prediction, judgement, trace


@dataclass
class Candidate:
    """A program that was tried: `answers[query_id]` as the critic judged them (the last try), `score` by the
    objective."""

    key: str
    program: dspy.Module
    number: int
    answers: dict[str, Judgement] = field(default_factory=dict)
    score: Score | None = None

    @property
    def mean(self) -> float:
        """What the critic gives its answers on average."""
        return sum(judged.value for judged in self.answers.values()) / len(self.answers) if self.answers else 0.0


class Register:
    """All candidates by content. Copies of programs share it."""

    def __init__(self) -> None:
        self.candidates: dict[str, Candidate] = {}
        self._fences: dict[str, list[str]] | None = None
        self._lock = threading.Lock()

    def knows(self, program: dspy.Module) -> bool:
        """Whether a program with this content was noted before."""
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

    def __init__(self, program: dspy.Module, register: Register) -> None:
        super().__init__()
        self.program = program
        self._register = register

    def forward(self, query_id: str, **ask: Any) -> dspy.Prediction:
        """`negatives`, and under `candidate` the key of the program."""
        candidate = self._register.note(self.program)
        lm = self.program.predictors()[0].lm or dspy.settings.lm
        rollout = int(lm.kwargs.get("rollout_id") or 0)
        with purpose(query_id, rollout) as current:
            try:
                negatives = list(self.program(**ask).negatives)
            except SynegError:
                raise
            except PROGRAM_ERRORS as error:
                check_answered(error, answered=bool(current.calls))
                negatives = [
                    HardNegative("", type(self.program).__name__, reasoning=" ".join(str(error).split())[:200])
                ]
        return dspy.Prediction(negatives=negatives, candidate=candidate.key)


def accepted(judged: Mapping[str, Judgement]) -> dict[str, list[HardNegative]]:
    """The negatives that passed the gates, by query."""
    return {q: [one.draft.negative] for q, one in judged.items() if one.accepted and one.draft}


def content_of(program: dspy.Module) -> str:
    """A hash of what an optimizer may change: instructions (line breaks aside), fields' words and demos."""
    return fingerprint([
        [name, p.signature.instructions.split(), [[f, (i.json_schema_extra or {}).get("prefix"), (i.json_schema_extra or {}).get("desc")]
         for f, i in p.signature.fields.items()], [{k: str(v) for k, v in dict(demo).items()} for demo in p.demos]]
        for name, p in program.named_predictors()
    ])  # fmt: skip


class Compiling:
    """One compilation. `asks[query_id]` are the inputs of the program for a pair."""

    def __init__(
        self,
        program: dspy.Module,
        pairs: Sequence[Pair],
        asks: Mapping[str, Mapping[str, Any]],
        *,
        writer: LanguageModel,
        reflection: LanguageModel,
        objective: Objective,
        critic: Critic,
        budget: Budget,
        config: CompileConfig,
        seed: int,
        say: Say,
    ) -> None:
        self.register = Register()
        self.student = Tracked(program, self.register)
        self.pairs = {pair.query_id: pair for pair in pairs}
        self.trainset = [
            dspy.Example(query_id=pair.query_id, **asks[pair.query_id]).with_inputs("query_id", *asks[pair.query_id])
            for pair in pairs
        ]
        self.writer, self.reflection = writer, reflection
        self.objective, self.critic, self.budget = objective, critic, budget
        self.config, self.seed, self.say = config, seed, say
        self.first = self.register.note(program)
        self._lock, self._best, self._least = threading.Lock(), 0.0, max(2, len(self.pairs) // 4)

    @property
    def at_once(self) -> int:
        """Calls side by side. One for an embedded LM: each of its slots would have to read each new instruction (8
        pairs of SciFact with a new instruction take 82 s one by one and 100 s by four)."""
        config = self.writer.engine.config
        return 1 if config.model.startswith("local/") else config.concurrency

    def context(self) -> Any:
        """The writer's LM and adapter, as DSPy wants them."""
        return dspy.context(lm=self.writer.lm, adapter=self.writer.adapter)

    # ---- metrics, in the forms that DSPy's optimizers want ------------------------------------------------------

    def judge(self, query_id: str, said: dspy.Prediction) -> Judgement:
        """What the critic says of an answer; the candidate's score is noted."""
        judgement = self.critic(self.pairs[query_id], said.negatives)
        candidate = self.register.candidates[said.candidate]
        with self._lock:
            candidate.answers[query_id] = judgement
            if len(candidate.answers) >= self._least and candidate.mean > self._best + 0.005:
                self._best = candidate.mean
                self.say(
                    f"program {candidate.number}: critic {candidate.mean:.3f} on {len(candidate.answers)} pairs, the best so far"
                )
        return judgement

    def metric(self, example: dspy.Example, said: dspy.Prediction, trace: Any = None) -> float:
        """A value from 0 to 1 (bootstrapping takes what a mined negative is worth, or better)."""
        value = self.judge(example.query_id, said).value
        return value if trace is None else value >= self.config.threshold

    def feedback_metric(
        self,
        example: dspy.Example,
        said: dspy.Prediction,
        trace: Any = None,
        pred_name: Any = None,
        pred_trace: Any = None,
    ) -> dspy.Prediction:
        """`score` from 0 to 1, `feedback` in words and `objective_scores`, as `dspy.GEPA` takes them."""
        judged = self.judge(example.query_id, said)
        return dspy.Prediction(score=judged.value, feedback=judged.words, objective_scores={"critic": judged.value})

    # ---- running ------------------------------------------------------------------------------------------------

    def run(self, program: dspy.Module, query_ids: Sequence[str]) -> dict[str, Run]:
        """query_id → (prediction, judgement, trace) of a program, tracked or not, in threads."""
        tracked = program if isinstance(program, Tracked) else Tracked(program, self.register)
        examples = {example.query_id: example for example in self.trainset}

        def work(place: int) -> Run:
            query_id = query_ids[place]
            with dspy.context(lm=self.writer.lm, adapter=self.writer.adapter, trace=[]):
                said = tracked(**examples[query_id].inputs())
                trace = list(dspy.settings.trace)
            return said, self.judge(query_id, said), trace

        found = dict(in_threads(work, len(query_ids), self.at_once))
        return {query_id: found[place] for place, query_id in enumerate(query_ids)}

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
        """All candidates that copy nothing from the corpus, best critic's mean first, those judged on few pairs after
        the rest."""
        usable = [c for c in self.register.candidates.values() if c.answers and not self.copied(c)]
        return sorted(usable, key=lambda c: (len(c.answers) < self._least, -c.mean, c.number))

    def copied(self, candidate: Candidate) -> str:
        """The phrase of the pairs that an instruction of the candidate repeats, or ""; the program's own words may
        stay."""
        own = [p.signature.instructions for p in self.first.program.predictors()]
        texts = [text for pair in self.pairs.values() for text in (pair.query, pair.positive)]
        new = [p.signature.instructions for p in candidate.program.predictors()]
        return copies_corpus(new, texts, own)
