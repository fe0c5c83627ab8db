"""What a program is asked to write: the pairs, and for each pair its attributes and mined negatives.

    assignment = Assignment(pairs, mined, task, config, "neighbour_rewrite", program)
    assignment.ask(0) → {"query": "close a socket", "positive": "Close the socket …", "task": "A passage is relevant …",
                         "candidates": (MinedNegative("d9", …), …), "attributes": ({"domain": "networks", …},)}

The gates, which check what the program writes, are in `syneg.negatives.gating`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import dspy

from syneg.core.config import Config
from syneg.core.errors import BackendError
from syneg.core.records import MinedNegative, Pair
from syneg.core.text import cut
from syneg.data.tasks import Task
from syneg.data.texts import sample
from syneg.llm.calls import PROGRAM_ERRORS, purpose, reraise_fatal
from syneg.llm.lms import LanguageModel
from syneg.programs import AttributeSpace, ProgramInputs, propose_domains

_PLAN_SAMPLE, _PLAN_ATTEMPTS = 20, 3


@dataclass(frozen=True)
class Assignment:
    """The pairs to write for, and the program that writes; `name` is what users call the program.

    `mined[query_id]` holds mined negatives, for programs that rewrite one. `config` gives the seed and the `generate`
    settings. `program` is None if the negatives come from a file.
    """

    pairs: Sequence[Pair]
    mined: Mapping[str, Sequence[MinedNegative]]
    task: Task
    config: Config
    name: str
    program: dspy.Module | None = None

    @property
    def shown(self) -> list[list[str]]:
        """For each pair, the ids of the passages that the program may rewrite."""
        return [[n.doc_id for n in self.mined.get(pair.query_id, ())] for pair in self.pairs]

    def attributes(self, place: int, accepted: int = 0) -> tuple[dict[str, str], ...]:
        """Attributes for the negatives that pair number `place` still needs, one mapping for each.

        `accepted` of its `generate.per_pair` negatives exist already.
        """
        task, config = self.task, self.config
        space = AttributeSpace(task.domains, task.difficulties, task.lengths, task.kinds)
        siblings = range(accepted, config.generate.per_pair)
        return tuple(space.sample(seed=config.seed, place=place, sibling=sibling) for sibling in siblings)

    def ask(self, place: int, attempt: int = 0, accepted: int = 0) -> ProgramInputs:
        """The inputs of the program for pair number `place`.

        Passages are cut to `generate.passage_words` words. Each attempt starts at the next mined negative, so that a
        retry rewrites another passage.
        """
        pair, words = self.pairs[place], self.config.generate.passage_words
        shown = [replace(n, text=cut(n.text, words)) for n in self.mined.get(pair.query_id, ())]
        turn = (attempt + accepted) % len(shown) if shown else 0
        return {
            "query": pair.query, "positive": cut(pair.positive, words), "task": self.task.definition,
            "candidates": (*shown[turn:], *shown[:turn]), "attributes": self.attributes(place, accepted),
        }  # fmt: skip


def plan_domains(task: Task, passages: Mapping[str, str], writer: LanguageModel, seed: int) -> Task:
    """Return the task with domains that the LM names from a sample of 20 passages of the corpus.

    Raises BackendError if the LM names none in three attempts.
    """
    drawn = [text for _, text in sample(passages, _PLAN_SAMPLE, random.Random(f"{seed}:plan"))]
    last: Exception | None = None
    for attempt in range(_PLAN_ATTEMPTS):
        with purpose("plan", attempt), dspy.context(lm=writer.lm_for(attempt, 1), adapter=writer.adapter):
            try:
                return replace(task, domains=propose_domains(drawn, task=task.definition))
            except PROGRAM_ERRORS as error:
                reraise_fatal(error)
                last = error
    raise BackendError(
        f"the LM proposed no domains: {last}", todo="give generate.domains, or leave out --plan"
    ) from last
