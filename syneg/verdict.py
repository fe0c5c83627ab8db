"""The verdict: which arm is best, by how much, and whether that is more than chance.

    verdict(results, collection, alpha=.05)["sentence"]
      → "Best on dev: hybrid. On test, nDCG@10 .360 against .309 of base: +.051, significant (p = .0002). …"

Arms are chosen on dev; the tests are on test, paired over queries: Student's t by ranx.compare (with several seeds,
scipy's on the per-query means over the seeds), Holm-corrected over all pairs of arms. One seed says nothing of the
spread over seeds; the verdict says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .collection import Collection
from .evaluation import SplitResult
from .metrics import MAIN_METRIC, METRICS, compare, holm, mean

BASE = "base"

Results = Mapping[str, Sequence[Mapping[str, SplitResult]]]


def verdict(results: Results, collection: Collection, alpha: float) -> dict[str, Any]:
    """`results[arm]` holds one dict of splits per seed (one for base). Returns plain data for verdict.json."""
    arms = {arm: _arm(runs) for arm, runs in results.items()}
    best = max(arms, key=lambda arm: (arms[arm]["dev"][MAIN_METRIC], arm == BASE))
    p_values = _p_values(results, collection)
    adjusted = holm(p_values)
    comparisons = []
    for (a, b), p in p_values.items():
        delta = arms[b]["test"][MAIN_METRIC] - arms[a]["test"][MAIN_METRIC]
        comparisons.append(
            {
                "a": a,
                "b": b,
                "delta": delta,
                "p": p,
                "p_holm": adjusted[a, b],
                "significant": adjusted[a, b] < alpha,
            }
        )
    result = {
        "collection": collection.name, "fingerprint": collection.fingerprint, "metric": MAIN_METRIC, "alpha": alpha,
        "queries": {split: len(ids) for split, ids in collection.splits.items()}, "arms": arms, "best": best,
        "comparisons": comparisons,
    }  # fmt: skip
    return {**result, "sentence": _sentence(result)}


def _arm(runs: Sequence[Mapping[str, SplitResult]]) -> dict[str, Any]:
    found: dict[str, Any] = {
        split: {metric: float(np.mean([mean(run[split].values[metric]) for run in runs])) for metric in METRICS}
        for split in runs[0]
    }
    found["seeds"] = len(runs)
    found["dev_by_seed"] = [mean(run["dev"].values[MAIN_METRIC]) for run in runs]
    found["test_by_seed"] = [mean(run["test"].values[MAIN_METRIC]) for run in runs]
    return found


def _p_values(results: Results, collection: Collection) -> dict[tuple[str, str], float]:
    if all(len(runs) == 1 for runs in results.values()):
        rankings = {arm: runs[0]["test"].ranking for arm, runs in results.items()}
        return compare(collection.qrels, rankings) if len(rankings) > 1 else {}
    from scipy.stats import ttest_rel

    ids = collection.splits["test"]
    values = {
        arm: np.mean([[run["test"].values[MAIN_METRIC][q] for q in ids] for run in runs], axis=0)
        for arm, runs in results.items()
    }
    return {
        (a, b): 1.0 if np.array_equal(values[a], values[b]) else float(ttest_rel(values[a], values[b]).pvalue)
        for a, b in itertools.combinations(results, 2)
    }


def _sentence(found: Mapping[str, Any]) -> str:
    arms, best = found["arms"], found["best"]
    if best == BASE:
        text = "Best on dev: base. No fine-tuned arm beat the untuned encoder on dev, so the base is what is saved."
    else:
        row = next(c for c in found["comparisons"] if {c["a"], c["b"]} == {BASE, best})
        sure = "significant" if row["significant"] else "no significant difference"
        delta = arms[best]["test"][MAIN_METRIC] - arms[BASE]["test"][MAIN_METRIC]
        text = (
            f"Best on dev: {best}. On test, nDCG@10 {arms[best]['test'][MAIN_METRIC]:.3f} against "
            f"{arms[BASE]['test'][MAIN_METRIC]:.3f} of base: {delta:+.3f}, {sure} ({_p_text(row['p_holm'])})."
        )
    for row in found["comparisons"]:
        if BASE not in (row["a"], row["b"]) and (len(arms) <= 3 or best in (row["a"], row["b"])):
            word = (
                ("better" if row["delta"] > 0 else "worse") + " than"
                if row["significant"]
                else "not significantly different from"
            )
            text += f" {row['b'].capitalize()} is {word} {row['a']} ({row['delta']:+.3f}, p = {_p(row['p_holm'])})."
    return text


def table(found: Mapping[str, Any]) -> str:
    """The verdict as text of at most 80 columns."""
    rows = [
        f"{'arm':<12}{'seeds':>6}{'nDCG@10':>10}{'MRR@10':>9}{'recall@100':>12}{'dev nDCG':>10}{'vs base':>9}{'p (Holm)':>10}"
    ]
    for arm, values in found["arms"].items():
        row = next((c for c in found["comparisons"] if {c["a"], c["b"]} == {BASE, arm}), None)
        test = values["test"]
        delta = f"{test[MAIN_METRIC] - found['arms'][BASE]['test'][MAIN_METRIC]:+.4f}" if row else ""
        mark = "*" if arm == found["best"] else " "
        rows.append(
            f"{arm + mark:<12}{values['seeds']:>6}{test['ndcg@10']:>10.4f}{test['mrr@10']:>9.4f}{test['recall@100']:>12.4f}"
            f"{values['dev']['ndcg@10']:>10.4f}{delta:>9}{_p(row['p_holm']) if row else '':>10}"
        )
    counts = found["queries"]
    rows.append(
        f"test: {counts['test']} queries, dev: {counts['dev']}; * best on dev; p: paired t-test, Holm-corrected"
    )
    if all(values["seeds"] == 1 for values in found["arms"].values()) and len(found["arms"]) > 1:
        rows.append("one seed: the spread over seeds is not known (--set train.seeds=[0,1,2])")
    return "\n".join(rows)


def _p_text(value: float) -> str:
    return "p < .0001" if value < 0.0001 else f"p = {value:.4f}"


def _p(value: float) -> str:
    return "< .0001" if value < 0.0001 else f"{value:.4f}"
