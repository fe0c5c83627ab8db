"""The manifest of a run folder: the key and the mark of each result, and facts about the run.

    {"stages": {"mine": "5f0c…", "train hybrid-0": "91ab…"}, "marks": {"mine": "81234 bytes, sha256 77d0…", …},
     "seed": 0, "versions": {"torch": "2.13.0", …}, …}

The key of a stage is a hash of everything that its result depends on (`syneg.run.keys`). The mark says what the result
was like when it was written: a full disk, a power failure, an incomplete copy or an editor can leave a file that can be
read but lacks rows. A result with the same key and mark is reused; any other is made again. Every change replaces the
manifest atomically.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from syneg.core.errors import DataError
from syneg.core.storage import JsonObject, as_read, read_json, sha256_of, write_json

from .folder import RunFolder

_CHANGED = ".changed"


class Manifest:
    """manifest.json in memory. Only the process that holds the lock of the run folder writes it, from one copy.

    `say` prints a line for each stage whose result is kept from an earlier run. `count` takes the kind of those that
    are one of many.
    """

    def __init__(
        self,
        folder: Path | RunFolder,
        say: Callable[[str], None] | None = None,
        count: Callable[[str], None] | None = None,
    ) -> None:
        self._path, self._say, self._count = folder / "manifest.json", say, count
        self._settled: set[str] = set()  # stages made here, or said to be kept
        self.facts: JsonObject = _facts(self._path)
        self._stages: dict[str, str] = self.facts["stages"]
        self._marks: dict[str, str] = self.facts["marks"]

    def key(self, stage: str) -> str | None:
        """The key of the result on disk; None if `stage` has no result."""
        return self._stages.get(stage)

    @property
    def stages(self) -> Mapping[str, str]:
        """The key of each result on disk."""
        return self._stages

    def make(self, stage: str, key: str, path: Path, work: Callable[[], None], kind: str = "") -> bool:
        """Run `work`, which writes `path`, unless the result for `key` exists; return whether it ran.

        The old key is dropped before `work` begins: an interrupted stage never leaves a new file under an old key.
        `kind` names a result that is one of many ("evaluation"). A file that was changed since is put aside.
        """
        kept = self.has(stage, key, path)
        self.settle(stage, kept=kept, kind=kind)
        if kept:
            return False
        if self.key(stage) == key and path.exists():
            aside = path.replace(path.with_suffix(_CHANGED))
            self._tell(f"{stage}: {path} is not as it was written; it is made again, and kept as {aside.name}")
        self.drop(stage)
        work()
        self.done(stage, key, path)
        return True

    def has(self, stage: str, key: str, path: Path) -> bool:
        """Whether the result of `stage` for `key` is at `path`, as it was written."""
        return self.key(stage) == key and path.exists() and self.is_as_written(stage, path)

    def is_as_written(self, stage: str, path: Path) -> bool:
        """Whether the file or folder `path` is as `done` found it; True if there is no mark, as in an older version.

        A folder may hold further files.
        """
        mark = self._marks.get(stage)
        return mark is None or set(mark.split(", ")) <= set(mark_of(path).split(", "))

    def _tell(self, line: str) -> None:
        if self._say is not None:
            self._say(line)

    def settle(self, stage: str, *, kept: bool, kind: str = "") -> None:
        """Say that the result of `stage` is kept from an earlier run, unless this process made it or has said so."""
        if kept and stage not in self._settled:
            if kind and self._count is not None:
                self._count(kind)
            else:
                self._tell(f"{stage}: kept from an earlier run")
        self._settled.add(stage)

    def drop(self, stage: str) -> None:
        """Forget the result of `stage`."""
        self._marks.pop(stage, None)
        if self._stages.pop(stage, None) is not None:
            write_json(self._path, self.facts)

    def done(self, stage: str, key: str, path: Path | None = None) -> None:
        """Record that the result of `stage` is for `key`. With its `path` it is complete, and its mark is kept."""
        self._stages[stage] = key
        if path is not None:
            self._marks[stage] = mark_of(path)
        write_json(self._path, self.facts)

    def mark(self, stage: str, path: Path) -> None:
        """Keep the mark of a result that is complete now, unless it has one."""
        if stage not in self._marks:
            self._marks[stage] = mark_of(path)
            write_json(self._path, self.facts)

    def note(self, **facts: Any) -> None:
        """Record facts beside the stages, such as counts, in the form and order in which JSON gives them back."""
        self.facts.update(as_read(facts))
        write_json(self._path, self.facts)


def check_files(folder: RunFolder, files: Iterable[Path]) -> None:
    """Raise DataError if one of these files of a finished run is not as the run wrote it. A missing file passes."""
    manifest = Manifest(folder)
    for path in files:
        if path.is_file() and not manifest.is_as_written(_stage_of(path), path):
            raise DataError(
                "the file is not as it was written", where=str(path), todo="run `syneg-dspy run --run FOLDER` again"
            )


def _stage_of(path: Path) -> str:
    """The stage that writes a file.

    >>> [_stage_of(Path(name)) for name in ("x/mined.jsonl", "x/mined-dense.jsonl", "x/rows/hybrid-0.jsonl")]
    ['mine', 'mined-dense', 'rows hybrid-0']
    """
    kinds = {"rows": "rows", "evaluation": "evaluate"}
    if path.parent.name in kinds:
        return f"{kinds[path.parent.name]} {path.stem}"
    return "mine" if path.name == "mined.jsonl" else path.stem


def _facts(path: Path) -> JsonObject:
    """Read a manifest. Raises DataError if it is no manifest."""
    found = read_json(path)
    facts = {"stages": {}, "marks": {}} if found is None else found
    if isinstance(facts, dict):
        facts.setdefault("marks", {})  # an earlier version kept none
    if not isinstance(facts, dict) or not all(isinstance(facts.get(name), dict) for name in ("stages", "marks")):
        raise DataError("not the manifest of a run", where=str(path), todo="delete the file to make every stage again")
    return facts


def mark_of(path: Path) -> str:
    """The mark of a file, or of all files in a folder; "" if there is nothing.

    Weights are large, so only the sizes of the files in a folder are compared.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return ", ".join(f"{file.stat().st_size} bytes {file.relative_to(path).as_posix()}" for file in files)
    return f"{path.stat().st_size} bytes, sha256 {sha256_of(path)}" if path.exists() else ""
