"""Examples in docstrings: each one runs, and none has lost its prompt."""

from __future__ import annotations

import ast
import doctest
import importlib
from pathlib import Path

import pytest

import syneg

ROOT = Path(__file__).resolve().parents[1]
INSTALLED = Path(syneg.__file__).parent
WITH_EXAMPLES = [path for path in sorted(INSTALLED.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(INSTALLED.parent).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=name_of)
def test_examples_give_what_they_show(path: Path) -> None:
    found = doctest.testmod(importlib.import_module(name_of(path)))
    assert found.failed == 0 < found.attempted


def is_answer(paragraph: str) -> bool:
    """Whether a paragraph is a Python value and nothing else, thus what an example gave: `[False, True]`."""
    try:
        ast.literal_eval(paragraph.strip())
    except (ValueError, SyntaxError):
        return False
    return not paragraph.startswith(" ")  # an indented one shows a line of a file


def test_no_example_has_lost_its_prompt() -> None:
    lost = []
    for folder in ("syneg", "programs", "optimizers", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    continue
                text = ast.get_docstring(node) or ""
                if "\n\n\n" in text or any(is_answer(paragraph) for paragraph in text.split("\n\n")):
                    lost.append(f"{path.relative_to(ROOT)}: {getattr(node, 'name', 'module')}")
    assert not lost
