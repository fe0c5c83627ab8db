"""The verdict as typed records, and how they become verdict.json and are read back.

    Verdict.from_json(read_json(folder.verdict)).comparisons[0]
      → Comparison(a="base", b="mined", delta=.101, interval=(.082, .120), p=.0001, wins=190, losses=71, …)

Every figure is of nDCG@10 on test where nothing else is said. An `Interval` is (low, high), 95 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from syneg.core.errors import DataError
from syneg.core.records import Training

BASE = "base"
Interval = tuple[float, float]


@dataclass(frozen=True)
class Boundary:
    """An arm at the boundary test: shares and nDCG@10 with the near-misses in the corpus, each with its interval."""

    queries: int
    near_misses: int
    accuracy: float
    accuracy_interval: Interval | None
    ndcg: Annotated[float, Field(alias="ndcg@10")]
    ndcg_interval: Annotated[Interval | None, Field(alias="ndcg@10_interval")]


@dataclass(frozen=True)
class ArmResult:
    """Means of an arm over queries and seeds: metric → value, for each split that has queries.

    `dev_by_seed` and `test_by_seed` hold nDCG@10 by the value of the seed; the base, which is not trained, has none.
    `calls` and the fields after it are what its synthetic negatives cost; `usd` is None where a price is unknown.
    """

    dev: Mapping[str, float]
    confirm: Mapping[str, float]
    test: Mapping[str, float]
    seeds: int = 1
    dev_by_seed: Mapping[int, float] = field(default_factory=dict)
    test_by_seed: Mapping[int, float] = field(default_factory=dict)
    seed_interval: Interval | None = None
    boundary: Boundary | None = None
    training: tuple[Training, ...] = ()
    seconds: float = 0.0
    uses_lm: bool = False
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float | None = 0.0


@dataclass(frozen=True)
class Comparison:
    """Arm `b` less arm `a`, paired by query; `wins` and `losses` count the queries where b is better and worse.

    `p` and `p_holm` are None, and `significant` is False, where there are too few queries to tell. `detectable` is the
    smallest difference that a test of this size would find in 4 of 5 cases; None where the queries do not differ at
    all. `seed_interval` is of the difference over the seeds that both arms have. `boundary` is the difference in
    accuracy at the boundary with its interval, paired by query. `gained` and `lost` are the queries that changed most.
    """

    a: str
    b: str
    delta: float
    interval: Interval | None
    p: float | None
    p_holm: float | None
    significant: bool
    detectable: float | None
    wins: int
    losses: int
    seed_interval: Interval | None = None
    boundary_delta: float | None = None
    boundary_interval: Interval | None = None
    gained: Mapping[str, float] = field(default_factory=dict)
    lost: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class WorthOfLM:
    """The best arms on dev, with an LM and without one, and the difference between them on test."""

    with_lm: str
    without_lm: str
    gain: float
    per_1000_calls: float | None
    per_dollar: float | None


@dataclass(frozen=True)
class Generation:
    """Counts of a set of synthetic negatives. `coverage[attribute][value]` is (wanted, accepted)."""

    program: str
    lm: str
    pairs: int
    written: int
    accepted: int
    covered: int
    reasons: Mapping[str, int]
    input_tokens: int
    output_tokens: int
    usd: float | None
    calls: int = 0
    call_seconds: float = 0.0
    coverage: Mapping[str, Mapping[str, tuple[int, int]]] = field(default_factory=dict)
    judged: bool = False


@dataclass(frozen=True)
class WrittenQueries:
    """Queries that an LM wrote for a corpus without any: how many of each kind, and how many of the test queries they
    are."""

    program: str
    lm: str
    written: int
    accepted: int
    kinds: Mapping[str, int]
    tested: int


@dataclass(frozen=True)
class NearMisses:
    """The passages of the boundary test."""

    program: str
    lm: str
    accepted: int
    covered: int


@dataclass(frozen=True)
class Verdict:
    """All of verdict.json. `best` is the best arm on dev; `left_out` are planned arms that could not be trained.
    With `folds` the arms were cross-fitted: each test query was tested once, by models that were not trained on it."""

    collection: str
    fingerprint: str
    metric: str
    alpha: float
    queries: Mapping[str, int]
    arms: Mapping[str, ArmResult]
    best: str
    comparisons: tuple[Comparison, ...]
    sentence: str = ""
    worth: WorthOfLM | None = None
    generation: Generation | None = None
    source_probe: Mapping[str, float] = field(default_factory=dict)
    near_misses: NearMisses | None = None
    no_boundary: str = ""
    left_out: tuple[str, ...] = ()
    written_queries: WrittenQueries | None = None
    folds: int = 0

    def against(self, a: str, b: str) -> Comparison | None:
        """The comparison of two arms, whichever of them comes first in it."""
        return next((row for row in self.comparisons if {row.a, row.b} == {a, b}), None)

    def to_json(self) -> dict[str, Any]:
        """Return plain data, as in verdict.json."""
        return dict(_adapter().dump_python(self, mode="json", by_alias=True))

    @classmethod
    def from_json(cls, data: Any) -> Verdict:
        """Read the data of verdict.json. Raises DataError where it is none of this version."""
        try:
            return cls(**vars(_adapter().validate_python(data)))
        except ValidationError as error:
            first = error.errors()[0]
            raise DataError(
                f"no verdict of this version: {'.'.join(map(str, first['loc']))}: {first['msg']}",
                todo="run `syneg-dspy run` with this folder again; finished stages are kept",
            ) from error


def generation_of(facts: Mapping[str, Any]) -> Generation:
    """The counts of a generate stage, as manifest.json holds them, as a record."""
    return TypeAdapter(Generation).validate_python(dict(facts))


@cache
def _adapter() -> Any:
    return TypeAdapter(Verdict)
