"""Run the path of stages: collection, split guard, mine, compile, generate, gates, mix, train, evaluate, verdict.

    Run(Path("runs/python-docs"), config, Progress()).until("verdict") → the data of verdict.json

`STAGES` lists the stages in order. Each row is a command: it makes one result and prints it. A result in the run folder
is reused if its key is the same (`keys`), and made again if an input changed. Files are written atomically, so that a
crash leaves none half written (`syneg.core.storage`). Generation and training continue where they stopped.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from syneg.core.errors import ConfigError
from syneg.core.storage import write_text
from syneg.llm.open_calls import Finishing

from . import made, show
from .folder import RunFolder, RunLock, version
from .made import Result
from .parts import Parts
from .targets import TARGETS

# `--help` reads STAGES, so modules that load dspy or torch are imported inside functions.
if TYPE_CHECKING:
    from syneg.core.config import Config

    from .figures import Estimate

_PACKAGES = ("syneg-dspy", "dspy", "litellm", "sentence-transformers", "torch", "faiss-cpu", "ir-datasets", "ranx")


class Run(Parts):
    """The run of one folder. A stage first runs the earlier stages whose results it needs."""

    def until(self, stage: str) -> Result:
        """Run the stages up to and including `stage` (a key of STAGES); return its result as plain data.

        Raises the errors of `syneg.core.errors`; the message of each is one line that says what to do.
        """
        from .checks import check

        row = STAGES[stage]

        def work(run: Run) -> Result:
            run.workspace.announce(lambda: f"  {run._estimate(stage).line()}")
            return row.make(run)

        return self._held(work, partial(check, self.config, row.asks(self.config)))

    def estimate(self, stage: str = "verdict") -> Result:
        """Estimate what is left to do up to `stage`: calls, tokens, dollars and minutes. Calls no LM.

        Raises ConfigError if the queries have to be written first.
        """
        from .checks import check_estimate

        def work(run: Run) -> Result:
            estimate = run._estimate(stage)
            parts = [asdict(part) for part in (*estimate.parts, estimate.whole)]
            return {"parts": parts, "notes": estimate.notes, "line": estimate.line(), "table": estimate.table()}

        if self.config.writes_queries and not self.folder.queries.is_file():
            raise ConfigError(
                f"up to {self.config.queries.passages} calls write queries first; the rest can be estimated when "
                "there are some",
                todo="run `syneg-dspy write-queries` with the same flags, then this again",
            )
        checks = partial(check_estimate, self.config, STAGES[stage].asks(self.config))
        return self._held(work, checks, keep=self.folder.config.is_file())

    def _estimate(self, stage: str) -> Estimate:
        from .dry_run import estimate

        return estimate(self, stage)

    def _held(self, work: Callable[[Run], Result], check: Callable[[], None], *, keep: bool = False) -> Result:
        """Check the settings, run `work` with the folder locked, then close the LMs. `keep` leaves the settings in the
        folder as they are."""
        from syneg.core.toml import to_toml

        config = self.config
        check()
        with RunLock(self.folder), self.workspace.progress.kept(self.folder.events):
            versions = {name: version(name) for name in _PACKAGES}
            self.workspace.manifest.note(versions=versions, python=platform.python_version(), seed=config.seed)
            if not keep:
                write_text(self.folder.config, to_toml(config))
            try:
                with Finishing(self.workspace.progress.say):
                    _ = self.workspace.collection  # read data first: a bad collection fetches no model
                    return work(self)
            finally:
                self.workspace.close()


@dataclass(frozen=True)
class Stage:
    """One stage of the path, and its command.

    `make` runs the earlier stages, then this one, and returns the result as plain data. `show` turns that into text.
    `sections` are the sections of the settings that the stage reads; the command has their flags. `writes` says that
    the stage always calls an LM; other stages call one only if an arm has synthetic negatives.
    """

    name: str
    command: str
    help: str
    sections: tuple[str, ...]
    make: Callable[[Parts], Result]
    show: Callable[[RunFolder, Mapping[str, Any]], str]
    writes: bool = False

    def asks(self, config: Config) -> set[str]:
        """Return the sections of the LMs that the stage is sure to call, as far as the settings tell."""
        from .arms import arms

        own = TARGETS[config.compile.target].lm if self.name == "compile" else "lm" if self.writes else ""
        synthetic = not own and "generate" in self.sections and any(arm.wants_synthetic for arm in arms(config))
        asked = {own} - {""} | ({"lm"} if synthetic or config.writes_queries else set())
        near = synthetic and "boundary" in self.sections and config.boundary.model and config.boundary.queries != 0
        return asked | ({"reader"} if self._reads(config) else set()) | ({"boundary"} if near else set())

    def _reads(self, config: Config) -> bool:
        """Whether the stage is sure to call the LM of the reader. An embedded LM reads for arms only if told to."""
        from .arms import arms

        reader = config.reader
        if reader.given or reader.cross_encoder:
            return False
        embedded = reader.beside(config.lm).model.startswith("local/")
        fed = reader.use == "on" or (reader.use == "auto" and not embedded)
        wanted = "evaluate" in self.sections and any(arm.reads or arm.grounds for arm in arms(config))
        return self.name == "read" or (wanted and fed)


_QUERIES = ("collection", "queries", "encoder", "executor", "lm", "budget")
_DATA = ("collection", "queries", "encoder", "executor", "mine")
_READING = (*_DATA, "lm", "reader", "budget")
_WRITING = (*_READING, "generate", "gates", "judge")
_COMPILING = (*_WRITING, "compile", "reflection", "probe", "mix", "train")
_ALL = (*_COMPILING, "boundary", "evaluate", "track")
_ROWS = (
    Stage("queries", "write-queries", "Write queries for a corpus that has none.",
          _QUERIES, made.queries, show.queries, writes=True),
    Stage("mine", "mine", "Mine hard negatives from the corpus.", _DATA, made.mined, show.mined),
    Stage("read", "read", (
        "Grade the passages near the train queries, with a reader that is measured first."
    ), _READING, made.read, show.read),
    Stage("calibrate", "calibrate-judge", "Measure the judge on labelled passages.",
          _WRITING, made.calibrated, show.calibrated, writes=True),
    Stage("compile", "compile", "Optimize the program against retrieval.",
          _COMPILING, made.compiled, show.compiled, writes=True),
    Stage("generate", "generate", "Write synthetic negatives and gate them.",
          _COMPILING, made.generated, show.generated, writes=True),
    Stage("train", "train", "Train the encoder of every arm.", _ALL, made.trained, show.trained),
    Stage("evaluate", "evaluate", "Rank the whole corpus with every arm.", _ALL, made.evaluated, show.evaluated),
    Stage("verdict", "run", "Run the whole path, to a verdict.", _ALL, made.verdict, show.verdict),
)  # fmt: skip
STAGES = {stage.name: stage for stage in _ROWS}
