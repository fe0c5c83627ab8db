"""Compute the key of a stage: a hash of all its inputs. If an input changes, the old result is not reused.

    stage_key("mine", config, collection.fingerprint, encoder.fingerprint) → "5f0c…"

A key covers the whole config, except for settings listed here: sections that the stage does not read, and settings that
change no result. A new setting is therefore part of every key until it is listed.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from syneg.core.config import FLOW, Config
from syneg.core.records import fingerprint

# Settings that change no result, only how it is computed: section → its keys; None stands for the whole section.
NO_RESULT: dict[str, tuple[str, ...] | None] = {
    "lm": FLOW,
    "judge": FLOW,
    "reader": FLOW,
    "reflection": FLOW,
    "budget": None,
    "executor": None,
    "track": None,
    "encoder": ("batch_size", "device", "cache_gb"),
    "compile": (),
}
# Sections that are not part of a stage's key: only later stages read them, or another input of the key stands for them
# (the collection's fingerprint for "collection").
_AFTER_TRAINING = ("boundary", "evaluate")
_AFTER_WRITING = ("mix", "train", *_AFTER_TRAINING)
_COMPILING = ("compile", "reflection", "probe")
_LMS = ("lm", "queries", "generate", "gates", "judge", "reader", *_COMPILING)
NOT_HANDED: dict[str, tuple[str, ...]] = {
    "queries": ("mine", "reader", "generate", "gates", "judge", *_COMPILING, *_AFTER_WRITING),
    "mine": ("collection", *_LMS, *_AFTER_WRITING),
    "read": ("mine", "queries", "generate", "gates", "judge", *_COMPILING, *_AFTER_WRITING),
    "calibrate": ("mine", "queries", "generate", "gates", "reader", *_COMPILING, *_AFTER_WRITING),
    "compile": ("queries", "reader", "evaluate"),
    "compile queries": ("reader", "generate", "gates", "judge", *_AFTER_TRAINING),
    "compile reader": ("mine", "queries", "generate", "gates", "judge", "probe", *_AFTER_WRITING),
    "generate": ("queries", "reader", *_COMPILING, *_AFTER_WRITING),
    "folds": ("boundary",),
    "evaluate": ("collection", *_LMS, "mine", "mix", "train", "boundary"),
    "boundary": ("collection", *_LMS, "mine", "mix", "train", "evaluate"),
}
# Settings that select something, such as queries, rows or a program. What they select is a separate input of the key.
PARTS: dict[str, tuple[str, ...]] = {
    "train": ("arms", "seeds", "pairs"),
    "generate": ("program", "pairs", "shard", "given"),
    "collection": ("dataset", "corpus"),
    "reader": ("use", "program", "given", "cross_encoder", "second_look", "pairs", "sample"),
    "queries": ("program", "examples"),
    "compile": ("target",),
}


def stage_key(stage: str, config: Config, *inputs: Any) -> str:
    """Return the key of the result of `stage` (a key of NOT_HANDED).

    It hashes `config`, less the settings that do not matter to the stage, and the other inputs, which `fingerprint`
    must be able to hash.
    """
    tree = config.model_dump(mode="json", exclude=set(NOT_HANDED[stage]))
    for section, names in (*NO_RESULT.items(), *PARTS.items()):
        if section in tree and names is None:
            del tree[section]
        elif section in tree:
            hidden = names or ()
            tree[section] = {name: value for name, value in tree[section].items() if name not in hidden}
    return fingerprint(stage, tree, *inputs)


def source_of(program: str) -> str:
    """Return the source code of the module of a user's program (`module:Class`); "" for any other program."""
    module, colon, _ = program.partition(":")
    if not colon or program.endswith(".json"):
        return ""
    path = importlib.import_module(module).__file__
    return Path(path).read_text(encoding="utf-8") if path else ""
