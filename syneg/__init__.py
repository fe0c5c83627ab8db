"""syneg-dspy: hard negatives for dense retrieval, written by DSPy programs, mixed with mined ones, trained and judged.

>>> from syneg import Config, load_collection
>>> load_collection(Config().collection).name
'python-docs'

The command line is `syneg-dspy`. In Python, `mine`, `read`, `generate`, `compile_program`, `train`, `evaluate`
and `run` do what the commands do (`syneg.run.api`). Import programs from `syneg.programs` and optimizers from
`syneg.optimizers`. A name is loaded on first use, so `import syneg` loads neither torch nor dspy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from syneg.core.config import Config
    from syneg.core.errors import BackendError, BudgetError, ConfigError, DataError, SynegError
    from syneg.core.records import HardNegative, Instance, MinedNegative, Pair
    from syneg.core.settings import load_config
    from syneg.data.collection import Collection, load_collection
    from syneg.data.memory import collection_of
    from syneg.run.api import compile_program, evaluate, generate, mine, read, train

__version__ = "0.1.0"

_HOMES = {
    "syneg.core.config": ("Config",),
    "syneg.core.errors": ("BackendError", "BudgetError", "ConfigError", "DataError", "SynegError"),
    "syneg.core.records": ("HardNegative", "Instance", "MinedNegative", "Pair"),
    "syneg.core.settings": ("load_config",),
    "syneg.data.collection": ("Collection", "load_collection"),
    "syneg.data.memory": ("collection_of",),
    "syneg.run.api": ("compile_program", "evaluate", "generate", "mine", "read", "train"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "BackendError", "BudgetError", "Collection", "Config", "ConfigError", "DataError", "HardNegative", "Instance",
    "MinedNegative", "Pair", "SynegError", "collection_of", "compile_program", "evaluate", "generate",
    "load_collection", "load_config", "mine", "read", "run", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "run":
        return importlib.import_module("syneg.run")
    if name not in _HOME:
        raise AttributeError(f"module 'syneg' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
