"""The verdict as typed records: written to verdict.json and read back.

    Verdict.from_json(read_json(folder.verdict)).comparisons[0]
      → Comparison(a="base", b="mined", delta=.101, interval=(.082, .120), p=.0001, wins=190, losses=71, …)

Unless a field says otherwise, figures are nDCG@10 on test. An `Interval` is (low, high) of a 95 % interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from syneg.core.errors import DataError
from syneg.core.records import Training
from syneg.core.storage import JsonObject

BASE = "base"
Interval = tuple[float, float]


@dataclass(frozen=True)
class Boundary:
    """An arm in the boundary test, over `queries` with near-misses.

    `accuracy` is the mean share of near-misses that score below the positive, `ndcg` is nDCG@10 with all near-misses in
    the corpus.
    """

    queries: int
    near_misses: int
    accuracy: float
    accuracy_interval: Interval | None
    ndcg: Annotated[float, Field(alias="ndcg@10")]
    ndcg_interval: Annotated[Interval | None, Field(alias="ndcg@10_interval")]


@dataclass(frozen=True)
class ArmResult:
    """The figures of one arm.

    `dev`, `confirm` and `test` are metric → mean over queries and seeds; a split without queries is empty.
    `dev_by_seed` and `test_by_seed` are seed → nDCG@10; the base is not trained and has none. `seconds` is the mean
    time of a training. `calls` and the fields after it are the cost of its synthetic negatives; `usd` is None if a
    price is unknown.
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
    """Arm `b` minus arm `a`, paired by query.

    `wins` and `losses` count the queries on which b is better and worse. With too few test queries, `p` and `p_holm`
    are None and `significant` is False. `detectable` is the smallest difference that a test of this size finds in 4 of
    5 cases; None if no query differs. `seed_interval` is for the difference over the seeds that both arms have.
    `boundary_delta` is the difference in accuracy in the boundary test, paired by query. `gained` and `lost` are
    query_id → difference for the queries that changed most, if `a` and `b` are the base and the best arm.
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
class DevChoice:
    """The arm that dev chooses. `top` has the highest mean; `gain` is what choosing on four fifths of the dev queries
    gains over the base on the last fifth, None where the base is on top or there are too few queries."""

    best: str
    top: str
    gain: float | None


@dataclass(frozen=True)
class WorthOfLM:
    """The gain from the LM: on test, the best arm on dev that uses an LM minus the best one that does not.

    `per_1000_calls` and `per_dollar` divide the gain by the cost; None if there was none, or it is unknown.
    """

    with_lm: str
    without_lm: str
    gain: float
    per_1000_calls: float | None
    per_dollar: float | None


@dataclass(frozen=True)
class Generation:
    """Counts of a set of synthetic negatives.

    `accepted` of `written` negatives passed all gates, for `covered` of `pairs` pairs; `reasons` counts the rest.
    `coverage[attribute][value]` is (wanted, accepted). `call_seconds` adds up the seconds of all LM calls. `judged`
    tells whether a trusted judge took part.
    """

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
    """Queries that an LM wrote for a corpus without any.

    `kinds` counts the accepted ones by kind. `tested` of them are test queries.
    """

    program: str
    lm: str
    written: int
    accepted: int
    kinds: Mapping[str, int]
    tested: int


@dataclass(frozen=True)
class NearMisses:
    """The near-misses of the boundary test: `accepted` texts for `covered` held-out queries."""

    program: str
    lm: str
    accepted: int
    covered: int


@dataclass(frozen=True)
class Verdict:
    """All of verdict.json.

    `best` is the best arm on dev, by `metric`; `choice` says how it was chosen. `left_out` are arms of the plan that
    could not be trained. `no_boundary` tells why there was no boundary test. With `folds` the arms were cross-fitted:
    each test query was tested once, by models that were not trained on it.
    """

    collection: str
    fingerprint: str
    metric: str
    alpha: float
    queries: Mapping[str, int]
    arms: Mapping[str, ArmResult]
    best: str
    comparisons: tuple[Comparison, ...]
    sentence: str = ""
    choice: DevChoice | None = None
    worth: WorthOfLM | None = None
    generation: Generation | None = None
    source_probe: Mapping[str, float] = field(default_factory=dict)
    near_misses: NearMisses | None = None
    no_boundary: str = ""
    left_out: tuple[str, ...] = ()
    written_queries: WrittenQueries | None = None
    folds: int = 0

    def against(self, a: str, b: str) -> Comparison | None:
        """The comparison of two arms, in either order; None if there is none. Check its `a` and `b` for the sign."""
        return next((row for row in self.comparisons if {row.a, row.b} == {a, b}), None)

    def to_json(self) -> JsonObject:
        """Return the plain data of verdict.json."""
        return dict(_adapter().dump_python(self, mode="json", by_alias=True))

    @classmethod
    def from_json(cls, data: Any) -> Verdict:
        """Make a verdict from the data of verdict.json. Raises DataError if another version wrote it."""
        try:
            found: Verdict = _adapter().validate_python(data)
        except ValidationError as error:
            first = error.errors()[0]
            raise DataError(
                f"no verdict of this version: {'.'.join(map(str, first['loc']))}: {first['msg']}",
                todo="run `syneg-dspy run` with this folder again; finished stages are kept",
            ) from error
        # the keys of verdict.json are sorted, but its comparisons stand in the order in which the run names its arms
        order = dict.fromkeys(name for row in found.comparisons for name in (row.a, row.b))
        arms = {name: found.arms[name] for name in order if name in found.arms}
        return cls(**{**vars(found), "arms": {**arms, **found.arms}})


def generation_of(facts: Mapping[str, Any]) -> Generation:
    """Make a record from the counts of a generate stage in manifest.json."""
    return TypeAdapter(Generation).validate_python(dict(facts))


@cache
def _adapter() -> Any:
    return TypeAdapter(Verdict)
