"""The embedding cache as a whole: what it holds, and how it stays small.

    spaces() → [Space(folder=…/3fa0…, model="local/minilm", role="passage", size=8_123_904, used=1764151200.0, …)]
    prune(20 * 10**9) → the spaces that were removed, those used longest ago first

A space holds the embeddings of one encoder for one role. One that a running process uses is never removed: the process
holds a shared lock on it. Spaces of trained models that nobody uses go first: their rankings are kept in the run
folder, and nothing asks for their embeddings again.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from syneg.core.storage import cache_home, write_json

try:
    import fcntl
except ImportError:  # Windows has no flock
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"  # of a space: held while it is open, its time is that of the last use
_ABOUT = "about.json"


@dataclass(frozen=True)
class Space:
    """One folder of embeddings: `size` in bytes, `used` in seconds since 1970; `trained` models come out of a run."""

    folder: Path
    model: str
    role: str
    trained: bool
    size: int
    used: float


def cache_folder() -> Path:
    return cache_home() / "embeddings"


def describe(folder: Path, model: str, role: str, *, trained: bool) -> None:
    """Write down what a space holds."""
    if not (folder / _ABOUT).exists():
        write_json(folder / _ABOUT, {"model": model, "role": role, "trained": trained})


def spaces() -> list[Space]:
    """All spaces, the least needed first."""
    folder = cache_folder()
    held = [_space(path) for path in sorted(folder.iterdir()) if path.is_dir()] if folder.is_dir() else []
    return sorted(held, key=lambda space: (not space.trained, space.used))


def prune(limit: float) -> list[Space]:
    """Remove spaces that are not in use until the cache holds at most `limit` bytes; returns those removed."""
    held = spaces()
    size = sum(space.size for space in held)
    removed = []
    for space in held:
        if size <= limit:
            break
        if remove(space.folder):
            size -= space.size
            removed.append(space)
    return removed


def remove(folder: Path) -> bool:
    """Remove a space, unless a process uses it."""
    lock = folder / LOCK
    try:
        with lock.open("a") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # in use, or gone
        return not folder.exists()
    return True


def _space(folder: Path) -> Space:
    size, used = 0, 0.0
    for path in folder.iterdir():
        try:
            facts = path.stat()
        except FileNotFoundError:  # a draft of another process
            continue
        size += facts.st_size
        if path.name == LOCK or not used:
            used = facts.st_mtime
    try:
        about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        about = {}
    return Space(
        folder, str(about.get("model", "unknown")), str(about.get("role", "")), bool(about.get("trained")), size, used
    )
