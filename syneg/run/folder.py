"""manifest.json of a run folder: what each stage depended on when its result was made, and facts about the run.

    {"stages": {"mine": "5f0c…", "train hybrid-0": "91ab…"}, "seed": 0, "versions": {"torch": "2.13.0", …}, …}

A stage has a key, a hash of all that its result depends on. A result is used when its key is the same, and made again
when not. The file is written in one step after each change.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

from syneg.core.errors import DataError
from syneg.core.storage import read_json, write_json

try:
    import fcntl
except ImportError:  # Windows has no flock; runs are then not guarded against a second process
    fcntl = None  # type: ignore[assignment]


class Manifest:
    """Opened once by the process that holds the lock of the run folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "manifest.json"
        self.facts: dict[str, Any] = read_json(self._path) or {}
        self._stages: dict[str, str] = self.facts.setdefault("stages", {})

    def key(self, stage: str) -> str | None:
        """The key of the result that is there; None for none."""
        return self._stages.get(stage)

    def make(self, stage: str, key: str, path: Path, work: Callable[[], None]) -> bool:
        """Run `work`, which writes `path`, where the result of this key is not there yet; says whether it did."""
        if self.key(stage) == key and path.exists():
            return False
        work()
        self.done(stage, key)
        return True

    def done(self, stage: str, key: str) -> None:
        """The result of `stage` is on disk under `key`."""
        self._stages[stage] = key
        write_json(self._path, self.facts)

    def note(self, **facts: Any) -> None:
        """Facts beside the stages, such as counts."""
        self.facts.update(facts)
        write_json(self._path, self.facts)


def version(package: str) -> str:
    """The installed version of a package, in words when there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


class RunLock:
    """Holds a run folder for one process; the lock dies with the process, however it ends."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
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

    def __exit__(self, *exc: object) -> None:
        self._file.close()
