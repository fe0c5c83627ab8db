"""Make what generate and compile share in one workspace: the task with its planned domains, and the gates.

task = planned_task(workspace, config)           → Task("A passage is relevant …", domains=("oncology", …), …)
gating_of(workspace, assignment, judge=None)     → Gating(collection, encoder, GatesConfig(), 200, "A passage …")
"""

from __future__ import annotations

from syneg.core.config import Config
from syneg.data.tasks import Task, task_for
from syneg.negatives.assignment import Assignment, plan_domains
from syneg.negatives.calibration import TrustedJudge
from syneg.negatives.gating import Gating
from syneg.negatives.text_reading import TrustedReader

from .workspace import Workspace


def planned_task(workspace: Workspace, config: Config) -> Task:
    """Return the run's task. If `generate.plan` is set and `generate.domains` is empty, the writer names them."""
    task = task_for(config)
    if not config.generate.plan or config.generate.domains:
        return task
    with workspace.progress.stage("plan") as line, workspace.roles.used_for("plan"):
        passages = workspace.collection.passages
        task = plan_domains(task, passages, workspace.roles.writer, config.seed)
        line.note = ", ".join(task.domains)
    return task


def gating_of(workspace: Workspace, assignment: Assignment, judge: TrustedJudge | TrustedReader | None) -> Gating:
    """Return the gates for the texts of `assignment`; without a `judge` no LM checks them."""
    config = assignment.config
    return Gating(
        workspace.collection, workspace.encoder, config.gates, config.generate.passage_words,
        assignment.task.definition, judge,
    )  # fmt: skip
