"""MLflow, with its real file store."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import FakeLM

from syneg.core.progress import Progress
from syneg.core.settings import load_config
from syneg.run.pipeline import Run
from syneg.verdict.tracking import metrics

mlflow = pytest.importorskip("mlflow")


def test_a_finished_run_is_logged(
    tmp_path: Path, settings: Callable[..., list[str]], fake_lm: Callable[..., FakeLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path / 'tracked'}")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    overrides = settings(fake_lm().url, **{"track.mlflow": "negatives", "generate.pairs": 8})
    found = Run(tmp_path / "run", load_config(None, overrides), Progress(quiet=True)).until("verdict")
    (logged,) = mlflow.search_runs(experiment_names=["negatives"], output_format="list")
    assert logged.info.run_name == "run"
    for more in ([], ["evaluate.alpha=0.01"]):  # the same again, and with another setting
        Run(tmp_path / "run", load_config(None, [*overrides, *more]), Progress(quiet=True)).until("verdict")
        assert len(mlflow.search_runs(experiment_names=["negatives"], output_format="list")) == 1 + len(more)
    assert logged.data.params["generate.pairs"] == "8"
    assert logged.data.metrics["test/hybrid/ndcg_10"] == pytest.approx(found["arms"]["hybrid"]["test"]["ndcg@10"])
    assert [*(tmp_path / "tracked").rglob("verdict.json")]
    assert not [
        path for path in (tmp_path / "tracked").rglob("*") if path.is_file() and b"sk-planted" in path.read_bytes()
    ]


def test_the_name_of_an_arm_with_settings_is_one_that_mlflow_takes() -> None:
    result = SimpleNamespace(dev={}, confirm={}, test={"ndcg@10": 0.5})
    names = [*metrics(SimpleNamespace(arms={"hybrid@ratio=0.7": result}))]  # type: ignore[arg-type]
    assert names == ["test/hybrid_x40ratio_x3D0.7/ndcg_10"]
    assert re.fullmatch(r"[\w\-. /]+", names[0])
