"""What the plans of reader and queries share: nothing is trained, and examples that no proposal has seen decide.

plan = QueriesPlan(workspace, "write_queries", WriteQueries())     a DecidedPlan
plan.check()           → DataError: 1 passages are left to decide whether the compiled program is better; …
plan.key               → "5f0c…", a hash of everything that the outcome depends on
deciding(config, "openai/gpt-4o-mini") → 300
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import dspy

from syneg.core.config import Config
from syneg.core.errors import DataError
from syneg.data.tasks import task_for
from syneg.llm.lms import LanguageModel

from .compile import LEAST_CONFIRM
from .keys import source_of, stage_key
from .workspace import Workspace

_MANY, _EMBEDDED = 300, 60  # examples that decide, with a remote and an embedded LM


def deciding(config: Config, model: str) -> int:
    """How many examples are to decide, if the program runs with the LM `model`; 0 stands for all that are left."""
    wanted = config.compile.confirm_queries
    if wanted == "auto":
        return _EMBEDDED if model.startswith("local/") else _MANY
    return wanted


class DecidedPlan(ABC):
    """A plan (`syneg.run.compile.Plan`) for the program `name`, whose winner is decided by the target's own metric."""

    stage: str
    "Name of the stage in the manifest."
    prefix: str
    "Prefix of the files in the run folder."
    unit: str
    "What decides, in the plural."

    def __init__(self, workspace: Workspace, name: str, program: dspy.Module) -> None:
        self._workspace, self.name, self.program = workspace, name, program
        self.path = workspace.folder.compiled(self.prefix)
        self._definition = task_for(workspace.config).definition

    @property
    @abstractmethod
    def lm(self) -> LanguageModel:
        """The LM that runs the program."""

    @property
    @abstractmethod
    def examples(self) -> int:
        """Number of examples that candidates are tried on."""

    @property
    @abstractmethod
    def deciding(self) -> int:
        """Number of examples that decide."""

    def check(self) -> None:
        """Raise DataError if `compile.confirm` is set and too few examples are left to decide."""
        if self._workspace.config.compile.confirm and self.deciding < LEAST_CONFIRM:
            raise DataError(
                f"too few {self.unit} are left to decide whether the compiled program is better: {self.deciding}",
                todo="lower compile.pairs, or let the score decide alone with --set compile.confirm=false",
            )

    @property
    def key(self) -> str:
        """A hash of settings, data, encoder, LMs and program."""
        workspace = self._workspace
        encoder, reflection = workspace.encoder, workspace.roles.reflection
        return stage_key(
            self.stage, workspace.config, workspace.collection.fingerprint, encoder.fingerprint, encoder.prompts,
            self.lm.identity, reflection.identity, self.program.dump_state(), source_of(self.name),
        )  # fmt: skip
