"""The table and the figures of objective_fidelity.py, from the results that it wrote into its run folder.

report(run, ["random", "bm25_top", …], against=folder)     reads probe.json and critic.json, and full.json of `against`
  → ({"probe": {"random": {"value": …}}, "tau": {"the probe's value, same": {"tau": .71, "low": …}}, …},
     {"random": [{"same": .64, "other": .66, "seconds": 93.1}, …], …})            a row for each seed of full training
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau, rankdata
from turns import Figures

from syneg.core.storage import read_json
from syneg.optimizers.objective import Score
from syneg.run.pipeline import Run

FEW, DRAWS = 16, 20  # pairs that the critic's mean is over, and how often they are drawn


def interval(x: list[float], y: list[float], draws: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of Kendall's tau over the sets."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(draws):
        places = generator.integers(0, len(x), len(x))
        tau = kendalltau([x[i] for i in places], [y[i] for i in places]).statistic
        if not np.isnan(tau):
            found.append(tau)
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def report(run: Run, names: list[str], against: Path) -> tuple[Figures, dict[str, list[Figures]]]:
    """Print the table and the figures, of all results that exist, and return them, as turns.save takes them."""
    probe, critic = (read_json(run.folder / f"{part}.json") or {} for part in ("probe", "critic"))
    full = {name: list(rows.values()) for name, rows in (read_json(against / "full.json") or {}).items() if rows}
    probe = {
        name: {**row, "value": Score(row["gain"], row["error"], row["likelihood"]).value} for name, row in probe.items()
    }
    names = [name for name in names if name in full]
    if not names or not (probe or critic):
        return {}, {}
    splits = run.workspace.collection.splits  # confirm is empty unless something is compiled
    sizes = {split: len(splits[split]) for split in ("confirm", "test") if splits[split]}

    def other(row: dict[str, float]) -> float:  # confirm and test queries alike: more queries, less noise
        return sum(row[split] * n for split, n in sizes.items()) / sum(sizes.values())

    groups = {
        "same": {name: [row["held"] for row in full[name]] for name in names},
        "other": {name: [other(row) for row in full[name]] for name in names},
    }
    means = {group: [float(np.mean(found[name])) for name in names] for group, found in groups.items()}
    table(names, probe, critic, full, means)
    tau: Figures = {}
    for label, of in (("value", "value"), ("likelihood", "likelihood"), ("nDCG@10", "gain")):
        tau |= taus(f"the probe's {label}", [probe[name][of] for name in names if name in probe], means)
    for label, of in critic.items():
        if set(names) <= set(of):
            tau |= taus(f"the critic's mean ({label})", [overall(of[name]) for name in names], means)
            few = " and ".join(f"{few_pairs(of, names, y):.2f} ({group})" for group, y in means.items())
            print(f"tau of the same over {FEW} pairs: {few}")
            if set(names) <= set(probe):
                ranks = rankdata([probe[name]["value"] for name in names]) + rankdata(
                    [overall(of[name]) for name in names]
                )
                tau |= taus(f"ranks of both together ({label})", list(ranks), means)
    for group, y in means.items():
        among = between_seeds([groups[group][name] for name in names])
        if among is not None:
            print(f"tau of a seed of full training with the mean of its others, {group} queries: {among:.2f}")
        print(f"last by full training, {group} queries: {names[int(np.argmin(y))]}")
    print(f"tau of full training, same with other queries: {kendalltau(means['same'], means['other']).statistic:.2f}")
    if set(names) <= set(probe):
        print(f"last by the probe: {min(names, key=lambda name: probe[name]['value'])}")
        ratio = sum(one["seconds"] for n in names for one in full[n]) / sum(probe[n]["seconds"] for n in names)
        print(f"full training costs {ratio:.0f} times as much as the probe, over {len(names)} sets")
    means_of = {label: {name: overall(values) for name, values in of.items()} for label, of in critic.items()}
    rows = {
        name: [{"same": one["held"], "other": other(one), "seconds": one["seconds"]} for one in full[name]]
        for name in names
    }
    return {"probe": probe, "critic": means_of, "tau": tau}, rows


def table(names: list[str], probe: Any, critic: Any, full: Any, means: dict[str, list[float]]) -> None:
    """One line for each set, the best by full training first."""
    judges = " ".join(f"{label:>9s}" for label in critic)
    print(
        f"\n{'set':22s} {'nDCG@10':>8s} {'error':>6s} {'likelihood':>10s} {'s':>5s} {judges} "
        f"{'full: same':>10s} {'other':>6s} {'s':>6s}"
    )
    for place in sorted(range(len(names)), key=lambda place: -means["same"][place]):
        name, blank = names[place], " " * 32
        if row := probe.get(name):
            blank = f"{row['gain']:+8.4f} {row['error']:6.4f} {row['likelihood']:+10.4f} {row['seconds']:5.1f}"
        values = [f"{overall(of[name]):9.3f}" if name in of else " " * 9 for of in critic.values()]
        seconds = sum(one["seconds"] for one in full[name])
        print(
            f"{name:22s} {blank} {' '.join(values)} {means['same'][place]:10.4f} {means['other'][place]:6.4f} "
            f"{seconds:6.0f}"
        )


def overall(values: dict[str, float]) -> float:
    """The critic's mean over all queries."""
    return float(np.mean(list(values.values())))


def taus(what: str, x: list[float], means: dict[str, list[float]]) -> Figures:
    """Print and return tau of a score with full training, on both groups of queries; nothing if a set has no score."""
    found: Figures = {}
    for group, y in means.items():
        if len(x) == len(y):
            low, high = interval(x, y)
            tau = float(kendalltau(x, y).statistic)
            found[f"{what}, {group}"] = {"tau": tau, "low": low, "high": high}
            print(f"tau of {what} with full training, {group} queries: {tau:.2f} (95 % {low:.2f} to {high:.2f})")
    return found


def few_pairs(critic: dict[str, dict[str, float]], names: list[str], y: list[float]) -> float:
    """Mean tau over random draws of `FEW` queries; a set without texts for them counts 0."""
    queries, draw, found = sorted({q for name in names for q in critic[name]}), random.Random(0), []
    for _ in range(DRAWS):
        drawn = draw.sample(queries, min(FEW, len(queries)))
        x = [float(np.mean([critic[name][q] for q in drawn if q in critic[name]] or [0.0])) for name in names]
        found.append(kendalltau(x, y).statistic)
    return float(np.mean(found))


def between_seeds(scores: list[list[float]]) -> float | None:
    """Mean tau of each seed with the mean of the others; None for a single seed."""
    seeds = min(map(len, scores))
    if seeds < 2:
        return None
    table = np.array([row[:seeds] for row in scores])
    return float(
        np.mean([kendalltau(table[:, s], np.delete(table, s, axis=1).mean(axis=1)).statistic for s in range(seeds)])
    )
