"""Generation: run a program on every pair, in threads, until each pair has its negatives or a recorded reason.

    write(assignment, gating, writer, progress)
      → [Draft(pair, HardNegative("Shut down one half …"), GateVerdict("")), …]

One bad pair never stops a run. Every attempt is recorded as a draft:
- If the endpoint refuses the prompt (content filter, firewall, too long), the pair is not tried again.
- If an answer cannot be parsed or fails a gate on its text, the pair is tried again, never at temperature 0, up to
  `generate.attempts` times for each negative wanted.
- If the LM keeps failing, or nothing that it writes is usable, the run stops. All answers are kept, and the same
  command continues from there.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import dspy

from syneg.core.errors import ConfigError, UnusableError
from syneg.core.progress import Progress, Tick
from syneg.core.records import Draft, HardNegative
from syneg.core.text import plain_text
from syneg.core.threads import in_order
from syneg.llm.calls import CallPurpose, attempted, purpose
from syneg.llm.lms import LanguageModel
from syneg.programs import name_of

from .assignment import Assignment
from .gates import REFUSED, REFUSED_CALL
from .gating import Gating

_HOPELESS_AFTER = 12  # pairs without one usable negative


@dataclass
class _Health:
    """Counts pairs, and stops the run when the first 12 of them have no usable negative."""

    model: str
    done: int = 0
    usable: int = 0
    rejected: list[Draft] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def finished(self, drafts: Sequence[Draft]) -> None:
        """Count the drafts of one pair. Raises UnusableError if nothing of the first pairs was usable."""
        if all(draft.verdict.reason == REFUSED for draft in drafts):
            return  # a refusal by the endpoint tells nothing about the LM
        with self.lock:
            self.done += 1
            self.usable += any(draft.accepted for draft in drafts)
            if self.usable:
                return
            self.rejected += drafts
            if self.done >= _HOPELESS_AFTER:
                raise UnusableError(
                    f"{self.model!r} wrote no usable negative for the first {self.done} pairs ({_why(self.rejected)})",
                    todo="try another --lm, --program or lm.adapter; --arms mined goes on without an LM",
                )


def _why(rejected: Sequence[Draft]) -> str:
    """How often each reason rejected a draft, and one of the rejected drafts."""
    counts = Counter(draft.verdict.reason for draft in rejected if draft.verdict.reason)
    sample = next(filter(None, (draft.negative.text or draft.negative.reasoning for draft in reversed(rejected))), "")
    reasons = ", ".join(f"{reason} {count}" for reason, count in counts.most_common())
    return reasons + (f", such as {sample[:60]!r}" if sample else "")


def write(assignment: Assignment, gating: Gating, writer: LanguageModel, progress: Progress) -> list[Draft]:
    """Write negatives for all pairs and apply all gates. Raises BackendError when an LM keeps failing."""
    with progress.stage("generate", "pairs") as line:
        drafts = generate(assignment, gating, writer, line)
        usable = sum(draft.accepted for draft in drafts)
        line.note = f"{len(drafts)} written by {assignment.name}, {usable} through the gates on text"
        if drafts and not usable:
            line.note += f" ({_why(drafts)})"
    return gating.rest(drafts, progress)


def generate(
    assignment: Assignment, gating: Gating, writer: LanguageModel, progress: Tick | None = None
) -> list[Draft]:
    """Write `generate.per_pair` negatives for each pair and apply the gates on text.

    Returns a draft for every attempt, in the order of the pairs. Raises BackendError when the LM keeps failing, and
    UnusableError when nothing is usable; the answers so far are in the ledger.
    """
    settings, pairs = assignment.config.generate, assignment.pairs
    health = _Health(writer.engine.config.model)

    def work(place: int) -> list[Draft]:
        drafts: list[Draft] = []
        for attempt in range(settings.attempts * settings.per_pair):
            accepted = [draft.negative.text for draft in drafts if draft.accepted]
            ask = assignment.ask(place, attempt, len(accepted))
            lm = writer.lm_for(attempt, len(ask["attributes"]))
            with dspy.context(lm=lm, adapter=writer.adapter), purpose(pairs[place].query_id, attempt) as current:
                negatives = answers_of(assignment.program, ask, current, writer.identity)
            drafts += gating.on_text(pairs[place], negatives, accepted)
            enough = sum(draft.accepted for draft in drafts) >= settings.per_pair
            if enough or drafts[-1].verdict.reason == REFUSED:
                break
        health.finished(drafts)
        return drafts

    written = in_order(work, range(len(pairs)), writer.engine.config.concurrency, progress)
    return [draft for drafts in written for draft in drafts]


def answers_of(
    program: dspy.Module | None, ask: Mapping[str, Any], current: CallPurpose, lm: str
) -> list[HardNegative]:
    """Run a program once, in DSPy's current context; return at least one negative, with its calls and costs.

    `current` is the purpose in force, `lm` the identity of the LM. A failed attempt gives one negative without text,
    whose `reasoning` tells why. Raises ConfigError for a program that returns anything but HardNegatives, and all
    errors that end the run, such as a spent budget.
    """
    assert program is not None, "no program writes if the negatives come from a file"
    return _with_costs(_try(program, ask), current, lm)


def _try(program: dspy.Module, ask: Mapping[str, Any]) -> list[HardNegative]:
    """Run the program once; a failure gives one empty negative."""
    prediction, failed = attempted(program, ask)
    if failed:
        return [_nothing(program, ask, failed)]
    negatives = _checked(prediction, program)
    return negatives[: len(ask["attributes"])] or [_nothing(program, ask, "the program returned no negative")]


def _checked(prediction: Any, program: dspy.Module) -> list[HardNegative]:
    """The negatives of a prediction. Raises ConfigError if a program returned anything else."""
    negatives = getattr(prediction, "negatives", None)
    if not isinstance(negatives, (list, tuple)) or not all(
        isinstance(negative, HardNegative) and isinstance(negative.attributes, Mapping | None) for negative in negatives
    ):
        raise ConfigError(
            f"the program {type(program).__name__} returned {' '.join(repr(prediction).split())[:120]}",
            todo="return dspy.Prediction(negatives=[HardNegative(text=…, program=…), …]), as docs/programs.md shows",
        )
    return list(negatives)


def _nothing(program: dspy.Module, ask: Mapping[str, Any], why: str) -> HardNegative:
    """A negative without text, which says why there is none."""
    return HardNegative("", program=name_of(program), attributes=ask["attributes"][0], reasoning=why)


def _with_costs(negatives: Sequence[HardNegative], current: CallPurpose, lm: str) -> list[HardNegative]:
    """The negatives with their share of the attempt's cost: equal parts, the remainder of the tokens to the first."""
    calls, n = current.calls, len(negatives)
    reasons = {call.finish_reason for call in calls}
    usd = None if any(call.usd is None for call in calls) else sum(call.usd or 0.0 for call in calls)

    def share(total: int, place: int) -> int:
        return total // n + (total % n if place == 0 else 0)

    return [
        replace(
            negative,
            text=plain_text(str(negative.text or "")),
            attributes={str(key): str(value) for key, value in (negative.attributes or {}).items()},
            lm=lm,
            calls=tuple(call.key for call in calls),
            prompt=calls[-1].prompt if calls else "",
            finish_reason=next((reason for reason in (REFUSED_CALL, "length") if reason in reasons), "stop"),
            attempt=current.attempt,
            input_tokens=share(sum(call.input_tokens for call in calls), place),
            output_tokens=share(sum(call.output_tokens for call in calls), place),
            usd=None if usd is None else usd / n,
        )
        for place, negative in enumerate(negatives)
    ]
