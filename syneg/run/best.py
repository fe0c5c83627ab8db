"""Save the best model of a run to best/: a complete copy from the arm and seed with the best score on dev.

save_best(workspace, verdict, arms)      → runs/x/best/{model.safetensors, …, README.md}
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from syneg.core.storage import replace_folder, write_text
from syneg.verdict.card import model_card
from syneg.verdict.records import BASE, Verdict

from .arms import Arm
from .workspace import Workspace

# training texts and logs: best/ is often published unchanged
_LEFT_OUT = ("job.json", "processes.log", "checkpoints")


def save_best(workspace: Workspace, compared: Verdict, arms: Sequence[Arm]) -> None:
    """Copy the model of the best arm and its best seed on dev to best/; the untuned encoder if no arm beats it.

    The copy is complete and on disk before it replaces an earlier best/.
    """
    draft, target = workspace.folder / ".best.tmp", workspace.folder.best
    shutil.rmtree(draft, ignore_errors=True)
    if compared.best == BASE:
        workspace.encoder.save(draft)
    else:
        scores = compared.arms[compared.best].dev_by_seed
        arm = next(arm for arm in arms if arm.name == compared.best)
        seed = max(scores, key=lambda seed: scores[seed], default=arm.config.train.seeds[0])
        model = workspace.folder.model(arm.file_name(seed))
        shutil.copytree(model, draft, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    write_text(draft / "README.md", model_card(compared, workspace.config.model_dump()))
    replace_folder(draft, target)
