"""The last two checks of a draft: the gates on cosines, then a trusted judge.

compare(drafts, …)           → [Draft(…, GateVerdict("over the margin of the positive", .97)), …]
ask_judge(drafts, judge, …)  → [Draft(…, GateVerdict("the judge says it answers", 1, evidence="close() …")), …]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import dspy
import numpy as np

from syneg.core.config import GatesConfig
from syneg.core.progress import Tick
from syneg.core.records import Draft, GateVerdict
from syneg.core.threads import in_order
from syneg.data.collection import Collection
from syneg.llm.calls import PROGRAM_ERRORS, purpose, reraise_fatal
from syneg.llm.lms import LanguageModel
from syneg.retrieval.encoder import Encoder
from syneg.retrieval.vectors import unit

from .gates import ANSWERS, REFUSED_CALL, Cosines, encoder_gates
from .mining import scores_of

_DOT_DEPTH = 50  # hits to search for the nearest passage by cosine, if the encoder uses dot products


def compare(
    drafts: Sequence[Draft], collection: Collection, encoder: Encoder, gates: GatesConfig, *, judged: bool
) -> list[Draft]:
    """Apply the gates on cosines to the accepted drafts; return all drafts in the same order.

    With `judged` the margin rejects nothing. Each verdict also records `corpus_cosine`, the cosine to the nearest
    passage of the corpus.
    """
    passed = [draft for draft in drafts if draft.accepted]
    if not passed:
        return list(drafts)
    to_query = scores_of(encoder, [draft.pair for draft in passed], [[draft.negative.text] for draft in passed])
    vectors = encoder.encode([draft.negative.text for draft in passed], "passage")  # (passed, dim)
    twins = _nearest(vectors, collection, encoder)  # (passed, dim): the nearest passage of the corpus for each
    vectors = unit(vectors)  # passages are compared by cosine, even if the encoder compares queries by dot product
    kept: dict[str, list[np.ndarray]] = {}
    verdicts: dict[int, GateVerdict] = {}
    for row, (draft, (score, positive_score), vector) in enumerate(zip(passed, to_query, vectors, strict=True)):
        texts = collection.relevant_texts(draft.pair.query_id)
        relevant, twin = unit(encoder.encode(texts, "passage")), twins[row]  # (positives, dim), (dim,)
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
    """For each vector (n, dim), the unit embedding (n, dim) of the corpus passage with the highest cosine to it.

    The index of a dot-product encoder ranks long vectors first, so its first 50 hits are compared by cosine.
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
    """Let a trusted judge read the accepted drafts, and reject a draft that it says answers the query.

    The verdict's `evidence` holds the words that the judge quotes. If the judge's answer cannot be read, the gates on
    cosines decide, with the margin, as they do without a judge. Raises BackendError when the LM keeps failing.
    """
    passed = [draft for draft in drafts if draft.accepted]
    questions = [(draft.pair.query_id, draft.pair.query, draft.negative.text) for draft in passed]
    verdicts: dict[int, GateVerdict] = {}
    answers = ask_all(questions, judge, judge_lm, definition, progress)
    for draft, answer in zip(passed, answers, strict=True):
        if answer is None:
            verdicts[id(draft)] = without_judge(draft.verdict, gates)
        elif answer[0]:
            verdicts[id(draft)] = replace(draft.verdict, reason=ANSWERS, figure=1.0, threshold=0.0, evidence=answer[1])
    return [replace(draft, verdict=verdicts.get(id(draft), draft.verdict)) for draft in drafts]


def without_judge(verdict: GateVerdict, gates: GatesConfig) -> GateVerdict:
    """The verdict on an accepted text that no judge has read: the margin applies again."""
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
    """Ask the judge about each (query_id, query, passage), in threads, with up to two attempts each.

    Returns (relevant, quoted span) for each question, in order, or None if the answer cannot be read or the endpoint
    refuses the prompt. `definition` says what relevant means, once for all questions or once for each. Raises
    BackendError when the LM keeps failing.
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

    return in_order(work, range(len(questions)), judge_lm.engine.config.concurrency, progress)
