"""Estimate tokens, dollars and minutes of LM calls whose number is known.

    CallEstimates(config, rates).part("write single_prompt", config.lm, Figure(52, 80), Size(1, 600, 175))
      → Part("write single_prompt", "openai/gpt-4o-mini", calls=Figure(52, 80), reads=Figure(31_000, 48_000), …)

Tokens and seconds of a call come from the ledger if it has enough calls of the same use. If not, they come from the
size of rendered prompts and from assumptions, which `assumed` names.
"""

from __future__ import annotations

from syneg.core.config import Config, LMConfig
from syneg.llm.prices import dollars
from syneg.llm.room import is_reasoning_model, room_for, thinks

from .figures import NOTHING, Figure, Part
from .prompt_sizes import Size
from .rates import Rate, Rates

# Assumptions until a value is measured.
_SPEED, _EMBEDDED_SPEED = 60.0, 12.0  # tokens a second that one call writes
# Measured on two cores (docs/lab_notes.md). Prompts of one program share their beginning, so few tokens are read anew.
# Four calls side by side write 1.3 times as fast as one. Units: tokens a second; a factor.
_EMBEDDED_READ, _EMBEDDED_GAIN = 1000.0, 1.3
_EMBEDDED_LENGTH = 0.6  # share of the requested length that a small LLM writes (.53, .55 in two runs on python-docs)
_THOUGHTS = 800  # tokens that a reasoning model thinks for one answer


class CallEstimates:
    """Estimates for the LMs of one run. `rates` are those of its ledger."""

    def __init__(self, config: Config, rates: Rates) -> None:
        self._config, self._rates = config, rates
        self.assumed: dict[str, None] = {}

    def part(self, use: str, lm: LMConfig, calls: Figure, size: Size, answers: int = 1, words: int = 0) -> Part:
        """One use of an LM. Tokens and seconds of a call come from the ledger, else from `size` and assumptions."""
        rate = self._rates.find(use, lm.model)
        room = room_for(lm, words or self._config.generate.passage_words, answers)
        if rate is not None:
            reads, writes = rate.reads, rate.writes
        else:
            thoughts = _THOUGHTS if thinks(lm.model) or is_reasoning_model(lm.model) else 0
            length = size.writes * (_EMBEDDED_LENGTH if lm.model.startswith("local/") else 1.0)
            reads, writes = size.reads, min(length + thoughts, room)
            if calls.likely:
                self.assumed[f"a call for {use} reads {reads:.0f} tokens and writes {writes:.0f}"] = None
        tokens_in, tokens_out = calls.times(reads), calls.times(writes, max(room, writes))
        usd = [
            dollars(lm.model, round(read), round(written))
            for read, written in ((tokens_in.likely, tokens_out.likely), (tokens_in.most, tokens_out.most))
        ]
        priced = None if usd[0] is None or usd[1] is None else Figure(usd[0], usd[1])
        return Part(
            use, lm.model, calls, tokens_in, tokens_out, priced, self._minutes(lm, calls, (reads, writes), rate)
        )

    def _minutes(self, lm: LMConfig, calls: Figure, tokens: tuple[float, float], rate: Rate | None) -> Figure:
        """Minutes of `calls`, run `lm.concurrency` at a time and within `lm.max_rpm`. `tokens` are (read, written) by
        one call."""
        seconds, (reads, writes) = rate.seconds if rate is not None else 0.0, tokens
        if not seconds:
            each = self._rates.seconds_per_token(lm.model)
            seconds = writes * (each or 0.0)
            if each is None and calls.likely:
                seconds = self._assumed_seconds(lm, reads, writes)
        side_by_side = calls.times(seconds / lm.concurrency / 60)
        spaced = calls.times(1 / lm.max_rpm) if lm.max_rpm else NOTHING
        return Figure(max(side_by_side.likely, spaced.likely), max(side_by_side.most, spaced.most))

    def _assumed_seconds(self, lm: LMConfig, reads: float, writes: float) -> float:
        """Assumed seconds of one call while others run. Calls of an embedded LM share the CPU cores."""
        embedded = lm.model.startswith("local/")
        speed = _EMBEDDED_SPEED if embedded else _SPEED
        self.assumed[f"{lm.model} writes {speed:.0f} tokens a second"] = None
        if not embedded:
            return writes / speed
        alone = writes / speed + reads / _EMBEDDED_READ
        return alone * max(1.0, lm.concurrency / _EMBEDDED_GAIN)
