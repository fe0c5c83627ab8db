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
from pydantic import TypeAdapter, ValidationError

from syneg.core.errors import DataError
from syneg.core.storage import JsonObject, read_json, write_json, write_text
from syneg.optimizers import Candidate
from syneg.programs import program_markdown, state_of
from syneg.retrieval.metrics import mean_and_error
from syneg.verdict.compilation import front, unchanged
from syneg.verdict.compiling_cost import cost, curve
from syneg.verdict.confirmed import Confirmed

from .folder import RunFolder


@dataclass(frozen=True)
class CandidateRow:
    """One candidate program.

    `critic` is the mean value of its answers to `pairs` examples, `critic_error` its standard error. `gain` is its gain
    over the target's baseline, `error` the standard error of that. `figures` maps further scores to (mean, standard
    error). A candidate without a score has None, None and {}. `copies` is a phrase of the examples that its
    instructions repeat, or "". `demos` counts the demos of each predictor.
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
    refused: str = ""
    critic_error: float = 0.0

    @classmethod
    def of(cls, candidate: Candidate, copies: str) -> CandidateRow:
        score, predictors = candidate.score, candidate.program.named_predictors()
        return cls(
            candidate.number, round(candidate.mean, 4), len(candidate.answers),
            round(score.gain, 5) if score else None, round(score.error, 5) if score else None, copies,
            {name: predictor.signature.instructions for name, predictor in predictors},
            {name: len(predictor.demos) for name, predictor in predictors},
            {name: (round(mean, 4), round(error, 4)) for name, (mean, error) in score.figures.items()} if score else {},
            candidate.origin, candidate.stopped, candidate.refused,
            round(mean_and_error([worth.value for worth in candidate.answers.values()])[1], 4),
        )  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """The content of compiled.json.

    `state` is the winner's state, and `won` says whether the winner is a candidate. `used` is what the search took, and
    `used_to_confirm` the last comparison: calls, tokens, usd and minutes; {} if there was none.
    `stopped` says why the recipe ended early, or "". `confirmed` is None if nothing was compared. Gains are in
    `measure` over `baseline`; `second` names the second score of the candidates. `notes` are lines for the report.
    `unusable` is the number of the best candidate if none of its answers to the queries that decide could be used,
    else 0.
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
    measure: str = "nDCG@10"
    notes: tuple[str, ...] = ()
    unusable: int = 0
    used_to_confirm: Mapping[str, float] = field(default_factory=dict)

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
        """Describe the compilation: the confirmation, what it cost, a diff of each prompt, the curve of the values, and
        all candidates with their scores."""
        lines = [f"# Compiled by {self.optimizer}", ""]
        if self.confirmed:
            best, first = self.confirmed.mean
            how = self.confirmed.how[0].upper() + self.confirmed.how[1:]
            lines.append(
                f"{how}: {self.confirmed.measure} {best:.4f} with candidate {self.confirmed.candidate}, "
                f"the best, {first:.4f} with the program as it was ({self.confirmed.figures})."
            )
            lines += [self.confirmed.verdict, "", *([self.confirmed.tested, ""] if self.confirmed.test else [])]
        else:
            lines += ["The candidate replaces the program." if self.won else unchanged(self.to_json()), ""]
        lines += [cost(self.to_json()), ""]
        old = {name: p.signature.instructions for name, p in before.named_predictors()}
        for name, predictor in after.named_predictors():
            new = predictor.signature.instructions
            diff = difflib.unified_diff(old[name].splitlines(), new.splitlines(), "before", "after", lineterm="")
            text = "\n".join(diff)
            lines += [f"## {name}", "", f"```diff\n{text}\n```" if text else "The instruction is as it was.", ""]
        drawn = "\n".join(curve([asdict(row) for row in self.candidates]))
        lines += ["## Values of the answers, in the order of the proposals", "", f"```\n{drawn}\n```", ""]
        return "\n".join([*lines, *self._table()]) + "\n"

    def _table(self) -> list[str]:
        names = list(dict.fromkeys(name for row in self.candidates for name in row.figures))
        unbeaten = front([asdict(row) for row in self.candidates], self.second)
        heads = ["number", "value", "examples", f"{self.measure} over {self.baseline}", *names, "none better", "copies"]
        lines = ["## Candidates", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for row in self.candidates:
            figures = {name: f"{mean:+.3f} ± {error:.3f}" for name, (mean, error) in row.figures.items()}
            gain = "" if row.gain is None else f"{row.gain:+.4f} ± {row.error:.4f}"
            cells = [str(row.number), f"{row.critic:.3f}", str(row.pairs), gain]
            cells += [*(figures.get(name, "") for name in names), "*" if row.number in unbeaten else "", row.copies]
            lines.append(f"| {' | '.join(cells)} |")
        for row in self.candidates:
            lines += ["", f"### Candidate {row.number}", ""]
            why = [
                row.origin,
                row.stopped and f"stopped: {row.stopped}",
                row.refused and f"refused: {row.refused}",
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
