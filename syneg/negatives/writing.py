"""The generate stage: attributes, program, gates, judge, coverage; from pairs to the rows of negatives.jsonl.

    gated(write_negatives(sources, config, writer, …), …) → [Draft(…), …]
    summary(drafts, …) → {"program": "multi_attribute", "written": 120, "accepted": 71, "reasons": {…}, "coverage": {…}, …}

`coverage` holds, for each value of each attribute, how many negatives were wanted with it and how many were accepted.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dspy

from syneg.core.config import Config, GatesConfig
from syneg.core.errors import BackendError
from syneg.core.progress import Progress
from syneg.core.records import MinedNegative, Pair
from syneg.data.collection import Collection
from syneg.data.corpus_profile import CorpusProfile
from syneg.data.tasks import Task
from syneg.llm.calls import PROGRAM_ERRORS, purpose, reraise_fatal
from syneg.llm.ledger import Ledger
from syneg.llm.lms import LanguageModel
from syneg.programs import AttributeSpace, Judge, propose_domains
from syneg.retrieval.encoder import Encoder

from .calibration import Calibration
from .generation import Draft, generate
from .judging import ask_judge, compare

_PLAN_SAMPLE = 20


@dataclass(frozen=True)
class Sources:
    """What is written for, and what it is held against."""

    pairs: Sequence[Pair]
    collection: Collection
    encoder: Encoder
    mined: Mapping[str, Sequence[MinedNegative]]
    task: Task
    program: dspy.Module | None
    name: str


def plan_domains(sources: Sources, writer: LanguageModel, seed: int) -> Task:
    """The task with domains that the LM names from a sample of the corpus. Raises BackendError when it names none."""
    texts = list(sources.collection.passages.values())
    sample = random.Random(f"{seed}:plan").sample(texts, min(_PLAN_SAMPLE, len(texts)))
    last: Exception | None = None
    for attempt in range(3):
        with purpose("plan", attempt), dspy.context(lm=writer.lm_for(attempt, 1), adapter=writer.adapter):
            try:
                return replace(sources.task, domains=propose_domains(sample, task=sources.task.definition))
            except PROGRAM_ERRORS as error:
                reraise_fatal(error)
                last = error
    raise BackendError(
        f"the LM proposed no domains: {last}", todo="give generate.domains, or leave out --plan"
    ) from last


def write_negatives(sources: Sources, config: Config, writer: LanguageModel, progress: Progress) -> list[Draft]:
    """Let the program write, and apply the gates on text. Raises BackendError when the LM keeps failing."""
    with progress.stage("generate", "pairs") as line:
        drafts = generate(
            sources.pairs, sources.program, writer, definition=sources.task.definition, space=space_of(sources.task),
            collection=sources.collection, candidates=sources.mined, profile=CorpusProfile.of(sources.collection.passages.values()),
            config=config.generate, gates=config.gates, seed=config.seed, progress=line,
        )  # fmt: skip
        usable = sum(draft.verdict.accepted for draft in drafts)
        line.note = f"{len(drafts)} written by {sources.name}, {usable} through the gates on text"
    return drafts


def gated(
    drafts: Sequence[Draft],
    sources: Sources,
    gates: GatesConfig,
    judge: tuple[LanguageModel, Calibration] | None,
    progress: Progress,
) -> list[Draft]:
    """The gates that need the encoder, then a trusted judge, whoever wrote the drafts."""
    found = compare(drafts, sources.collection, sources.encoder, gates, judged=judge is not None)
    if judge is not None:
        with progress.stage("judge", "negatives") as line:
            found = ask_judge(found, Judge(), judge[0], sources.task.definition, gates, line)
            line.note = f"{sum(d.verdict.accepted for d in found)} do not answer"
    return found


def space_of(task: Task) -> AttributeSpace:
    """The attributes of a task as a space to sample from."""
    return AttributeSpace(task.domains, task.difficulties, task.lengths, task.kinds)


def summary(sources: Sources, config: Config, drafts: Sequence[Draft], lm: str, ledger: Ledger) -> dict[str, Any]:
    """Counts of a generate stage, as plain data. `usd` is None where a price is not known; given negatives (without a
    program) have no coverage, as no attributes were wanted of them."""
    accepted = [draft for draft in drafts if draft.verdict.accepted]
    prices = [draft.negative.usd for draft in drafts]
    keys = {key for draft in drafts for key in draft.negative.calls}
    rows = [row for key in keys if (row := ledger.find(key)) is not None]
    return {
        "program": sources.name, "lm": lm, "pairs": len(sources.pairs), "written": len(drafts),
        "accepted": len(accepted), "covered": len({draft.pair.query_id for draft in accepted}),
        "reasons": dict(Counter(d.verdict.reason for d in drafts if d.verdict.reason).most_common()),
        "calls": len(keys), "call_seconds": round(sum(row["seconds"] for row in rows), 1),
        "input_tokens": sum(d.negative.input_tokens for d in drafts),
        "output_tokens": sum(d.negative.output_tokens for d in drafts),
        "usd": None if None in prices else sum(p or 0.0 for p in prices),
        "coverage": _coverage(sources, config, drafts) if sources.program else {},
    }  # fmt: skip


def _coverage(sources: Sources, config: Config, drafts: Sequence[Draft]) -> dict[str, dict[str, list[int]]]:
    """attribute → value → [wanted, accepted]; of attributes that the program does not use there is nothing to say."""
    space, counts = space_of(sources.task), dict[str, dict[str, list[int]]]()
    used = {key for draft in drafts if draft.negative.text for key in draft.negative.attributes}
    for place in range(len(sources.pairs)):
        for sibling in range(config.generate.per_pair):
            for key, value in space.sample(seed=config.seed, place=place, sibling=sibling).items():
                if key in used:
                    counts.setdefault(key, {}).setdefault(value, [0, 0])[0] += 1
    for draft in drafts:
        for key, values in counts.items():
            if draft.verdict.accepted and draft.negative.attributes.get(key) in values:
                values[draft.negative.attributes[key]][1] += 1
    return counts
