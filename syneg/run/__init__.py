"""One run folder, from settings to verdict.

    Run(Path("runs/python-docs"), config, Progress()).until("verdict") → the data of verdict.json
    syneg.run("pairs.csv") → the same, by `syneg.run.api.run`

Only this package combines all others. It can be called, so that `syneg.run(…)` is the whole path in Python.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    """`syneg.run` names this package and the function that users call."""

    def __call__(self, *args: Any, **settings: Any) -> dict[str, Any]:
        from .api import run

        return run(*args, **settings)


sys.modules[__name__].__class__ = _CallablePackage
