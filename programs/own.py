"""Load a program from a module of the user's own.

    imported("mine", "Mine") → the class Mine of mine.py
    imported("mine.py", "Mine") → ConfigError: … name it mine:Mine, and set PYTHONPATH=.

The module may hold anything, so every error in it becomes one line that names its place.
"""

from __future__ import annotations

import importlib
import sysconfig
import traceback
from pathlib import Path
from typing import Any

import dspy

from syneg.core.errors import ConfigError, nearest, one_line


def imported(module_name: str, class_name: str) -> Any:
    """Return what `module_name` calls `class_name`. Raises ConfigError if there is no such module or name."""
    named = f"{module_name}:{class_name}" if class_name else module_name
    if module_name.endswith(".py"):
        raise ConfigError(f"the program {named!r} is named by its file", todo=_by_module(Path(module_name), class_name))
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        file = Path(*module_name.split(".")).with_suffix(".py") if module_name.strip(". ") else Path()
        here = isinstance(error, ModuleNotFoundError) and error.name == module_name and file.is_file()
        todo = _by_module(file, class_name) if here else "check module:Class and PYTHONPATH"
        raise _refusal(f"cannot import the program {named!r}", error, todo) from error
    if not hasattr(module, class_name):
        classes = [
            name for name, value in vars(module).items() if isinstance(value, type) and issubclass(value, dspy.Module)
        ]
        todo = nearest(class_name, classes) if classes else "derive one from dspy.Module there"
        raise ConfigError(f"the module {module_name!r} has no class {class_name!r}", todo=todo)
    return getattr(module, class_name)


def built(program_class: type[dspy.Module], name: str) -> dspy.Module:
    """Build the program. Raises ConfigError if its class wants arguments or fails."""
    try:
        return program_class()
    except (Exception, SystemExit) as error:
        without = " without arguments" if isinstance(error, TypeError) and not _place(error) else ""
        todo = "give each argument of __init__ a default"
        raise _refusal(f"cannot build {name!r}{without}", error, todo) from error


def _by_module(file: Path, class_name: str) -> str:
    return f"name it {file.stem}:{class_name or 'CLASS'}, and set PYTHONPATH={file.parent}"


def _refusal(what: str, error: BaseException, todo: str) -> ConfigError:
    """Name the user's line that raised; `todo` is for an error that no line of theirs raised."""
    place = _place(error)
    if isinstance(error, ImportError) or not place:
        text = str(error) if isinstance(error, ImportError) else one_line(error)
        return ConfigError(f"{what}: {text}", where=place or None, todo=todo)
    text = f"{type(error).__name__}: {error.msg}" if isinstance(error, SyntaxError) else one_line(error)
    return ConfigError(f"{what}: {text}", where=place, todo="correct the file")


def _place(error: BaseException) -> str:
    """Return "FILE:LINE" of the last line of the user's own that an error passed through; "" if there is none."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    others = ("<", sysconfig.get_path("stdlib"))
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(others) and "site-packages" not in frame.filename
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
