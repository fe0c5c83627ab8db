"""MLflow, with its real file store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import FakeLM

from syneg.core.progress import Progress
from syneg.core.settings import load_config
from syneg.run.pipeline import Run

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
