"""Name the files of a run folder, and lock it for one process.

    folder = RunFolder(Path("runs/python-docs"))
    folder.mined               → runs/python-docs/mined.jsonl
    folder.model("hybrid-0")   → runs/python-docs/models/hybrid-0

`syneg.run.manifest` says which of these files are done.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from syneg.core.errors import DataError
from syneg.core.storage import lock


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run folder. `folder / "x"` gives the path of any other file."""

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
        """Messages of the run and seconds of each stage, one JSON object a line."""
        return self.path / "events.jsonl"

    @property
    def bad_rows(self) -> Path:
        """Rows of the collection that could not be read, and queries that stand in two splits."""
        return self.path / "bad_rows.jsonl"

    @property
    def queries(self) -> Path:
        """Queries that an LM wrote for a corpus without queries."""
        return self.path / "queries.jsonl"

    @property
    def mined(self) -> Path:
        """Mined negatives, each with its source, rank and score."""
        return self.path / "mined.jsonl"

    @property
    def ledger(self) -> Path:
        """The ledger: one JSON object for each LM call."""
        return self.path / "ledger" / "calls.jsonl"

    @property
    def judge(self) -> Path:
        """The calibration of the judge."""
        return self.path / "judge.json"

    @property
    def window(self) -> Path:
        """The mining window that a race chose (`mine.margin = auto`)."""
        return self.path / "window.json"

    @property
    def reader(self) -> Path:
        """Agreement of the reader with the labels of dev queries."""
        return self.path / "reader.json"

    @property
    def readings(self) -> Path:
        """Grades of the passages near the train queries, one JSON object each."""
        return self.path / "readings.jsonl"

    def readings_near(self, name: str = "") -> Path:
        """Grades of the passages near written texts, by the program `name`; "" is the program of the run."""
        return self.path / f"readings-grounded{'-' if name else ''}{name}.jsonl"

    @property
    def teacher(self) -> Path:
        """Scores of the cross-encoder that teaches, and nDCG@10 of its order on dev."""
        return self.path / "teacher.json"

    def compiled(self, prefix: str = "") -> Path:
        """Outcome of a compilation. `prefix` names its target, as in "reader-" (`syneg.run.targets`)."""
        return self.path / f"{prefix}compiled.json"

    def compiled_page(self, prefix: str = "") -> Path:
        """The same outcome as a page for a browser."""
        return self.path / f"{prefix}compiled.html"

    @property
    def best(self) -> Path:
        """Folder of the model that is best on dev; it may be the untuned base."""
        return self.path / "best"

    @property
    def folds(self) -> Path:
        """Results of cross-fitting, over all folds."""
        return self.path / "folds.json"

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
        """The data card of the negatives."""
        return self.path / "README.md"

    @property
    def requests(self) -> Path:
        """Batch requests, unless `--batch` names another file."""
        return self.path / "requests.jsonl"

    def negatives(self, stem: str = "negatives") -> Path:
        """A set of synthetic negatives, with rejected ones."""
        return self.path / f"{stem}.jsonl"

    def program(self, prefix: str = "") -> Path:
        """State of a program; `prompts(prefix)` holds its prompts."""
        return self.path / f"{prefix}program.json"

    def prompts(self, prefix: str = "") -> Path:
        """Prompts of a program, as Markdown."""
        return self.path / f"{prefix}program.md"

    def model(self, name: str) -> Path:
        """Folder of a trained model; `name` is ARM-SEED, as in "hybrid-0"."""
        return self.path / "models" / name

    def rows(self, name: str) -> Path:
        """Rows that a model was trained on, epoch by epoch."""
        return self.path / "rows" / f"{name}.jsonl"

    def evaluation(self, name: str) -> Path:
        """Rankings and metrics of a model."""
        return self.path / "evaluation" / f"{name}.json"

    def boundary(self, name: str) -> Path:
        """Scores of a model in the boundary test."""
        return self.path / "boundary" / f"{name}.json"

    def trec(self, name: str, split: str) -> Path:
        """Ranking of the queries of `split` by a model, as a TREC run file."""
        return self.path / "runs" / f"{name}.{split}.trec"

    def log(self, name: str) -> Path:
        """Output of the embedded server of an LM."""
        return self.path / f"{name}.log"


def default_folder(dataset: str) -> Path:
    """Return runs/NAME for a data set. NAME is the stem of a file, the name of a folder, or the id of a data set."""
    path = Path(dataset).expanduser()
    name = (path.stem if path.is_file() else path.name) if path.exists() else dataset
    return Path("runs") / "".join(c if c.isalnum() or c in "-._" else "-" for c in name)


def version(package: str) -> str:
    """Return the installed version of a package, or "not installed"."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


_WORTHLESS = {".lock", "bad_rows.jsonl", "config.toml", "events.jsonl", "manifest.json"}


def check_idle(folder: RunFolder) -> None:
    """Raise DataError, which names the process, if one works in a run folder: its results are half new, half old."""
    place = folder / ".lock"
    if not os.access(place, os.W_OK):  # none has worked here, or none can
        return
    with place.open("a+") as file:
        if not lock(file):
            raise _at_work(file, folder, "wait for it")


def _at_work(file: IO[str], folder: Path | RunFolder, todo: str) -> DataError:
    """The error for a lock that another process holds."""
    file.seek(0)
    holder = file.read().strip() or "another syneg-dspy"
    return DataError(f"{holder} works in this run folder", where=str(folder), todo=todo)


class RunLock:
    """Lock a run folder for one process, as a context manager; the lock ends with the process, even after a crash.

    If an error leaves only settings and logs in a folder that the lock created, the folder is removed again (a mistyped
    name leaves no trace). Raises DataError, which names the process, if another one holds the lock.
    """

    def __init__(self, folder: Path | RunFolder) -> None:
        self._path = Path(folder)
        self._made = not self._path.exists()
        self._path.mkdir(parents=True, exist_ok=True)
        self._file = (folder / ".lock").open("a+")
        if not lock(self._file):
            with self._file:
                raise _at_work(self._file, folder, "wait for it, or give --run another name")
        self._file.truncate(0)
        self._file.write(f"another syneg-dspy (process {os.getpid()} on {platform.node() or 'this machine'})\n")
        self._file.flush()

    def __enter__(self) -> RunLock:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._file.close()
        if kind is not None and self._made and {path.name for path in self._path.iterdir()} <= _WORTHLESS:
            shutil.rmtree(self._path)
