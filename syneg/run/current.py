"""Say whether the verdict of a run folder is of its present settings and results.

    note_verdict(folder, manifest)   → manifest.json {"verdict": {"settings": {"train.epochs": 3, …},
                                                                  "stages": {"mine": "5f0c…", …}}, …}
    check_current(folder)            → raises DataError if there is none, or a command has changed one of them since

A command for one stage takes settings of its own, and replaces the results of its stage, but not the verdict.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

from syneg.core.errors import DataError

from .folder import RunFolder, check_idle
from .keys import NO_RESULT
from .manifest import Manifest

_SHOWN = 3  # names in a message


def note_verdict(folder: RunFolder, manifest: Manifest) -> None:
    """Keep in the manifest which settings and results the verdict is of."""
    manifest.note(verdict={"settings": _settings(folder), "stages": dict(manifest.stages)})


def check_current(folder: RunFolder) -> None:
    """Raise DataError if a run has no verdict or one of other settings or results, or if a process works there.

    An earlier version kept no record of settings and results; the verdict of such a run passes.
    """
    if not folder.verdict.is_file():
        raise DataError("no verdict in this run folder", where=str(folder), todo="finish it with `syneg-dspy run`")
    check_idle(folder)
    manifest = Manifest(folder)
    of = manifest.facts.get("verdict")
    if of is None:
        return
    present = (("settings", _settings(folder)), ("stages", manifest.stages))
    changed = {name: _changed(of[name], now) for name, now in present}
    what = {"settings": "the settings are not those of the verdict", "stages": "the verdict is of earlier results"}
    for name, found in changed.items():
        if found:
            raise DataError(
                f"{what[name]}: {', '.join(found[:_SHOWN])}{', …' if found[_SHOWN:] else ''}", where=str(folder),
                todo=f"run `syneg-dspy run --run {folder}` for a verdict on them",
            )  # fmt: skip


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The names of what is no longer as it was. What came later was no part of the verdict."""
    return [name for name, value in before.items() if now.get(name) != value]


def _settings(folder: RunFolder) -> dict[str, Any]:
    """The settings in the folder, by name, without those that change no result."""
    flat: dict[str, Any] = {}
    for section, values in tomllib.loads(folder.config.read_text(encoding="utf-8")).items():
        hidden = NO_RESULT.get(section, ())
        if isinstance(values, dict) and hidden is not None:
            flat |= {f"{section}.{name}": value for name, value in values.items() if name not in hidden}
        elif not isinstance(values, dict):
            flat[section] = values
    return flat
