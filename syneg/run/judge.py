"""Measure the judge of a run on labelled passages of the collection, and use it only if it is trusted.

    judge_of(workspace) → TrustedJudge(lm, Calibration(kappa=.71, accuracy=.86, …)), or TrustedReader(…), or None

The calibration is kept in judge.json.
"""

from __future__ import annotations

from dataclasses import asdict

from syneg.core.storage import read_json, write_json
from syneg.data.tasks import task_for
from syneg.negatives.calibration import Calibration, Labelled, TrustedJudge, calibrate, labelled_passages
from syneg.negatives.text_reading import TrustedReader
from syneg.programs import Judge

from .keys import stage_key
from .workspace import Workspace


def judge_of(workspace: Workspace) -> TrustedJudge | TrustedReader | None:
    """Return the judge's LM and calibration. If no judge is wanted or it is not trusted (with a message), return the
    run's reader where it may decide in place of the margin, and None where the margin decides."""
    settings = workspace.config.judge
    if settings.use == "off" or (settings.use == "auto" and not workspace.is_strong):
        return workspace.text_reader()
    measured = calibration(workspace)
    if measured.trusted:
        return TrustedJudge(workspace.roles.judge_lm, measured)
    reader = workspace.text_reader()
    workspace.progress.say(
        f"  the judge is switched off: kappa {measured.kappa:.2f} (wanted {settings.min_kappa:g}), "
        f"p {measured.p_value:.2g}; the {'reader' if reader else 'margin'} decides"
    )
    return reader


def calibration(workspace: Workspace) -> Calibration:
    """Calibrate the judge on labelled passages, or read the calibration from judge.json if the inputs are the same."""
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
    """Read the calibration for these settings from judge.json; None if there is none. Calls no LM."""
    key = _inputs(workspace)[1]
    if not workspace.manifest.has("calibrate", key, workspace.folder.judge):
        return None
    return Calibration(**read_json(workspace.folder.judge))


def _inputs(workspace: Workspace) -> tuple[list[Labelled], str]:
    """Return the labelled passages, and the key of the calibration on them."""
    config, judge = workspace.config, Judge()
    definition = task_for(config).definition
    questions = labelled_passages(workspace.collection, workspace.encoder, config.judge, definition, config.seed)
    identity = workspace.roles.judge_lm.identity
    return questions, stage_key("calibrate", config, [asdict(q) for q in questions], judge.dump_state(), identity)
