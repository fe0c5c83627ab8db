"""What a run consists of: its folder, its workspace, its synthetic negatives, its grades and its arms.

    parts = Parts(Path("runs/python-docs"), config, Progress())
    parts.readings.grades   → {"bisect.insort": {"heapq.heappush": 1, …}, …}

Each part is made when it is first asked for. The functions that make the results of stages (`made`) work on these
parts; `Run` (`pipeline`) walks the path of stages over them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from syneg.core.progress import Progress

from .folder import RunFolder

# Modules that load dspy or torch are imported where they are used: `--help` imports this module, too.
if TYPE_CHECKING:
    import dspy

    from syneg.core.config import Config
    from syneg.data.collection import Collection

    from .experiment import Experiment
    from .negative_sets import NegativeSets
    from .readings import Readings
    from .sampler import SamplerChoice


@dataclass(frozen=True)
class Batch:
    """LM calls by files instead of by calling: answers are read from `answers`, and new requests written to
    `requests`."""

    answers: tuple[Path, ...] = ()
    requests: Path | None = None


class Parts:
    """The parts of one run, and how LM calls are made: at once, or by files (`batch`)."""

    def __init__(
        self,
        folder: Path,
        config: Config,
        progress: Progress,
        batch: Batch | None = None,
        collection: Collection | None = None,
    ) -> None:
        """A `collection` in memory takes the place of the one that the settings name."""
        from syneg.llm.batch_files import Pending

        from .workspace import Workspace

        self.folder, self.batch = RunFolder(Path(folder)), batch
        self.pending = Pending(self.folder.path, config.lm.retries) if batch else None
        self.workspace = Workspace(self.folder, config, progress, self.pending, collection)

    @property
    def config(self) -> Config:
        """The settings of the run."""
        return self.workspace.config

    def load_program(self, name: str, prefix: str = "") -> dspy.Module:
        """Load `name`, compiled if it is the run's own program; save its state and prompts as {prefix}program.json and
        .md."""
        from syneg.llm.capabilities import adapter_for
        from syneg.programs import load_program

        from .compile import compiled
        from .compile_writer import WriterPlan
        from .compiled import save_program

        program = load_program(name)
        if not self.config.compile.improves("writer") or prefix:
            save_program(self.folder, prefix, program, name, adapter_for(self.config.lm))
            return program
        best = compiled(self.workspace, WriterPlan(self.workspace, name, program))
        save_program(self.folder, prefix, best, name, adapter_for(self.config.lm), before=program)
        return best

    @cached_property
    def negatives(self) -> NegativeSets:
        """The synthetic negatives of the run."""
        from .negative_sets import NegativeSets

        return NegativeSets(self.workspace, self.load_program, self.readings.candidates)

    @cached_property
    def experiment(self) -> Experiment:
        """The arms of the run."""
        from .experiment import Experiment

        return Experiment(self.workspace, self.negatives, self.readings, settle=self.sampler.settled)

    @cached_property
    def sampler(self) -> SamplerChoice:
        """How negatives are chosen and mixed, where that is compiled."""
        from .sampler import SamplerChoice

        return SamplerChoice(self.workspace, self.negatives, self.readings)

    @cached_property
    def readings(self) -> Readings:
        """The grades of the run's reader."""
        from .readings import Readings

        return Readings(self.workspace)
