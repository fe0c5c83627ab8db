"""Generation: a program over pairs, in threads, until every pair has its negatives or a recorded reason.

    generate(pairs, program, writer, …) → [Draft(pair, HardNegative("Shut down one half …"), GateVerdict("")), …]

One bad pair never stops a run. A pair whose prompt the endpoint refuses for its text (a content filter, a firewall, too
long) is a row with that reason and is not asked again. A pair whose answer cannot be parsed or fails a gate on its text
is asked again, as a new attempt and never at temperature 0, up to `attempts` times for each negative wanted; each try
is a row. When the LM fails again and again, or nothing that it says is usable, the run stops, with everything kept: the
same command goes on.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import dspy

from syneg.core.config import GatesConfig, GenerateConfig
from syneg.core.errors import ConfigError, UnusableError, one_line
from syneg.core.progress import Tick
from syneg.core.records import GateVerdict, HardNegative, MinedNegative, Pair
from syneg.core.text import cut, plain_text, word_count
from syneg.data.collection import Collection
from syneg.data.corpus_profile import CorpusProfile
from syneg.llm.calls import CallPurpose, in_threads, purpose, reraise_fatal
from syneg.llm.lms import LanguageModel

from .gates import REFUSED, UNPARSEABLE, GateContext, text_gates

_HOPELESS_AFTER = 12
_REFUSED = "refused"  # finish_reason of such a call in the ledger


class Space(Protocol):
    """Where attributes come from."""

    def sample(self, *, seed: int, place: int, sibling: int = 0) -> dict[str, str]:
        """Attributes for the `place`-th pair and its `sibling`-th negative."""


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
    done: int = 0
    usable: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    sample: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def finished(self, drafts: Sequence[Draft]) -> None:
        if all(draft.verdict.reason == REFUSED for draft in drafts):
            return  # says nothing of the LM
        with self.lock:
            self.done += 1
            self.usable += any(draft.verdict.accepted for draft in drafts)
            self.reasons.update(draft.verdict.reason for draft in drafts if draft.verdict.reason)
            self.sample = next(
                (d.negative.text or d.negative.reasoning for d in drafts if not d.verdict.accepted), self.sample
            )
            if self.done >= _HOPELESS_AFTER and not self.usable:
                reasons = ", ".join(f"{reason} {count}" for reason, count in self.reasons.most_common())
                shown = f", such as {self.sample[:60]!r}" if self.sample else ""
                raise UnusableError(
                    f"nothing that {self.model!r} wrote for the first {self.done} pairs is usable ({reasons}{shown})",
                    todo="try another --lm, --program or lm.adapter",
                )


def generate(
    pairs: Sequence[Pair],
    program: dspy.Module,
    writer: LanguageModel,
    *,
    definition: str,
    space: Space,
    collection: Collection,
    candidates: Mapping[str, Sequence[MinedNegative]],
    profile: CorpusProfile | None,
    config: GenerateConfig,
    gates: GatesConfig,
    seed: int,
    progress: Tick | None = None,
) -> list[Draft]:
    """Write `config.per_pair` negatives for each pair, in the order of the pairs; every try is a draft.

    `candidates[query_id]` are mined negatives, for programs that rewrite one; each call gets them from another one on.
    Raises BackendError when the LM keeps failing or nothing is usable; what was answered until then is in the ledger.
    """
    health = _Health(writer.engine.config.model)

    def work(place: int) -> list[Draft]:
        pair = pairs[place]
        positives = collection.relevant_texts(pair.query_id)
        mined = candidates.get(pair.query_id, ())
        drafts: list[Draft] = []
        for attempt in range(config.attempts * config.per_pair):
            accepted = [draft.negative.text for draft in drafts if draft.verdict.accepted]
            ask = ask_for(
                pair, place, config, definition, space, mined, seed=seed, attempt=attempt, accepted=len(accepted)
            )
            with (
                purpose(pair.query_id, attempt) as current,
                dspy.context(lm=writer.lm_for(attempt, len(ask["attributes"])), adapter=writer.adapter),
            ):
                tries = _try(program, ask)
            for negative in _with_costs(tries, current, attempt, writer.identity):
                parent = next((n.text for n in ask["candidates"] if n.doc_id == negative.parent_doc_id), None)
                context = GateContext(
                    pair.query, positives, tuple(accepted), parent, word_count(ask["positive"]), profile
                )
                nothing = GateVerdict(REFUSED if negative.finish_reason == _REFUSED else UNPARSEABLE)
                verdict = text_gates(negative, context, gates) if negative.text else nothing
                drafts.append(Draft(pair, negative, verdict))
                accepted += [negative.text] if verdict.accepted else []
            if len(accepted) >= config.per_pair or drafts[-1].verdict.reason == REFUSED:
                break
        health.finished(drafts)
        return drafts

    results: dict[int, list[Draft]] = {}
    for place, drafts in in_threads(work, len(pairs), writer.engine.config.concurrency):
        results[place] = drafts
        if progress:
            progress(len(results), len(pairs))
    return [draft for place in sorted(results) for draft in results[place]]


def ask_for(
    pair: Pair,
    place: int,
    config: GenerateConfig,
    definition: str,
    space: Space,
    mined: Sequence[MinedNegative],
    *,
    seed: int,
    attempt: int = 0,
    accepted: int = 0,
) -> dict[str, Any]:
    """The inputs of a program for the `place`-th pair, of which `accepted` negatives are there already."""
    shown = [replace(n, text=cut(n.text, config.passage_words)) for n in mined]
    turn = (attempt + accepted) % len(shown) if shown else 0
    return {
        "query": pair.query, "positive": cut(pair.positive, config.passage_words), "task": definition,
        "candidates": (*shown[turn:], *shown[:turn]),
        "attributes": tuple(space.sample(seed=seed, place=place, sibling=i) for i in range(accepted, config.per_pair)),
    }  # fmt: skip


def _try(program: dspy.Module, ask: dict[str, Any]) -> list[HardNegative]:
    """One attempt; a failure is one empty negative, whose calls say what happened.

    A program may be the user's own code, so whatever it raises is a failure of this attempt.
    """
    try:
        negatives = _checked(program(**ask), program)
    except Exception as error:  # noqa: BLE001 the boundary to code that is not ours
        reraise_fatal(error)
        return [_nothing(program, ask, one_line(error))]
    return negatives[: len(ask["attributes"])] or [_nothing(program, ask, "the program returned no negative")]


def _checked(said: Any, program: dspy.Module) -> list[HardNegative]:
    negatives = getattr(said, "negatives", None)
    if not isinstance(negatives, (list, tuple)) or not all(
        isinstance(one, HardNegative) and isinstance(one.attributes, Mapping | None) for one in negatives
    ):
        raise ConfigError(
            f"the program {type(program).__name__} returned {' '.join(repr(said).split())[:120]}",
            todo="return dspy.Prediction(negatives=[HardNegative(text=…, program=…), …]), as docs/programs.md shows",
        )
    return list(negatives)


def _nothing(program: dspy.Module, ask: dict[str, Any], why: str) -> HardNegative:
    return HardNegative("", program=type(program).__name__, attributes=ask["attributes"][0], reasoning=why)


def _with_costs(negatives: Sequence[HardNegative], current: CallPurpose, attempt: int, lm: str) -> list[HardNegative]:
    """What an attempt cost, shared evenly by its negatives (what does not divide goes to the first)."""
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
            finish_reason=next((reason for reason in (_REFUSED, "length") if reason in reasons), "stop"),
            attempt=attempt,
            input_tokens=share(sum(call.input_tokens for call in calls), place),
            output_tokens=share(sum(call.output_tokens for call in calls), place),
            usd=None if usd is None else usd / n,
        )
        for place, negative in enumerate(negatives)
    ]
