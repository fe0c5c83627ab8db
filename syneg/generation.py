"""Generation: a program over pairs, in threads, until every pair has its negatives or a recorded reason.

    generate(pairs, program, writer, …) → [Draft(pair, HardNegative("Shut down one half …"), GateVerdict("")), …]
    judge(drafts, collection, encoder, gates) → the same, with the verdicts of the gates that need the encoder

One bad pair never stops a run. A pair whose answer cannot be parsed or fails a gate on its text is asked again, as a
new attempt, up to `attempts` times; each try is a row. When the LM fails again and again, or nothing that it says is
usable, the run stops, with everything kept: the same command goes on where it was.
"""

from __future__ import annotations

import errno
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import dspy
from dspy.utils.exceptions import DSPyError

from .collection import Collection
from .config import GatesConfig, GenerateConfig
from .encoder import Encoder, Progress
from .errors import BackendError, SynegError
from .gates import UNPARSEABLE, encoder_gates, text_gates
from .ledger import Task, task
from .lms import Writer, key_hint, one_line
from .mining import scores_of
from .records import GateVerdict, HardNegative, Pair

_MAX_FAILURES_IN_A_ROW = 8
_HOPELESS_AFTER = 12
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
_PROGRAM_ERRORS = (DSPyError, ValueError, TypeError, LookupError, AttributeError)


class Space(Protocol):
    """Where attributes come from."""

    def sample(self, *, seed: int, place: int) -> dict[str, str]:
        """Attributes of the `place`-th negative."""


@dataclass(frozen=True, slots=True)
class Draft:
    """One try: the negative (an empty text when there is none) and what the gates say so far."""

    pair: Pair
    negative: HardNegative
    verdict: GateVerdict

    def row(self) -> dict[str, Any]:
        """As a line of negatives.jsonl."""
        verdict = asdict(self.verdict)
        return {
            "query_id": self.pair.query_id, "query": self.pair.query, "doc_id": self.pair.doc_id,
            "accepted": self.verdict.accepted, **verdict, **asdict(self.negative),
        }  # fmt: skip


@dataclass
class _Health:
    """Stops a run that cannot come to anything."""

    model: str
    failures: int = 0
    done: int = 0
    usable: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    sample: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def failed(self, error: BaseException) -> None:
        with self.lock:
            self.failures += 1
            if self.failures >= _MAX_FAILURES_IN_A_ROW:
                hint = "" if self.model.startswith("local/") else key_hint(self.model)
                raise BackendError(
                    f"the LM {self.model!r} failed {self.failures} times in a row, last: {one_line(error)}",
                    todo=f"{hint or 'check the endpoint (--api-base), the network and the model name'}; then run the same command again",
                ) from error

    def answered(self) -> None:
        with self.lock:
            self.failures = 0

    def finished(self, drafts: Sequence[Draft]) -> None:
        with self.lock:
            self.done += 1
            self.usable += any(draft.verdict.accepted for draft in drafts)
            self.reasons.update(draft.verdict.reason for draft in drafts if draft.verdict.reason)
            self.sample = next((draft.negative.text for draft in drafts if draft.negative.text), self.sample)
            if self.done >= _HOPELESS_AFTER and not self.usable:
                reasons = ", ".join(f"{reason} {count}" for reason, count in self.reasons.most_common())
                shown = f", such as {self.sample[:60]!r}" if self.sample else ""
                raise BackendError(
                    f"nothing that {self.model!r} wrote for the first {self.done} pairs is usable ({reasons}{shown})",
                    todo="try another --lm, --program or lm.adapter",
                )


def generate(
    pairs: Sequence[Pair],
    program: dspy.Module,
    writer: Writer,
    *,
    definition: str,
    space: Space,
    collection: Collection,
    candidates: Mapping[str, Sequence[str]],
    config: GenerateConfig,
    gates: GatesConfig,
    seed: int,
    progress: Progress | None = None,
) -> list[Draft]:
    """Write `config.per_pair` negatives for each pair, in the order of the pairs; every try is a draft.

    `candidates[query_id]` are texts of mined negatives, for programs that rewrite one. Raises BackendError when the LM
    keeps failing or nothing is usable; what was answered until then is in the ledger.
    """
    model = writer.engine.config.model
    health = _Health(model)

    def work(place: int) -> list[Draft]:
        pair = pairs[place // config.per_pair]
        attributes = space.sample(seed=seed, place=place)
        positives = [collection.passages[doc_id] for doc_id in sorted(collection.relevant(pair.query_id))]
        ask = {
            "query": pair.query, "positive": _cut(pair.positive, config.passage_words), "task": definition, "attributes": attributes,
            "candidates": tuple(candidates.get(pair.query_id, ())),
        }  # fmt: skip
        drafts: list[Draft] = []
        for attempt in range(config.attempts):
            number = (place % config.per_pair) * config.attempts + attempt
            with task(pair.query_id, number) as current, dspy.context(lm=writer.lm, adapter=writer.adapter):
                tries = _try(program, ask, current, health)
            tries = [_with_costs(negative, current, attempt, writer.identity) for negative in tries]
            new = [Draft(pair, n, text_gates(n, pair.query, positives, gates)) for n in tries if n.text]
            new += [Draft(pair, n, GateVerdict(UNPARSEABLE)) for n in tries if not n.text]
            drafts += new
            if any(draft.verdict.accepted for draft in new):
                break
        health.finished(drafts)
        return drafts

    total = len(pairs) * config.per_pair
    results: dict[int, list[Draft]] = {}
    for place, drafts in _in_threads(work, total, writer.engine.config.concurrency):
        results[place] = drafts
        if progress:
            progress(len(results), total)
    return [draft for place in sorted(results) for draft in results[place]]


def _try(program: dspy.Module, ask: dict[str, Any], current: Task, health: _Health) -> list[HardNegative]:
    """One attempt; a failure is one empty negative, whose calls say what happened."""
    try:
        negatives = list(program(**ask).negatives)
    except SynegError:
        raise
    except _PROGRAM_ERRORS as error:
        _raise_what_ends_a_run(error)
        if current.calls:  # the LM answered, the answer was no good
            health.answered()
        else:
            health.failed(error)
        return [
            HardNegative("", program=type(program).__name__, attributes=ask["attributes"], reasoning=one_line(error))
        ]
    health.answered()
    return negatives or [HardNegative("", program=type(program).__name__, attributes=ask["attributes"])]


def _raise_what_ends_a_run(error: BaseException) -> None:
    """DSPy wraps whatever an engine raises; our own errors and a disk that cannot be written to are not the LM's."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, SynegError) or (isinstance(cause, OSError) and cause.errno in _DISK_ERRORS):
            raise cause
        cause = cause.__cause__ or cause.__context__


def _cut(text: str, words: int) -> str:
    found = text.split()
    return text if len(found) <= words else " ".join([*found[:words], "…"])


def _with_costs(negative: HardNegative, current: Task, attempt: int, lm: str) -> HardNegative:
    calls = current.calls
    usd = None if any(call.usd is None for call in calls) else sum(call.usd or 0.0 for call in calls)
    return replace(
        negative,
        text=" ".join(str(negative.text).split()),
        lm=lm,
        calls=tuple(call.key for call in calls),
        finish_reason="length" if any(call.finish_reason == "length" for call in calls) else "stop",
        attempt=attempt,
        input_tokens=sum(call.input_tokens for call in calls),
        output_tokens=sum(call.output_tokens for call in calls),
        usd=usd,
    )


def _in_threads(work: Callable[[int], list[Draft]], total: int, threads: int) -> Iterator[tuple[int, list[Draft]]]:
    """Yield results as they come; never more than twice `threads` jobs are under way; the first error ends all."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="generate")
    jobs: dict[Future[list[Draft]], int] = {}
    places = iter(range(total))
    try:
        while True:
            while len(jobs) < 2 * threads and (place := next(places, None)) is not None:
                jobs[pool.submit(work, place)] = place
            if not jobs:
                return
            done, _ = wait(jobs, return_when=FIRST_COMPLETED)
            for job in done:
                yield jobs.pop(job), job.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def judge(drafts: Sequence[Draft], collection: Collection, encoder: Encoder, gates: GatesConfig) -> list[Draft]:
    """Apply the gates that need the encoder to the drafts that passed those on text."""
    passed = [draft for draft in drafts if draft.verdict.accepted]
    if not passed:
        return list(drafts)
    scored = scores_of(encoder, [draft.pair for draft in passed], [[draft.negative.text] for draft in passed])
    texts = encoder.encode([draft.negative.text for draft in passed], "passage")
    verdicts: dict[int, GateVerdict] = {}
    for draft, (to_query, positive_to_query), vector in zip(passed, scored, texts, strict=True):
        relevant = [collection.passages[doc_id] for doc_id in sorted(collection.relevant(draft.pair.query_id))]
        to_positive = float((encoder.encode(relevant, "passage") @ vector).max())
        verdict = encoder_gates(float(to_query[0]), positive_to_query, to_positive, gates)
        figures = {**draft.verdict.figures, **verdict.figures}
        verdicts[id(draft)] = replace(verdict, figures=figures)
    return [replace(draft, verdict=verdicts.get(id(draft), draft.verdict)) for draft in drafts]
