"""A finished run in MLflow (the extra `mlflow`): settings as parameters, means as metrics, verdict and report as artifacts.

    syneg-dspy run --set track.mlflow=negatives        into the experiment "negatives", at MLFLOW_TRACKING_URI

Metrics are called SPLIT/ARM/METRIC, as in "test/hybrid/ndcg_10". Nothing is sent before the verdict is on disk.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from syneg.core.errors import BackendError, one_line

_ARTIFACTS = ("verdict.json", "report.html", "config.toml", "program.md")
_CUT = 500  # characters of a parameter that MLflow takes for sure


def track(experiment: str, folder: Path, settings: dict[str, Any], verdict: dict[str, Any]) -> str:
    """Log one run; returns its id. Raises BackendError without MLflow, or where it does not answer."""
    try:
        import mlflow
    except ImportError as error:
        raise BackendError("MLflow is not installed", todo="pip install 'syneg-dspy[mlflow]'") from error
    try:
        mlflow.set_experiment(experiment)
        with mlflow.start_run(run_name=folder.name) as run:
            mlflow.log_params(parameters(settings))
            mlflow.log_metrics(metrics(verdict))
            for name in _ARTIFACTS:
                if (folder / name).is_file():
                    mlflow.log_artifact(str(folder / name))
    except (mlflow.exceptions.MlflowException, OSError) as error:
        raise BackendError(
            f"MLflow at {mlflow.get_tracking_uri()!r}: {one_line(error)}",
            todo="check MLFLOW_TRACKING_URI; the run itself is complete",
        ) from error
    return str(run.info.run_id)


def parameters(settings: dict[str, Any]) -> dict[str, str]:
    """section.key → value, as text."""
    flat: dict[str, str] = {}
    for section, values in settings.items():
        for key, value in values.items() if isinstance(values, dict) else [("", values)]:
            flat[f"{section}.{key}".rstrip(".")] = str(value)[:_CUT]
    return flat


def metrics(verdict: dict[str, Any]) -> dict[str, float]:
    """Means of every arm and split."""
    return {
        f"{split}/{arm}/{metric.replace('@', '_')}": value
        for arm, found in verdict["arms"].items()
        for split, values in found.items()
        if isinstance(values, dict)
        for metric, value in values.items()
        if isinstance(value, float)
    }
