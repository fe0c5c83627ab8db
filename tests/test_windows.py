"""`mine.margin = auto`: chosen on dev, and only what gains on queries that it was not chosen on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from syneg.core.progress import Progress
from syneg.core.settings import load_config
from syneg.core.storage import read_json, read_rows
from syneg.optimizers.racing import fold_of
from syneg.run import windows
from syneg.run.pipeline import Run
from syneg.run.windows import WINDOWS, choose

QUERIES = [f"q{i}" for i in range(40)]
PerQuery = dict[str, dict[str, float]]


def values(gain: Callable[[str], float]) -> PerQuery:
    """A window that gains so much a query over one of .5."""
    return {
        "ndcg@10": {q: 0.5 + gain(q) for q in QUERIES},
        "likelihood": dict.fromkeys(QUERIES, -1.0),
        "boundary": {},
    }


def test_a_window_that_gains_everywhere_is_chosen() -> None:
    found = {"rule": values(lambda q: 0), "worse": values(lambda q: -0.05), "better": values(lambda q: 0.04)}
    choice = choose(found)
    assert (choice.window, choice.queries) == ("better", 40)
    assert choice.cross == pytest.approx(0.04)
    assert choice.gains["worse"] == (pytest.approx(-0.05), pytest.approx(0, abs=1e-9))


def test_what_gains_on_one_half_only_is_not_chosen() -> None:
    lucky = values(lambda q: 0.08 if fold_of(q, 2) else -0.04)
    choice = choose({"rule": values(lambda q: 0), "lucky": lucky})
    assert choice.window == "rule"
    assert choice.cross < 0
    assert choice.gains["lucky"][0] > 0  # over all queries it looks better


def test_the_chosen_window_is_mined_and_said(
    tmp_path: Path, settings: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = settings("http://127.0.0.1:9", **{"mine.margin": "auto", "probe.steps": 2, "mine.per_query": 20})

    def mined(*more: str) -> tuple[Run, list[dict[str, object]]]:
        run = Run(tmp_path / "run", load_config(None, [*overrides, *more]), Progress(quiet=True))
        run.until("mine")
        return run, list(read_rows(run.folder.mined))

    run, _ = mined()
    kept = read_json(run.folder.window)
    assert set(kept["gains"]) == {window.name for window in WINDOWS[1:]}
    assert kept["window"] in {window.name for window in WINDOWS}
    said = " ".join(row.get("text", "") for row in read_rows(run.folder.events))
    assert f"mined by {kept['window']}" in said
    monkeypatch.setattr(windows, "choose", lambda found: windows.Choice("no margin, from rank 11", {}, 0.1, 9))
    run, rows = mined("seed=1")
    assert min(int(str(row["rank"])) for row in rows) == 11
    assert run.workspace.mining.margin == pytest.approx(1e9)
    near = run.workspace.mine_for(run.negatives.held_out()[:3]).negatives
    assert min(negative.rank for negatives in near.values() for negative in negatives) == 11
