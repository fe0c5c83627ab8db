"""Judging drafts: by the gates that need the encoder, then by a trusted judge.

compare(drafts, …)           → the drafts with the verdicts of those gates: Draft(…, GateVerdict("over …", .97))
ask_judge(drafts, judge, …)  → the same, with those of the judge, and what it quotes
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import dspy
import numpy as np

from syneg.core.config import GatesConfig
from syneg.core.progress import Tick
from syneg.core.records import Draft, GateVerdict
from syneg.data.collection import Collection
from syneg.llm.calls import PROGRAM_ERRORS, in_threads, purpose, reraise_fatal
from syneg.llm.lms import LanguageModel
from syneg.retrieval.encoder import Encoder, unit

from .gates import ANSWERS, REFUSED_CALL, Cosines, encoder_gates
from .mining import scores_of

_DOT_DEPTH = 50


def compare(
    drafts: Sequence[Draft], collection: Collection, encoder: Encoder, gates: GatesConfig, *, judged: bool
) -> list[Draft]:
    """Apply the gates that need the encoder to the drafts that passed those on text."""
    passed = [draft for draft in drafts if draft.accepted]
    if not passed:
        return list(drafts)
    to_query = scores_of(encoder, [draft.pair for draft in passed], [[draft.negative.text] for draft in passed])
    vectors = encoder.encode([draft.negative.text for draft in passed], "passage")
    twins = _nearest(vectors, collection, encoder)
    vectors = unit(vectors)  # two passages are compared by cosine, whatever compares a query with a passage
    kept: dict[str, list[Any]] = {}
    verdicts: dict[int, GateVerdict] = {}
    for row, (draft, (score, positive_score), vector) in enumerate(zip(passed, to_query, vectors, strict=True)):
        texts = collection.relevant_texts(draft.pair.query_id)
        relevant, twin = unit(encoder.encode(texts, "passage")), twins[row]
        is_relevant = float((relevant @ twin).max()) > max(gates.positive_cosine, 1e-6)
        siblings = kept.setdefault(draft.pair.query_id, [])
        cosines = Cosines(
            query=float(score[0]), positive_query=positive_score, positive=float((relevant @ vector).max()),
            relevant=float(twin @ vector) if is_relevant else 0.0,
            sibling=max((float(other @ vector) for other in siblings), default=0.0),
        )  # fmt: skip
        verdict = encoder_gates(cosines, gates, judged=judged)
        siblings += [vector] if verdict.accepted else []
        figures = {**draft.verdict.figures, **verdict.figures, "corpus_cosine": round(float(twin @ vector), 4)}
        verdicts[id(draft)] = replace(verdict, figures=figures)
    return [replace(draft, verdict=verdicts.get(id(draft), draft.verdict)) for draft in drafts]


def _nearest(vectors: np.ndarray, collection: Collection, encoder: Encoder) -> np.ndarray:
    """The embedding (n, dim), of length 1, of the passage of the corpus with the highest cosine to each vector.

    The index of a dot-product encoder puts long vectors first: there the nearest of its first hits is taken.
    """
    depth = 1 if encoder.similarity == "cosine" else _DOT_DEPTH
    twins = []
    for vector, hits in zip(unit(vectors), encoder.index(collection.passages).search(vectors, depth), strict=True):
        near = unit(encoder.encode([collection.passages[doc_id] for doc_id, _ in hits], "passage"))
        twins.append(near[int(np.argmax(near @ vector))])
    return np.stack(twins)


def ask_judge(
    drafts: Sequence[Draft],
    judge: dspy.Module,
    judge_lm: LanguageModel,
    definition: str,
    gates: GatesConfig,
    progress: Tick | None = None,
) -> list[Draft]:
    """Let a trusted judge read the drafts that passed all else; the verdict's `evidence` holds what it quotes.

    Where no verdict of the judge can be read, the gates on cosines decide as they do without a judge: with the margin.
    """
    passed = [draft for draft in drafts if draft.accepted]
    questions = [(draft.pair.query_id, draft.pair.query, draft.negative.text) for draft in passed]
    verdicts: dict[int, GateVerdict] = {}
    answers = ask_all(questions, judge, judge_lm, definition, progress)
    for draft, answer in zip(passed, answers, strict=True):
        if answer is None:
            verdicts[id(draft)] = _without_judge(draft.verdict, gates)
        elif answer[0]:
            verdicts[id(draft)] = replace(draft.verdict, reason=ANSWERS, figure=1.0, threshold=0.0, evidence=answer[1])
    return [replace(draft, verdict=verdicts.get(id(draft), draft.verdict)) for draft in drafts]


def _without_judge(verdict: GateVerdict, gates: GatesConfig) -> GateVerdict:
    """The verdict on an accepted text when no judge has read it."""
    query, positive = verdict.figures.get("query_cosine"), verdict.figures.get("positive_query_cosine")
    if query is None or positive is None:  # no encoder has compared it
        return verdict
    own = encoder_gates(Cosines(query=query, positive_query=positive, positive=0.0), gates, judged=False)
    return replace(verdict, reason=own.reason, figure=own.figure, threshold=own.threshold)


def ask_all(
    questions: Sequence[tuple[str, str, str]],
    judge: dspy.Module,
    judge_lm: LanguageModel,
    definition: str | Sequence[str],
    progress: Tick | None = None,
) -> list[tuple[bool, str] | None]:
    """(query_id, query, passage) → (relevant, quoted span), or None where no verdict could be read; in order.

    `definition` is that of the task, or one for each question. Raises BackendError when the LM keeps failing.
    """

    def work(place: int) -> tuple[bool, str] | None:
        query_id, query, passage = questions[place]
        task_text = definition if isinstance(definition, str) else definition[place]
        for attempt in range(2):
            with (
                purpose(query_id, attempt) as current,
                dspy.context(lm=judge_lm.lm_for(attempt, 1), adapter=judge_lm.adapter),
            ):
                try:
                    answer = judge(task=task_text, query=query, passage=passage)
                except PROGRAM_ERRORS as error:
                    reraise_fatal(error)
                    if any(call.finish_reason == REFUSED_CALL for call in current.calls):
                        return None
                    continue
            return bool(answer.relevant), str(answer.span)
        return None

    answers: dict[int, tuple[bool, str] | None] = {}
    for place, answer in in_threads(work, len(questions), judge_lm.engine.config.concurrency):
        answers[place] = answer
        if progress:
            progress(len(answers), len(questions))
    return [answers[place] for place in range(len(questions))]
