"""The verdict: which arm is best, by how much, and whether that is more than chance.

    verdict(results, boundary, collection, alpha=.05)["sentence"]
      → "Best on dev: hybrid. On test, nDCG@10 .360 against .309 of base: +.051, significant (p = .0002). …"

Arms are chosen on dev; the tests are on test, paired over queries: Student's t by ranx.compare (with several seeds, scipy's
on the per-query means over the seeds), Holm-corrected over all pairs of arms. What the seeds spread is told apart from that:
the 95 % interval (t) of an arm's mean over seeds, and of the difference to another arm, paired by seed. One seed says
nothing of it; the verdict says so.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from syneg.data.collection import Collection
from syneg.retrieval.evaluation import SplitResult
from syneg.retrieval.metrics import MAIN_METRIC, METRICS, PerQuery, bootstrap, compare, holm, mean, t_interval

BASE = "base"
_SHOWN = 5  # queries most gained and lost

Results = Mapping[str, Sequence[Mapping[str, SplitResult]]]


def verdict(
    results: Results, boundary: Mapping[str, Sequence[PerQuery]], collection: Collection, alpha: float
) -> dict[str, Any]:
    """`results[arm]` holds one dict of splits per seed (one for base; arms may have different numbers), `boundary[arm]` the values of the boundary test.
    Returns plain data for verdict.json."""
    arms = {arm: _arm(runs) for arm, runs in results.items()}
    for arm, runs in boundary.items():
        arms[arm]["boundary"] = _at_boundary(runs)
    best = max(arms, key=lambda arm: (arms[arm]["dev"][MAIN_METRIC], arm == BASE))
    values = {arm: _per_query(runs) for arm, runs in results.items()}
    p_values = _p_values(results, values, collection)
    adjusted = holm(p_values)
    comparisons = []
    for (a, b), p in p_values.items():
        by_query = {q: values[b][q] - values[a][q] for q in values[a]}
        comparisons.append(
            {
                "a": a, "b": b, "delta": arms[b]["test"][MAIN_METRIC] - arms[a]["test"][MAIN_METRIC],
                "p": p, "p_holm": adjusted[a, b], "significant": adjusted[a, b] < alpha,
                "wins": sum(d > 1e-9 for d in by_query.values()), "losses": sum(d < -1e-9 for d in by_query.values()),
                "seed_interval": _seed_delta(arms[a], arms[b]),
            }
        )  # fmt: skip
        if {a, b} == {BASE, best}:
            ranked = sorted(by_query, key=lambda q: (by_query[q], q))
            comparisons[-1]["lost"] = {q: by_query[q] for q in ranked[:_SHOWN] if by_query[q] < 0}
            comparisons[-1]["gained"] = {q: by_query[q] for q in reversed(ranked[-_SHOWN:]) if by_query[q] > 0}
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
    found["seed_interval"] = t_interval(found["test_by_seed"])
    return found


def _at_boundary(runs: Sequence[PerQuery]) -> dict[str, Any]:
    """Means over seeds and queries, with intervals over queries."""
    found: dict[str, Any] = {"queries": len(runs[0]["accuracy"])}
    for metric in ("accuracy", MAIN_METRIC):
        values = [float(np.mean([run[metric][q] for run in runs])) for q in sorted(runs[0][metric])]
        found[metric] = float(np.mean(values))
        found[f"{metric}_interval"] = bootstrap(values)
    return found


def _seed_delta(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[float, float] | None:
    """The interval of the difference b - a over the seeds that both have; one run counts as the same for every seed."""
    n = max(a["seeds"], b["seeds"])
    ours, theirs = (arm["test_by_seed"] * (n if arm["seeds"] == 1 else 1) for arm in (b, a))
    return t_interval([x - y for x, y in zip(ours, theirs, strict=False)])


def _per_query(runs: Sequence[Mapping[str, SplitResult]]) -> dict[str, float]:
    first = runs[0]["test"].values[MAIN_METRIC]
    return {q: float(np.mean([run["test"].values[MAIN_METRIC][q] for run in runs])) for q in first}


def _p_values(
    results: Results, values: Mapping[str, Mapping[str, float]], collection: Collection
) -> dict[tuple[str, str], float]:
    if all(len(runs) == 1 for runs in results.values()):
        rankings = {arm: runs[0]["test"].ranking for arm, runs in results.items()}
        return compare(collection.qrels, rankings) if len(rankings) > 1 else {}
    from scipy.stats import ttest_rel

    ids = collection.splits["test"]
    found = {}
    for a, b in itertools.combinations(results, 2):
        x, y = ([values[arm][q] for q in ids] for arm in (a, b))
        found[a, b] = 1.0 if np.array_equal(x, y) else float(ttest_rel(x, y).pvalue)
    return found


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
    """The verdict as text: 80 columns wide with arms of plain names, at most 100 with longer ones."""
    width = _name_width(found)
    rows = [
        f"{'arm':<{width}}{'seeds':>5}{'nDCG@10':>9}{'MRR@10':>7}{'recall@100':>11}{'dev nDCG':>9}{'vs base':>9}"
        f"{'p (Holm)':>9}{'won/lost':>9}"
    ]
    for arm, values in found["arms"].items():
        row = next((c for c in found["comparisons"] if {c["a"], c["b"]} == {BASE, arm}), None)
        test = values["test"]
        delta = f"{test[MAIN_METRIC] - found['arms'][BASE]['test'][MAIN_METRIC]:+.4f}" if row else ""
        mark = "*" if arm == found["best"] else " "
        rows.append(
            f"{_short(arm, width - 1) + mark:<{width}}{values['seeds']:>5}{test['ndcg@10']:>9.4f}{test['mrr@10']:>7.4f}"
            f"{test['recall@100']:>11.4f}{values['dev']['ndcg@10']:>9.4f}{delta:>9}{_p(row['p_holm']) if row else '':>9}"
            f"{_won(row) if row else '':>9}"
        )
    counts = found["queries"]
    rows += [
        f"test: {counts['test']} queries, dev: {counts['dev']}; * best on dev",
        "p: paired t-test over queries, Holm-corrected; won/lost: queries, against base",
    ]
    if all(values["seeds"] == 1 for values in found["arms"].values()) and len(found["arms"]) > 1:
        rows.append("one seed: the spread over seeds is not known (--seeds 3)")
    return "\n".join(rows)


def second_table(found: Mapping[str, Any]) -> str:
    """The spread over seeds, the boundary test, and what each arm cost, as text of the same width."""
    width = _name_width(found)
    rows = [
        f"{'arm':<{width}}{'over seeds':>14}{'boundary acc.':>19}{'nDCG@10':>9}{'train s':>9}{'LM tokens':>10}{'$':>7}"
    ]
    for arm, values in found["arms"].items():
        edge = values.get("boundary")
        spread = values.get("seed_interval")
        half = f"{values['test'][MAIN_METRIC]:.4f}±{(spread[1] - spread[0]) / 2:.4f}" if spread else ""
        accuracy = (
            f"{edge['accuracy']:.3f} [{edge['accuracy_interval'][0]:.2f}, {edge['accuracy_interval'][1]:.2f}]"
            if edge
            else ""
        )
        tokens = values.get("input_tokens", 0) + values.get("output_tokens", 0)
        usd = values.get("usd", 0.0)
        rows.append(
            f"{_short(arm, width - 1):<{width}}{half:>14}{accuracy:>19}{f'{edge[MAIN_METRIC]:.4f}' if edge else '':>9}"
            f"{values.get('seconds', 0):>9.0f}{tokens:>10}{'?' if usd is None else f'{usd:.2f}':>7}"
        )
    return "\n".join((*rows, *(textwrap.fill(note, max(80, len(rows[0]))) for note in _notes(found))))


def _notes(found: Mapping[str, Any]) -> Iterator[str]:
    near, probe = found.get("near_misses"), found.get("source_probe")
    if near:
        yield (
            f"boundary: {near['accepted']} near-misses for {near['covered']} held-out queries by {near['program']}, put into "
            "the corpus: share that scores under the positive, 95 % interval, and nDCG@10 with them present"
        )
    elif "no_boundary" in found:
        yield f"no boundary test: {found['no_boundary']}"
    if probe:
        views = ", ".join(f"{view} {auc:.2f}" for view, auc in probe.items())
        yield f"source probe, AUC of telling synthetic from mined (.5: cannot be told): {views}"
    for arm, values in found["arms"].items():
        shares = [t["shares"] for t in values.get("training", ()) if t.get("shares")]
        if any("synthetic" in third for run in shares for third in run):
            thirds = [np.mean([run[min(i, len(run) - 1)].get("synthetic", 0.0) for run in shares]) for i in range(3)]
            told = ", ".join(f"{share:.0%}" for share in thirds)
            yield f"gradient share of synthetic in {_short(arm, 30)}, by third of training: {told}"


def _name_width(found: Mapping[str, Any]) -> int:
    return max(12, min(31, 1 + max(len(arm) for arm in found["arms"])))


def _short(arm: str, width: int) -> str:
    return arm if len(arm) <= width else f"{arm[: width - 1]}…"


def _won(row: Mapping[str, Any]) -> str:
    won, lost = (row["wins"], row["losses"]) if row["a"] == BASE else (row["losses"], row["wins"])
    return f"{won}/{lost}"


def _p_text(value: float) -> str:
    return "p < .0001" if value < 0.0001 else f"p = {value:.4f}"


def _p(value: float) -> str:
    return "< .0001" if value < 0.0001 else f"{value:.4f}"
