from __future__ import annotations

from pathlib import Path

from syneg.run import show
from syneg.run.folder import RunFolder


def test_trainings_and_evaluations_are_tables_on_a_terminal(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    made = {
        "steps": 12,
        "seconds": 30.4,
        "synthetic_share": 0.25,
        "dev": [[6, 0.4], [12, 0.41]],
        "alphas": [[0.5, 0.42]],
    }
    plain = {"steps": 12, "seconds": 9.0, "synthetic_share": 0.0, "dev": [], "alphas": []}
    assert show.trained(folder, {"hybrid-0": made, "in-batch-0": plain}).splitlines() == [
        "model       steps  seconds  synthetic  dev nDCG@10",
        "hybrid-0       12       30        25%       0.4200",
        "in-batch-0     12        9         0%            -",
        f"models: {tmp_path / 'models'}",
    ]
    seeds = [{"test": {"ndcg@10": 0.4, "mrr@10": 0.5}}, {"test": {"ndcg@10": 0.6, "mrr@10": 0.5}}]
    assert show.evaluated(folder, {"base": seeds[:1], "mined": seeds}).splitlines() == [
        "arm    seeds  split  ndcg@10  mrr@10",
        "base       1   test   0.4000  0.5000",
        "mined      2   test   0.5000  0.5000",
        f"rankings: {tmp_path / 'runs'}",
    ]
