"""Outcome of a compilation: compiled.json as a record, and as Markdown for people.

Outcome.from_json(read_json(folder.compiled())).confirmed
  → Confirmed(candidate=3, mean=(.412, .405), delta=.007, error=.003, queries=76)
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

import dspy
import numpy as np
from pydantic import TypeAdapter, ValidationError

from syneg.core.errors import DataError
from syneg.core.storage import JsonObject, read_json, write_json, write_text
from syneg.optimizers import Candidate
from syneg.programs import program_markdown, state_of
from syneg.retrieval.metrics import MAIN_METRIC
from syneg.verdict.records import Interval
from syneg.verdict.statistics import detectable, paired_interval

from .folder import RunFolder


@dataclass(frozen=True)
class CandidateRow:
    """One candidate program.

    `critic` is the mean value of its answers to `pairs` examples. `gain` is its nDCG@10 minus that of the
    target's baseline, `error` the standard error of the gain. `figures` maps further scores to (mean, standard error).
    A candidate without a score has None, None and {}. `copies` is a phrase of the examples that its instructions
    repeat, or "". `demos` counts the demos of each predictor.
    """

    number: int
    critic: float
    pairs: int
    gain: float | None
    error: float | None
    copies: str
    instructions: Mapping[str, str]
    demos: Mapping[str, int]
    figures: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    origin: str = ""
    stopped: str = ""

    @classmethod
    def of(cls, candidate: Candidate, copies: str) -> CandidateRow:
        score, predictors = candidate.score, candidate.program.named_predictors()
        return cls(
            candidate.number, round(candidate.mean, 4), len(candidate.answers),
            round(score.gain, 5) if score else None, round(score.error, 5) if score else None, copies,
            {name: predictor.signature.instructions for name, predictor in predictors},
            {name: len(predictor.demos) for name, predictor in predictors},
            {name: (round(mean, 4), round(error, 4)) for name, (mean, error) in score.figures.items()} if score else {},
            candidate.origin, candidate.stopped,
        )  # fmt: skip


@dataclass(frozen=True)
class Confirmed:
    """Comparison of the best candidate with the first program on `queries` queries that no proposal has seen.

    `mean` is nDCG@10 with the candidate and with the first program. `delta` is their paired difference, `error` its
    standard error, `interval` its 95 % interval. `detectable` is the smallest difference that this number of queries
    shows with power .8. `how` names what was ranked. `strict` requires an interval above 0 for a win.
    """

    candidate: int
    mean: tuple[float, float]
    delta: float
    error: float
    queries: int
    interval: Interval | None = None
    detectable: float | None = None
    how: str = "full training, confirm split"
    strict: bool = False

    @classmethod
    def of(
        cls,
        candidate: int,
        best: Mapping[str, float],
        first: Mapping[str, float],
        how: str = "",
        *,
        strict: bool = False,
    ) -> Confirmed:
        """Make it from query_id → nDCG@10 with the candidate (`best`) and with the first program (`first`)."""
        ids = sorted(best)
        deltas = [best[query_id] - first[query_id] for query_id in ids]
        error = float(np.std(deltas, ddof=1) / np.sqrt(len(deltas))) if len(deltas) > 1 else float("nan")
        means = float(np.mean([best[q] for q in ids])), float(np.mean([first[q] for q in ids]))
        return cls(
            candidate, means, float(np.mean(deltas)), error, len(ids), paired_interval(deltas),
            detectable(deltas, 0.05), how or cls.how, strict,
        )  # fmt: skip

    @property
    def wins(self) -> bool:
        """Whether the candidate wins: `delta` is above `error`, or, if `strict`, the whole interval is above 0."""
        if self.strict:
            return self.interval is not None and self.interval[0] > 0
        return self.delta > self.error

    def __str__(self) -> str:
        text = f"{self.delta:+.4f} ± {self.error:.4f}"
        if self.interval is not None:
            text += f" [{self.interval[0]:+.4f}, {self.interval[1]:+.4f}]"
        text += f", {self.queries} queries"
        return text if self.detectable is None else f"{text}, which would have shown {self.detectable:.4f}"


@dataclass(frozen=True)
class Outcome:
    """The content of compiled.json.

    `state` is the winner's state, and `won` says whether the winner is a candidate. `used` is what the budget counted.
    `stopped` says why the recipe ended early, or "". `confirmed` is None if nothing was compared. `baseline`
    names what gains are measured against, `second` the second score of the candidates.
    """

    program: str
    optimizer: str
    state: Mapping[str, Any]
    won: bool
    confirmed: Confirmed | None
    stopped: str
    used: Mapping[str, float]
    candidates: tuple[CandidateRow, ...]
    target: str = "writer"
    baseline: str = "mined alone"
    second: str = ""

    def to_json(self) -> JsonObject:
        """Return plain data for compiled.json; `confirmed` is {} in place of None."""
        return {**asdict(self), "confirmed": asdict(self.confirmed) if self.confirmed else {}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outcome:
        """Read the data of compiled.json. Raises DataError for other data."""
        try:
            return _adapter().validate_python({**data, "confirmed": data.get("confirmed") or None})
        except ValidationError as error:
            first = error.errors()[0]
            raise DataError(
                f"no outcome of a compilation: {'.'.join(map(str, first['loc']))}: {first['msg']}",
                todo="remove compiled.json and run the command again",
            ) from error

    def summary(self) -> JsonObject:
        """Return the fields that the manifest of program.json repeats."""
        data = self.to_json()
        return {key: data[key] for key in ("optimizer", "won", "confirmed", "used", "stopped")}

    def markdown(self, before: dspy.Module, after: dspy.Module) -> str:
        """Describe the compilation: the confirmation, a diff of each prompt, and all candidates with their scores."""
        lines = [f"# Compiled by {self.optimizer}", ""]
        if self.confirmed:
            best, first = self.confirmed.mean
            how = self.confirmed.how[0].upper() + self.confirmed.how[1:]
            lines.append(
                f"{how}: {MAIN_METRIC} {best:.4f} with candidate {self.confirmed.candidate}, "
                f"the best, {first:.4f} with the program as it was ({self.confirmed})."
            )
        stays = "The program stays as it was"
        if self.confirmed and self.confirmed.strict:
            stays += ": no difference is shown; it takes a lead whose interval lies over 0"
        elif self.confirmed:
            stays += ": it takes a lead of more than the standard error"
        stays += "."
        lines += ["The candidate replaces the program." if self.won else stays, ""]
        old = {name: p.signature.instructions for name, p in before.named_predictors()}
        for name, predictor in after.named_predictors():
            new = predictor.signature.instructions
            diff = difflib.unified_diff(old[name].splitlines(), new.splitlines(), "before", "after", lineterm="")
            text = "\n".join(diff)
            lines += [f"## {name}", "", f"```diff\n{text}\n```" if text else "The instruction is as it was.", ""]
        return "\n".join([*lines, *self._table()]) + "\n"

    def _on_front(self, row: CandidateRow) -> bool:
        """Whether `row` is on the Pareto front of gain and second score, among the scored candidates."""

        def figures(one: CandidateRow) -> tuple[float, float] | None:
            return None if one.gain is None else (one.gain, one.figures.get(self.second, (0.0, 0.0))[0])

        own = figures(row)
        others = [other for one in self.candidates if (other := figures(one)) is not None]
        return own is not None and not any(
            other != own and other[0] >= own[0] and other[1] >= own[1] for other in others
        )

    def _table(self) -> list[str]:
        names = list(dict.fromkeys(name for row in self.candidates for name in row.figures))
        heads = ["number", "value", "examples", f"nDCG@10 over {self.baseline}", *names, "none better", "copies"]
        lines = ["## Candidates", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for row in self.candidates:
            figures = {name: f"{mean:+.3f} ± {error:.3f}" for name, (mean, error) in row.figures.items()}
            gain = "" if row.gain is None else f"{row.gain:+.4f} ± {row.error:.4f}"
            cells = [str(row.number), f"{row.critic:.3f}", str(row.pairs), gain]
            cells += [*(figures.get(name, "") for name in names), "*" if self._on_front(row) else "", row.copies]
            lines.append(f"| {' | '.join(cells)} |")
        for row in self.candidates:
            lines += ["", f"### Candidate {row.number}", ""]
            why = [
                row.origin,
                row.stopped and f"stopped: {row.stopped}",
                row.copies and f"not used: it repeats {row.copies!r}",
            ]
            lines += [f"{'; '.join(filter(None, why))}.", ""] if any(why) else []
            for name, text in row.instructions.items():
                lines += [f"{name} ({row.demos[name]} demos):", "", *(f"> {line}" for line in text.splitlines()), ""]
        return lines


def save_program(
    folder: RunFolder, prefix: str, program: dspy.Module, name: str, adapter: str, before: dspy.Module | None = None
) -> None:
    """Write the state and the prompts of `program` to {prefix}program.json and {prefix}program.md.

    `before` is the program as its author wrote it. If it is given, both files also summarize {prefix}compiled.json.
    """
    saved, text = state_of(program, name, adapter), ""
    if before is not None:
        outcome = Outcome.from_json(read_json(folder.compiled(prefix)))
        saved["manifest"]["compiled"] = outcome.summary()
        text = outcome.markdown(before, program) + "\n"
    write_json(folder.program(prefix), saved)
    write_text(folder.prompts(prefix), text + program_markdown(program, name))


@cache
def _adapter() -> TypeAdapter[Outcome]:
    return TypeAdapter(Outcome)
