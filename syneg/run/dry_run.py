"""What a run would ask of its LMs, without asking: calls, tokens, dollars and minutes, each from least to most.

    estimate(workspace) → [Part("generate", calls=(40, 80), input_tokens=(31000, 62000), output_tokens=(2900, 25600), …), …]

Real prompts of a sample of the pairs are rendered and counted (by litellm's tokenizer for the model, or a common one).
Least is one call of each step for each pair, with answers as long as those in the ledger, or else half as long as the
positives; most is every attempt with answers as long as there is room for. Nothing is read from the ledger as done: a
run that goes on asks less.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from syneg.core.config import Config
from syneg.core.records import MinedNegative, Pair
from syneg.core.storage import read_rows
from syneg.core.text import cut, word_count
from syneg.data.tasks import task_for
from syneg.llm.prices import dollars
from syneg.llm.roles import GRADES_WORDS, reader_settings
from syneg.llm.room import room_for
from syneg.negatives.assignment import Assignment
from syneg.negatives.prompts import as_text, record
from syneg.negatives.reading import passages_in_a_list
from syneg.programs import GradeList, load_program
from syneg.programs.grade_list import SHOWN_WORDS

from .arms import arms
from .negative_sets import SMALL_PROGRAM, STRONG_PROGRAM
from .workspace import Workspace

_SAMPLE, _CANDIDATES, _STRENGTH_CALLS = 16, 12, 8
_AROUND, _GRADE = 300, 25  # tokens of query, task and layout, and of one grade
Range = tuple[float, float]


@dataclass(frozen=True)
class Part:
    """One use of LMs; `usd` is None where the price is not known, `minutes` where no call was timed yet."""

    name: str
    calls: Range
    input_tokens: Range
    output_tokens: Range
    usd: Range | None
    minutes: Range | None


def estimate(workspace: Workspace) -> list[Part]:
    """The parts of a run with its settings, and their sum as the last one."""
    config = workspace.config
    parts = list(_parts(workspace, config))
    if not parts:
        return []
    calls, reads, writes = (
        _sum([getattr(part, name) for part in parts]) for name in ("calls", "input_tokens", "output_tokens")
    )
    usd = None if any(part.usd is None for part in parts) else _sum([part.usd for part in parts if part.usd])
    minutes = (
        None if any(part.minutes is None for part in parts) else _sum([part.minutes for part in parts if part.minutes])
    )
    whole = Part("in all", calls, reads, writes, usd, minutes)
    return [*parts, whole]


def _parts(workspace: Workspace, config: Config) -> Iterator[Part]:
    rows = list(read_rows(workspace.folder.ledger))
    yield from _reading(workspace, config, rows)
    if config.generate.given:
        return
    timed = _Timed(rows, config)
    name = config.generate.program
    if name == "auto":
        name = SMALL_PROGRAM if config.lm.model.startswith("local/") else STRONG_PROGRAM
        yield timed.part("test of strength", (0, _STRENGTH_CALLS), 500, 60)
    pairs = workspace.pairs_to_write
    prompts = _prompts(workspace, name, pairs)
    steps, tokens = len(prompts[0]), float(np.mean([sum(counts) for counts in prompts])) / len(prompts[0])
    answer = 0.5 * 1.4 * float(np.mean([min(word_count(p.positive), config.generate.passage_words) for p in pairs]))
    attempts = config.generate.attempts * config.generate.per_pair
    if config.compile.optimizer != "none":
        yield timed.part("compile", (config.compile.calls / 4, config.compile.calls), tokens, answer)
        yield timed.part("confirm", (steps * len(pairs), 2 * steps * len(pairs) * attempts), tokens, answer)
    yield timed.part(f"generate by {name}", (steps * len(pairs), steps * len(pairs) * attempts), tokens, answer)
    near = workspace.boundary_queries
    if near:
        yield timed.part("near-misses", (steps * near, steps * near * config.generate.attempts), tokens, answer)
    if config.judge.use != "off":
        most = config.judge.sample + len(pairs) * config.generate.per_pair
        yield timed.part("judge", (0 if config.judge.use == "auto" else config.judge.sample, 2 * most), tokens / 2, 30)


def _reading(workspace: Workspace, config: Config, rows: Sequence[dict[str, object]]) -> Iterator[Part]:
    """Measuring the reader, and one call for each train query where it is trusted."""
    import litellm

    reader, lm = config.reader, reader_settings(config)
    by_lm = not (reader.given or reader.cross_encoder or reader.use == "off")
    asked = reader.use == "on" or not lm.model.startswith("local/")
    if not by_lm or not asked or not any(arm.reads for arm in arms(config)):
        return
    count = passages_in_a_list(reader, lm.model)
    texts = list(workspace.collection.passages.values())
    shown = random.Random(f"{config.seed}:dry").sample(texts, min(count, len(texts)))
    told = " ".join([GradeList().grade.signature.instructions, *(cut(text, SHOWN_WORDS) for text in shown)])
    tokens = litellm.token_counter(model=lm.model, text=told) + _AROUND
    measured = min(reader.sample, len(workspace.collection.splits["dev"]))
    pairs = min(reader.pairs or len(workspace.pairs), len(workspace.pairs))
    timed = _Timed(rows, config.model_copy(update={"lm": lm}), words=GRADES_WORDS)
    least = 0 if reader.use == "auto" else pairs
    yield timed.part("measure the reader", (measured, 2 * measured), tokens, count * _GRADE)
    yield timed.part("read", (least, 2 * pairs), tokens, count * _GRADE)


def _prompts(workspace: Workspace, name: str, pairs: Sequence[Pair]) -> list[list[int]]:
    """For each pair of a sample the tokens of each call."""
    import litellm

    config, draw = workspace.config, random.Random(f"{workspace.config.seed}:dry")
    program = load_program(name)
    texts = list(workspace.collection.passages.items())
    sample = draw.sample(list(pairs), min(_SAMPLE, len(pairs)))
    near = {
        pair.query_id: [
            MinedNegative(d, text, "dense", 1, 0.0) for d, text in draw.sample(texts, min(_CANDIDATES, len(texts)))
        ]
        for pair in sample
    }
    assignment = Assignment(sample, near, task_for(config), config, name, program)
    found = []
    for place in range(len(sample)):
        asked = assignment.ask(place)
        sent = record(program, config, asked)
        found.append([litellm.token_counter(model=config.lm.model, text=as_text(request)) for request in sent])
    return found


class _Timed:
    """Parts, with what the calls of a ledger took."""

    def __init__(self, rows: Sequence[dict[str, object]], config: Config, words: int = 0) -> None:
        """`words` are those of an answer, where it is no passage."""
        self._config, self._words = config, words or config.generate.passage_words
        model = f"{config.lm.model}@"
        self._rows = [row for row in rows if row["error"] is None and str(row["model"]).startswith(model)]

    def part(self, name: str, calls: Range, tokens: float, answer: float) -> Part:
        """`tokens` a call reads and `answer` it writes at least; the ledger's mean where there is one."""
        lm = self._config.lm
        written = [float(row["output_tokens"]) for row in self._rows]  # type: ignore[arg-type]
        most = room_for(lm, self._words)
        low = min(float(np.mean(written)) if written else answer, most)
        reads, writes = (calls[0] * tokens, calls[1] * tokens), (calls[0] * low, calls[1] * most)
        usd = [dollars(lm.model, int(r), int(w)) for r, w in zip(reads, writes, strict=True)]
        seconds = [float(row["seconds"]) for row in self._rows]  # type: ignore[arg-type]
        minutes = None
        if seconds:
            waits = np.quantile(seconds, [0.25, 0.75]) / lm.concurrency / 60
            slowest = [c / lm.max_rpm for c in calls] if lm.max_rpm else [0.0, 0.0]
            minutes = max(calls[0] * float(waits[0]), slowest[0]), max(calls[1] * float(waits[1]), slowest[1])
        return Part(name, calls, reads, writes, None if usd[0] is None or usd[1] is None else (usd[0], usd[1]), minutes)


def _sum(ranges: Sequence[Range]) -> Range:
    return sum(low for low, _ in ranges), sum(high for _, high in ranges)


def table(parts: Sequence[Part]) -> str:
    """For a terminal of 80 columns."""
    if not parts:
        return "no LM would be called"
    lines = [f"{'':28s} {'calls':>13s} {'tokens in':>13s} {'out':>13s} {'USD':>9s}"]
    for part in parts:
        usd = "unknown" if part.usd is None else _range(part.usd, money=True)
        cells = [_range(part.calls), _range(part.input_tokens), _range(part.output_tokens)]
        lines.append(f"{part.name[:28]:28s} {cells[0]:>13s} {cells[1]:>13s} {cells[2]:>13s} {usd:>9s}")
    minutes = parts[-1].minutes
    lines.append(
        f"minutes: {_range(minutes)}" if minutes else "minutes: known after the first calls of this run folder"
    )
    return "\n".join(lines)


def _range(pair: Range, *, money: bool = False) -> str:
    low, high = (_short(value, money=money) for value in pair)
    return low if low == high else f"{low}-{high}"


def _short(value: float, *, money: bool) -> str:
    if money:
        return f"{value:.2f}"
    return f"{value / 1e6:.1f}M" if value >= 1e6 else f"{value / 1e3:.0f}k" if value >= 1e4 else f"{value:.0f}"
