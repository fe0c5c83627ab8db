"""What a compilation came to: compiled.json as a record, and as text for people.

Outcome.from_json(read_json(folder.compiled)).confirmed
  → Confirmed(candidate=3, mean=(.412, .405), delta=.007, error=.003, queries=76)
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import dspy
from pydantic import TypeAdapter, ValidationError

from syneg.core.errors import DataError
from syneg.optimizers import Candidate
from syneg.retrieval.metrics import MAIN_METRIC


@dataclass(frozen=True)
class CandidateRow:
    """A program that was tried. `critic` is the mean over its `pairs`; the figures after it are gains over mined
    negatives alone with their standard errors, None where the objective did not score it. `copies` is the phrase of
    the training data that an instruction repeats, or ""."""

    number: int
    critic: float
    pairs: int
    gain: float | None
    error: float | None
    likelihood: float | None
    likelihood_error: float | None
    copies: str
    instructions: Mapping[str, str]
    demos: Mapping[str, int]

    @classmethod
    def of(cls, candidate: Candidate, copies: str) -> CandidateRow:
        score, predictors = candidate.score, candidate.program.named_predictors()
        return cls(
            candidate.number, round(candidate.mean, 4), len(candidate.answers),
            round(score.gain, 5) if score else None, round(score.error, 5) if score else None,
            round(score.likelihood, 4) if score else None, round(score.likelihood_error, 4) if score else None, copies,
            {name: predictor.signature.instructions for name, predictor in predictors},
            {name: len(predictor.demos) for name, predictor in predictors},
        )  # fmt: skip


@dataclass(frozen=True)
class Confirmed:
    """nDCG@10 on confirm after full training: `mean` with the candidate and with the first program, over `queries`;
    their difference `delta` with its standard error."""

    candidate: int
    mean: tuple[float, float]
    delta: float
    error: float
    queries: int

    @property
    def wins(self) -> bool:
        """Whether the candidate leads by more than the standard error."""
        return self.delta > self.error

    def __str__(self) -> str:
        return f"{self.delta:+.4f} ± {self.error:.4f}, {self.queries} queries"


@dataclass(frozen=True)
class Outcome:
    """All of compiled.json. `state` is that of the program that won, `used` what the budget counted, `stopped` why the
    recipe ended early; `confirmed` is None where nothing was left to confirm."""

    program: str
    optimizer: str
    state: Mapping[str, Any]
    won: bool
    confirmed: Confirmed | None
    stopped: str
    used: Mapping[str, float]
    candidates: tuple[CandidateRow, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain data; what is not confirmed is {}."""
        return {**asdict(self), "confirmed": asdict(self.confirmed) if self.confirmed else {}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outcome:
        """Read the data of compiled.json. Raises DataError for anything else."""
        try:
            return _adapter().validate_python({**data, "confirmed": data.get("confirmed") or None})
        except ValidationError as error:
            first = error.errors()[0]
            raise DataError(
                f"no outcome of a compilation: {'.'.join(map(str, first['loc']))}: {first['msg']}",
                todo="remove compiled.json and run the command again",
            ) from error

    def summary(self) -> dict[str, Any]:
        """What the manifest of program.json says of it."""
        data = self.to_json()
        return {key: data[key] for key in ("optimizer", "won", "confirmed", "used", "stopped")}

    def markdown(self, before: dspy.Module, after: dspy.Module) -> str:
        """What the compilation did: the verdict, each prompt as a diff, and all candidates with their scores."""
        lines = [f"# Compiled by {self.optimizer}", ""]
        if self.confirmed:
            best, first = self.confirmed.mean
            lines.append(
                f"Full training, confirm split: {MAIN_METRIC} {best:.4f} with candidate {self.confirmed.candidate}, "
                f"the best, {first:.4f} with the program as it was ({self.confirmed})."
            )
        stays = "The program stays as it was"
        stays += ": it takes a lead of more than the standard error." if self.confirmed else "."
        lines += ["The candidate replaces the program." if self.won else stays, ""]
        old = {name: p.signature.instructions for name, p in before.named_predictors()}
        for name, predictor in after.named_predictors():
            new = predictor.signature.instructions
            diff = difflib.unified_diff(old[name].splitlines(), new.splitlines(), "before", "after", lineterm="")
            text = "\n".join(diff)
            lines += [f"## {name}", "", f"```diff\n{text}\n```" if text else "The instruction is as it was.", ""]
        return "\n".join([*lines, *self._table()]) + "\n"

    def _table(self) -> list[str]:
        lines = [
            "## Candidates", "",
            "| number | critic | pairs | nDCG@10 over mined | log-likelihood over mined | copies |",
            "|---|---|---|---|---|---|",
        ]  # fmt: skip
        for row in self.candidates:
            figures = ["", ""]
            if row.gain is not None:
                figures = [f"{row.gain:+.4f} ± {row.error:.4f}", f"{row.likelihood:+.3f} ± {row.likelihood_error:.3f}"]
            cells = [str(row.number), f"{row.critic:.3f}", str(row.pairs), *figures, row.copies]
            lines.append(f"| {' | '.join(cells)} |")
        for row in self.candidates:
            lines += ["", f"### Candidate {row.number}", ""]
            for name, text in row.instructions.items():
                lines += [f"{name} ({row.demos[name]} demos):", "", *(f"> {line}" for line in text.splitlines()), ""]
        return lines


@cache
def _adapter() -> TypeAdapter[Outcome]:
    return TypeAdapter(Outcome)
