"""The judge of a run, and how well it does on labelled passages of the collection, before anything goes by it.

    judge_of(workspace) → TrustedJudge(lm, Calibration(kappa=.71, accuracy=.86, …)); None where none is trusted

Its answers are kept in judge.json.
"""

from __future__ import annotations

from dataclasses import asdict

from syneg.core.storage import read_json, write_json
from syneg.data.tasks import task_for
from syneg.negatives.calibration import Calibration, Labelled, TrustedJudge, calibrate, labelled_passages
from syneg.programs import Judge

from .keys import stage_key
from .workspace import Workspace


def judge_of(workspace: Workspace) -> TrustedJudge | None:
    """The judge's LM with its calibration; None if no judge is wanted, or if it is not trusted (one line says so)."""
    settings = workspace.config.judge
    if settings.use == "off" or (settings.use == "auto" and not workspace.is_strong):
        return None
    measured = calibration(workspace)
    if measured.trusted:
        return TrustedJudge(workspace.roles.judge_lm, measured)
    workspace.progress.say(
        f"  the judge is switched off: kappa {measured.kappa:.2f} (wanted {settings.min_kappa:g}), "
        f"p {measured.p_value:.2g}; the margin decides"
    )
    return None


def calibration(workspace: Workspace) -> Calibration:
    """The judge's answers on labelled passages of the collection."""
    questions, key = _inputs(workspace)

    def work() -> None:
        with workspace.progress.stage("calibrate", "passages") as line:
            measured = calibrate(questions, Judge(), workspace.roles.judge_lm, workspace.config.judge, line)
            line.note = (
                f"judge {measured.lm.split('@')[0]}: kappa {measured.kappa:.2f}, accuracy {measured.accuracy:.2f}"
            )
        write_json(workspace.folder.judge, asdict(measured))

    workspace.manifest.make("calibrate", key, workspace.folder.judge, work)
    return Calibration(**read_json(workspace.folder.judge))


def known_calibration(workspace: Workspace) -> Calibration | None:
    """The calibration that is on disk for these settings; None where the judge has to be asked."""
    key = _inputs(workspace)[1]
    if workspace.manifest.key("calibrate") != key or not workspace.folder.judge.exists():
        return None
    return Calibration(**read_json(workspace.folder.judge))


def _inputs(workspace: Workspace) -> tuple[list[Labelled], str]:
    """The labelled passages, and the key of the judge's answers on them."""
    config, judge = workspace.config, Judge()
    definition = task_for(config).definition
    questions = labelled_passages(workspace.collection, workspace.encoder, config.judge, definition, config.seed)
    identity = workspace.roles.judge_lm.identity
    return questions, stage_key("calibrate", config, [asdict(q) for q in questions], judge.dump_state(), identity)
