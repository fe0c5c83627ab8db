"""Log a finished run to MLflow (the extra `mlflow`).

    syneg-dspy run --set track.mlflow=negatives        logs to the experiment "negatives", at MLFLOW_TRACKING_URI

Settings become parameters, means become metrics called SPLIT/ARM/METRIC ("test/hybrid/ndcg_10"), verdict and report
become artifacts. Nothing is sent before the verdict is on disk.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from syneg.core.errors import BackendError, one_line

from .records import Verdict

_ARTIFACTS = ("verdict.json", "report.html", "config.toml", "program.md")
_NO_NAME = re.compile(r"[^A-Za-z0-9_.-]")
_CUT = 500  # characters: every version of MLflow accepts parameters of this length


def track(experiment: str, folder: Path, settings: Mapping[str, object], verdict: Verdict) -> str:
    """Log one run to the MLflow experiment `experiment`; return the id that MLflow gives it.

    `settings` are by section. Raises BackendError if MLflow is not installed or does not answer.
    """
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


def parameters(settings: Mapping[str, object]) -> dict[str, str]:
    """section.key → value as text, of at most 500 characters."""
    flat: dict[str, str] = {}
    for section, values in settings.items():
        for key, value in values.items() if isinstance(values, dict) else [("", values)]:
            flat[f"{section}.{key}".rstrip(".")] = str(value)[:_CUT]
    return flat


def metrics(verdict: Verdict) -> dict[str, float]:
    """SPLIT/ARM/METRIC → mean. A letter that MLflow refuses becomes its code: "test/hybrid_x40ratio_x3D0.7/ndcg_10"."""
    splits = {
        (split, arm): values
        for arm, result in verdict.arms.items()
        for split, values in (("dev", result.dev), ("confirm", result.confirm), ("test", result.test))
    }
    return {
        f"{split}/{_NO_NAME.sub(_spelt, arm)}/{metric.replace('@', '_')}": value
        for (split, arm), values in splits.items()
        for metric, value in values.items()
    }


def _spelt(letter: re.Match[str]) -> str:
    return f"_x{ord(letter.group()):X}"
