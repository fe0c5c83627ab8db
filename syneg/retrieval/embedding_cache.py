"""List and prune the embedding cache.

    spaces() → [Space(folder=…/3fa0…, model="local/minilm", role="passage", size=8_123_904, used=1764151200.0, …)]
    prune(20 * 10**9) → the removed spaces

A space holds the embeddings of one encoder for one role. A process that uses a space holds a shared lock on it, and a
locked space is never removed. Spaces of trained models are removed first, because the run folder keeps their rankings
and no stage embeds with them again. Then follow the spaces with the oldest use.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from syneg.core.storage import cache_home, lock, write_json

LOCK = ".lock"  # a file in each space; it is locked while the space is open, and its time is the last use
_ABOUT = "about.json"


@dataclass(frozen=True)
class Space:
    """One folder of embeddings. `size` is in bytes, `used` in seconds since 1970. `trained` marks a model that a run
    trained. The model is "" if the folder does not say it."""

    folder: Path
    model: str
    role: str
    trained: bool
    size: int
    used: float

    @property
    def name(self) -> str:
        """The space in words: `local/minilm (query)`."""
        if not self.model:
            return "a model of unknown name"
        return f"{'a model trained from ' if self.trained else ''}{self.model} ({self.role})"


def cache_folder() -> Path:
    return cache_home() / "embeddings"


def describe(folder: Path, model: str, role: str, *, trained: bool) -> None:
    """Record the model and role of a space, unless it has such a record."""
    if not (folder / _ABOUT).exists():
        write_json(folder / _ABOUT, {"model": model, "role": role, "trained": trained})


def spaces() -> list[Space]:
    """All spaces in the order in which `prune` removes them."""
    folder = cache_folder()
    held = [_space(path) for path in sorted(folder.iterdir()) if path.is_dir()] if folder.is_dir() else []
    return sorted(held, key=lambda space: (not space.trained, space.used))


def prune(limit: float) -> list[Space]:
    """Remove unlocked spaces until the cache holds at most `limit` bytes. Returns the removed spaces."""
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
    """Remove a space unless a process uses it. Returns whether it is gone."""
    try:
        with (folder / LOCK).open("a") as file:
            if not lock(file):
                return False
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # gone
        return not folder.exists()
    return True


def _space(folder: Path) -> Space:
    """Size and last use of one folder of embeddings. The lock tells the use, any file if there is no lock."""
    size, used = 0, 0.0
    for path in folder.iterdir():
        try:
            facts = path.stat()
        except FileNotFoundError:  # another process has just renamed its draft
            continue
        size += facts.st_size
        if path.name == LOCK or not used:
            used = facts.st_mtime
    try:
        about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        about = {}
    return Space(
        folder, str(about.get("model", "")), str(about.get("role", "")), bool(about.get("trained")), size, used
    )
