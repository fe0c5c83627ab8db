"""Hold the parts of a run: its folder, its workspace, its synthetic negatives, its grades and its arms.

    parts = Parts(Path("runs/python-docs"), config, Progress())
    parts.readings.grades   → {"bisect.insort": {"heapq.heappush": 1, …}, …}

Each part is made on first use. `made` computes the results of stages from these parts; `Run` (`pipeline`) runs the
stages in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from syneg.core.errors import DataError
from syneg.core.progress import Progress

from .folder import RunFolder

# `--help` imports this module, so modules that load dspy or torch are imported inside functions.
if TYPE_CHECKING:
    import dspy

    from syneg.core.config import Config
    from syneg.data.collection import Collection

    from .experiment import Experiment
    from .negative_sets import NegativeSets
    from .readings import Readings
    from .sampler import SamplerChoice


_LONGEST_LINE = 2**24  # bytes


@dataclass(frozen=True)
class Batch:
    """Batch files in place of LM calls: answers are read from `answers`, new requests are written to `requests`.

    With `requests` None they are written to requests.jsonl of the run folder.
    """

    answers: tuple[Path, ...] = ()
    requests: Path | None = None

    def __post_init__(self) -> None:
        """Raise DataError for answers that are not there, and if `requests` is a folder or a file of something else."""
        if missing := [str(path) for path in self.answers if not path.is_file()]:
            from syneg.data.tables import look_at

            raise DataError(f"no such file {missing[0]!r} (--batch import)", todo=look_at(missing[0]))
        if self.requests is not None and self.requests.is_dir():
            raise DataError(f"{str(self.requests)!r} is a folder (--batch export)", todo="name a file in it")
        if self.requests is not None and not _is_of_a_batch(self.requests):
            raise DataError(f"{str(self.requests)!r} holds other lines than requests (--batch export)",
                            todo="name another file")  # fmt: skip


def _is_of_a_batch(path: Path) -> bool:
    """Whether a file of requests may be written over: it is not there, is empty, or is one of requests or results."""
    if not path.exists():
        return True
    with path.open("rb") as file:
        first = file.readline(_LONGEST_LINE)
    return not first or b'"custom_id"' in first


class Parts:
    """The parts of one run. LMs are called directly, or through batch files if `batch` is given."""

    def __init__(
        self,
        folder: Path,
        config: Config,
        progress: Progress,
        batch: Batch | None = None,
        collection: Collection | None = None,
    ) -> None:
        """`collection`, if given, replaces the collection that the settings name."""
        from syneg.llm.batch_files import Pending

        from .text_reader import text_reader
        from .workspace import Workspace

        self.folder, self.batch = RunFolder(Path(folder)), batch
        self.pending = Pending(self.folder.path, config.lm.retries) if batch else None
        self.workspace = Workspace(self.folder, config, progress, self.pending, collection)
        self.workspace.unjudged = lambda: self.readings.unjudged
        self.workspace.text_reader = lambda: text_reader(self.workspace, self.readings.reader)

    @property
    def config(self) -> Config:
        """The settings of the run."""
        return self.workspace.config

    def load_program(self, name: str, prefix: str = "") -> dspy.Module:
        """Load the program `name`, and compile it if the settings say so and `prefix` is "".

        Saves its state as {prefix}program.json and its prompts as {prefix}program.md.
        """
        from syneg.llm.capabilities import adapter_for
        from syneg.programs import load_program

        from .compile import compiled
        from .compile_writer import WriterPlan
        from .compiled import save_program
        from .confirming import near_misses_to_compile

        program = load_program(name)
        if not self.config.compile.improves("writer") or prefix:
            save_program(self.folder, prefix, program, name, adapter_for(self.config.lm))
            return program
        plan = WriterPlan(
            self.workspace, name, program, readings=self.readings,
            near=lambda: near_misses_to_compile(self.workspace, name, self.negatives.written),
        )  # fmt: skip
        best = compiled(self.workspace, plan)
        save_program(self.folder, prefix, best, name, adapter_for(self.config.lm), before=program)
        return best

    @cached_property
    def negatives(self) -> NegativeSets:
        """The run's sets of synthetic negatives, one for each program."""
        from .negative_sets import NegativeSets

        return NegativeSets(self.workspace, self.load_program, self.readings.candidates)

    @cached_property
    def experiment(self) -> Experiment:
        """The arms of the run, with their training, evaluation and verdict."""
        from .experiment import Experiment

        return Experiment(self.workspace, self.negatives, self.readings, sampler=self.sampler)

    @cached_property
    def sampler(self) -> SamplerChoice:
        """The settings of mining and mixing that `compile --target sampler` chooses."""
        from .sampler import SamplerChoice

        return SamplerChoice(self.workspace, self.negatives, self.readings)

    @cached_property
    def readings(self) -> Readings:
        """The grades that the run's reader gives to passages near the train queries."""
        from .readings import Readings

        return Readings(self.workspace)
