"""A run folder: the names of its files, the lock that one process holds, and the manifest.

    folder = RunFolder(Path("runs/python-docs"))
    folder.mined               → runs/python-docs/mined.jsonl
    folder.model("hybrid-0")   → runs/python-docs/models/hybrid-0

manifest.json says for each stage which inputs its result was made from, and holds facts about the run:

    {"stages": {"mine": "5f0c…", "train hybrid-0": "91ab…"}, "seed": 0, "versions": {"torch": "2.13.0", …}, …}

A stage has a key, a hash of everything that its result depends on (`syneg.run.keys`). A result is used when its key is
the same, and made again when not. The manifest is written in one step after each change.
"""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syneg.core.errors import DataError
from syneg.core.storage import JsonObject, as_read, read_json, write_json

try:
    import fcntl
except ImportError:  # Windows has no flock; runs are then not guarded against a second process
    fcntl = None  # type: ignore[assignment]


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run folder by name; `folder / "x"` gives any other."""

    path: Path

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def config(self) -> Path:
        """The resolved settings."""
        return self.path / "config.toml"

    @property
    def events(self) -> Path:
        """What was said and how long each stage took, one JSON row each."""
        return self.path / "events.jsonl"

    @property
    def bad_rows(self) -> Path:
        """Rows of the collection that could not be read, and queries in two splits."""
        return self.path / "bad_rows.jsonl"

    @property
    def queries(self) -> Path:
        """Queries that were written for a corpus without any."""
        return self.path / "queries.jsonl"

    @property
    def mined(self) -> Path:
        """Mined negatives with source, rank and score."""
        return self.path / "mined.jsonl"

    @property
    def ledger(self) -> Path:
        """Every LM call."""
        return self.path / "ledger" / "calls.jsonl"

    @property
    def judge(self) -> Path:
        """The calibration of the judge."""
        return self.path / "judge.json"

    @property
    def window(self) -> Path:
        """Which passages are mined, where that was chosen on dev."""
        return self.path / "window.json"

    @property
    def reader(self) -> Path:
        """How the reader did on dev queries."""
        return self.path / "reader.json"

    @property
    def readings(self) -> Path:
        """The grades of passages near the train queries."""
        return self.path / "readings.jsonl"

    @property
    def teacher(self) -> Path:
        """Scores of a cross-encoder that teaches, and how its order did on dev."""
        return self.path / "teacher.json"

    def compiled(self, prefix: str = "") -> Path:
        """What a compilation found; `prefix` is that of its target (`syneg.run.targets`)."""
        return self.path / f"{prefix}compiled.json"

    @property
    def best(self) -> Path:
        """The best model on dev, the base included."""
        return self.path / "best"

    @property
    def verdict(self) -> Path:
        """The verdict as data."""
        return self.path / "verdict.json"

    @property
    def report(self) -> Path:
        """The verdict as a page."""
        return self.path / "report.html"

    @property
    def card(self) -> Path:
        """The card of the data set that was made."""
        return self.path / "README.md"

    @property
    def requests(self) -> Path:
        """Requests that wait for a batch, where no other file is named."""
        return self.path / "requests.jsonl"

    def negatives(self, stem: str = "negatives") -> Path:
        """A set of synthetic negatives, accepted or not."""
        return self.path / f"{stem}.jsonl"

    def program(self, prefix: str = "") -> Path:
        """The state of a program; its prompts stand beside it as .md."""
        return self.path / f"{prefix}program.json"

    def prompts(self, prefix: str = "") -> Path:
        """The prompts of a program as text."""
        return self.path / f"{prefix}program.md"

    def model(self, name: str) -> Path:
        """A trained model."""
        return self.path / "models" / name

    def rows(self, name: str) -> Path:
        """The rows that a model was trained on, epoch by epoch."""
        return self.path / "rows" / f"{name}.jsonl"

    def evaluation(self, name: str) -> Path:
        """Rankings and metrics of a model."""
        return self.path / "evaluation" / f"{name}.json"

    def boundary(self, name: str) -> Path:
        """Scores of a model at the boundary."""
        return self.path / "boundary" / f"{name}.json"

    def trec(self, name: str, split: str) -> Path:
        """Ranking of a split by a model, as a TREC run file."""
        return self.path / "runs" / f"{name}.{split}.trec"

    def log(self, name: str) -> Path:
        """What the embedded server of an LM prints."""
        return self.path / f"{name}.log"


def default_folder(dataset: str) -> Path:
    """runs/NAME for a data set: the stem of a file or folder, else its id."""
    path = Path(dataset).expanduser()
    name = (path.stem if path.is_file() else path.name) if path.exists() else dataset
    return Path("runs") / "".join(c if c.isalnum() or c in "-._" else "-" for c in name)


class Manifest:
    """Opened once by the process that holds the lock of the run folder."""

    def __init__(self, folder: Path | RunFolder) -> None:
        self._path = folder / "manifest.json"
        self.facts: JsonObject = read_json(self._path) or {}
        self._stages: dict[str, str] = self.facts.setdefault("stages", {})

    def key(self, stage: str) -> str | None:
        """The key of the result on disk; None where there is none."""
        return self._stages.get(stage)

    def make(self, stage: str, key: str, path: Path, work: Callable[[], None]) -> bool:
        """Run `work`, which writes `path`, unless the result for `key` exists; return whether it ran.

        The old key is dropped before `work` begins, so that a stage that breaks off leaves no old key on a new file.
        """
        if self.key(stage) == key and path.exists():
            return False
        self.drop(stage)
        work()
        self.done(stage, key)
        return True

    def drop(self, stage: str) -> None:
        """Forget the result of `stage`."""
        if self._stages.pop(stage, None) is not None:
            write_json(self._path, self.facts)

    def done(self, stage: str, key: str) -> None:
        """Note that the result of `stage` is on disk under `key`."""
        self._stages[stage] = key
        write_json(self._path, self.facts)

    def note(self, **facts: Any) -> None:
        """Facts beside the stages, such as counts: as they will be read from the file, in the same order."""
        self.facts.update(as_read(facts))
        write_json(self._path, self.facts)


def version(package: str) -> str:
    """The installed version of a package, in words when there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


_WORTHLESS = {".lock", "config.toml", "events.jsonl", "manifest.json"}


class RunLock:
    """Holds a run folder for one process; the lock dies with the process, however it ends.

    A folder that the lock made is removed again where an error leaves nothing of worth in it, as a mistyped name does.
    """

    def __init__(self, folder: Path | RunFolder) -> None:
        self._path = Path(folder)
        self._made = not self._path.exists()
        self._path.mkdir(parents=True, exist_ok=True)
        self._file = (folder / ".lock").open("a+")
        if fcntl is not None:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self._file.close()
                raise DataError(
                    "another syneg-dspy works in this run folder",
                    where=str(folder),
                    todo="wait for it, or give --run another name",
                ) from None

    def __enter__(self) -> RunLock:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._file.close()
        if kind is not None and self._made and {path.name for path in self._path.iterdir()} <= _WORTHLESS:
            shutil.rmtree(self._path)
