"""The verdict: which arm is best, by how much, and whether that is more than chance.

    verdict({"base": ArmRuns([…]), "hybrid": ArmRuns([…], seeds=(0, 1))}, collection, .05, Facts()).sentence
      → "Best on dev: hybrid. On test, nDCG@10 .360 against .309 of base: +.051 [.032, .070], …"

The best arm is chosen on dev, cross-fitted (`choosing`). Arms are compared on test, paired by query:
- Student's t-test by ranx.compare; with several seeds by scipy, on each query's mean over the seeds;
- p-values Holm-corrected over all pairs of arms;
- a bootstrap interval of the difference over queries;
- an interval over the seeds that both arms were trained with, if there are several.

With fewer test queries than `syneg.data.splits.TELLING` there are no p-values, only the smallest difference that such a
test could show.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import scipy  # loads scipy.stats when it is first used

from syneg.core.records import Training
from syneg.data.collection import Collection
from syneg.data.splits import TELLING
from syneg.retrieval.evaluation import SplitResult
from syneg.retrieval.metrics import MAIN_METRIC, METRICS, PerQuery, compare, holm, mean

from .choosing import choose
from .records import (
    BASE,
    ArmResult,
    Boundary,
    Comparison,
    Generation,
    Interval,
    NearMisses,
    Verdict,
    WorthOfLM,
    WrittenQueries,
)
from .sentences import sentence
from .statistics import detectable, paired_interval, seed_interval

"""With fewer test queries than this, no difference is called significant."""

_SHOWN = 5  # queries that gained most, and that lost most


@dataclass(frozen=True)
class Cost:
    """The cost of the LM-written negatives of an arm; `usd` is None if a price is unknown."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float | None = 0.0


@dataclass(frozen=True)
class ArmRuns:
    """The runs of one arm, with one item for each of its `seeds` in every list.

    `results` are by split, `boundary` the values of the boundary test, `training` what is in training.json. `cost` is
    None for an arm without LM-written negatives. The base is not trained: it has one result and no seeds.
    """

    results: Sequence[Mapping[str, SplitResult]]
    seeds: tuple[int, ...] = ()
    boundary: Sequence[PerQuery] = ()
    training: Sequence[Training] = ()
    cost: Cost | None = None
    near_misses: int = 0


@dataclass(frozen=True)
class Facts:
    """What the verdict reports besides the figures of the arms; the fields are those of `Verdict`."""

    generation: Generation | None = None
    source_probe: Mapping[str, float] = field(default_factory=dict)
    near_misses: NearMisses | None = None
    no_boundary: str = ""
    left_out: tuple[str, ...] = ()
    written_queries: WrittenQueries | None = None
    folds: int = 0


def verdict(runs: Mapping[str, ArmRuns], collection: Collection, alpha: float, facts: Facts) -> Verdict:
    """Compare the arms of `runs`, which include the base. `alpha` is the level of significance.

    Results of a seed that is named twice count once.
    """
    runs = {arm: _distinct(trained) for arm, trained in runs.items()}
    arms = {arm: _arm(trained) for arm, trained in runs.items()}
    choice = choose(
        {arm: _per_query(trained, "dev") for arm, trained in runs.items()}, BASE,
        {arm: _optimism(trained) for arm, trained in runs.items()},
    )  # fmt: skip
    best = choice.best
    result = Verdict(
        collection=collection.name, fingerprint=collection.fingerprint, metric=MAIN_METRIC, alpha=alpha,
        queries={split: len(ids) for split, ids in collection.splits.items()}, arms=arms, best=best, choice=choice,
        comparisons=_comparisons(runs, arms, best, collection, alpha), worth=_worth(arms),
        generation=facts.generation, source_probe=facts.source_probe, near_misses=facts.near_misses,
        no_boundary=facts.no_boundary, left_out=facts.left_out, written_queries=facts.written_queries,
        folds=facts.folds,
    )  # fmt: skip
    return replace(result, sentence=sentence(result))


def _distinct(runs: ArmRuns) -> ArmRuns:
    """The runs without repeated seeds; the first run of a seed stays."""
    if len(set(runs.seeds)) == len(runs.seeds):
        return runs
    places = [runs.seeds.index(seed) for seed in dict.fromkeys(runs.seeds)]
    return replace(
        runs, seeds=tuple(runs.seeds[i] for i in places), results=[runs.results[i] for i in places],
        boundary=[runs.boundary[i] for i in places] if runs.boundary else (),
        training=[runs.training[i] for i in places] if runs.training else (),
    )  # fmt: skip


def _arm(runs: ArmRuns) -> ArmResult:
    """The figures of one arm: means over queries and seeds, the boundary test, training and cost."""

    def means(split: str) -> dict[str, float]:
        values = [run[split].values for run in runs.results if split in run]
        return {m: float(np.mean([mean(v[m]) for v in values])) for m in METRICS} if values else {}

    def by_seed(split: str) -> dict[int, float]:
        pairs = zip(runs.seeds, runs.results, strict=True) if runs.seeds else ()
        return {seed: mean(run[split].values[MAIN_METRIC]) for seed, run in pairs if split in run}

    cost, test_by_seed = runs.cost or Cost(), by_seed("test")
    return ArmResult(
        dev=means("dev"), confirm=means("confirm"), test=means("test"), seeds=len(runs.results),
        dev_by_seed=by_seed("dev"), test_by_seed=test_by_seed, seed_interval=seed_interval([*test_by_seed.values()]),
        boundary=_at_boundary(runs), training=tuple(runs.training),
        seconds=float(np.mean([training.seconds for training in runs.training])) if runs.training else 0.0,
        uses_lm=runs.cost is not None, calls=cost.calls, input_tokens=cost.input_tokens,
        output_tokens=cost.output_tokens, usd=cost.usd,
    )  # fmt: skip


def _at_boundary(runs: ArmRuns) -> Boundary | None:
    accuracy, ndcg = _boundary_means(runs, "accuracy"), _boundary_means(runs, MAIN_METRIC)
    if not accuracy:
        return None
    return Boundary(
        len(accuracy), runs.near_misses or len(accuracy),
        mean(accuracy), paired_interval([*accuracy.values()]), mean(ndcg), paired_interval([*ndcg.values()]),
    )  # fmt: skip


def _boundary_means(runs: ArmRuns, metric: str) -> dict[str, float]:
    """query_id → value of `metric` in the boundary test, the mean over seeds; {} without a test."""
    if not runs.boundary:
        return {}
    return {q: float(np.mean([run[metric][q] for run in runs.boundary])) for q in sorted(runs.boundary[0][metric])}


def _comparisons(
    runs: Mapping[str, ArmRuns], arms: Mapping[str, ArmResult], best: str, collection: Collection, alpha: float
) -> tuple[Comparison, ...]:
    """Every pair of arms, compared on the test queries."""
    values = {arm: _per_query(trained) for arm, trained in runs.items()}
    # with few queries no p-value is given: a t-test on them would mislead
    tells = len(values[BASE]) >= TELLING["test"]
    p_values = _p_values(runs, values, collection) if tells else {}
    adjusted = holm(p_values)
    rows = []
    for a, b in itertools.combinations(runs, 2):
        # paired by query: the difference on each query is one observation
        by_query = {q: values[b][q] - values[a][q] for q in values[a]}
        ranked = sorted(by_query, key=lambda q: (by_query[q], q)) if {a, b} == {BASE, best} else []
        edge = _boundary_difference(runs[a], runs[b])
        rows.append(
            Comparison(
                a, b, mean(by_query), paired_interval([*by_query.values()]), p_values.get((a, b)), adjusted.get((a, b)),
                tells and adjusted[a, b] < alpha, detectable([*by_query.values()], alpha),
                sum(d > 1e-9 for d in by_query.values()), sum(d < -1e-9 for d in by_query.values()),
                seed_interval=_seed_difference(arms[a], arms[b]),
                boundary_delta=float(np.mean(edge)) if edge else None, boundary_interval=paired_interval(edge),
                gained={q: by_query[q] for q in reversed(ranked[-_SHOWN:]) if by_query[q] > 0},
                lost={q: by_query[q] for q in ranked[:_SHOWN] if by_query[q] < 0},
            )
        )  # fmt: skip
    return tuple(rows)


def _seed_difference(a: ArmResult, b: ArmResult) -> Interval | None:
    """The interval of b - a over the seeds of both arms. The base is not trained, so its value is the same for each."""
    if not a.test_by_seed or not b.test_by_seed:
        trained, sign = (b, 1) if not a.test_by_seed else (a, -1)
        base = (a if trained is b else b).test.get(MAIN_METRIC, 0.0)
        return seed_interval([sign * (value - base) for value in trained.test_by_seed.values()])
    common = sorted(a.test_by_seed.keys() & b.test_by_seed.keys())
    return seed_interval([b.test_by_seed[seed] - a.test_by_seed[seed] for seed in common])


def _boundary_difference(a: ArmRuns, b: ArmRuns) -> list[float]:
    """Accuracy in the boundary test of b minus that of a, one value for each query of both."""
    ours, theirs = _boundary_means(b, "accuracy"), _boundary_means(a, "accuracy")
    return [ours[q] - theirs[q] for q in sorted(ours.keys() & theirs.keys())]


def _per_query(runs: ArmRuns, split: str = "test") -> dict[str, float]:
    """query_id → nDCG@10 on a split, the mean over seeds."""
    by_seed = [run[split].values[MAIN_METRIC] for run in runs.results if split in run]
    return {q: float(np.mean([values[q] for values in by_seed])) for q in by_seed[0]} if by_seed else {}


def _optimism(runs: ArmRuns) -> float:
    """What nDCG@10 on dev owes to weights that were mixed as is best on dev, the mean over seeds."""
    return float(np.mean([training.optimism for training in runs.training])) if runs.training else 0.0


def _p_values(
    runs: Mapping[str, ArmRuns], values: Mapping[str, Mapping[str, float]], collection: Collection
) -> dict[tuple[str, str], float]:
    """(a, b) → p-value of a paired t-test on `values`, not yet corrected."""
    if all(len(arm.results) == 1 for arm in runs.values()):
        rankings = {str(place): arm.results[0]["test"].ranking for place, arm in enumerate(runs.values())}
        names = dict(zip(rankings, runs, strict=True))  # ranx gets numbers, because an arm may have any name
        compared = compare(collection.qrels, rankings) if len(rankings) > 1 else {}
        return {(names[a], names[b]): p for (a, b), p in compared.items()}
    p_values = {}
    for a, b in itertools.combinations(runs, 2):
        x, y = ([values[arm][q] for q in values[BASE]] for arm in (a, b))
        differences = np.subtract(y, x)
        if np.ptp(differences) < 1e-12:  # without spread the t statistic is 0/0 or infinite
            p_values[a, b] = 1.0 if abs(float(differences[0])) < 1e-12 else 0.0
        else:
            p_values[a, b] = float(scipy.stats.ttest_rel(x, y).pvalue)
    return p_values


def _worth(arms: Mapping[str, ArmResult]) -> WorthOfLM | None:
    """Compare the best arm on dev that uses an LM with the best one that does not; None if one of them is missing.

    Of equal arms the base is the last: beside it, the LM would be credited with what training alone gains.
    """

    def best(uses_lm: bool) -> str | None:
        names = [arm for arm in arms if arms[arm].uses_lm == uses_lm]
        return max(names, key=lambda arm: (round(arms[arm].dev.get(MAIN_METRIC, 0.0), 12), arm != BASE), default=None)

    ours, theirs = best(True), best(False)
    if ours is None or theirs is None:
        return None
    gain = arms[ours].test.get(MAIN_METRIC, 0.0) - arms[theirs].test.get(MAIN_METRIC, 0.0)
    calls, usd = arms[ours].calls, arms[ours].usd
    return WorthOfLM(ours, theirs, gain, gain / calls * 1000 if calls else None, gain / usd if usd else None)
