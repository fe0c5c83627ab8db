"""A program of the user's own that cannot be loaded is one line: what, where, what to do."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from syneg.core.errors import ConfigError
from syneg.programs import load_program


@pytest.fixture(autouse=True)
def no_module_is_left() -> Iterator[None]:
    yield
    for name in ("own_program", "own"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("class Mine(dspy.Module)\n  pass\n", r"SyntaxError: .* \(.*own_program\.py:1\); correct the file"),
        ("\nraise ValueError('at import')\n", r"ValueError: at import \(.*own_program\.py:2\); correct the file"),
        ("import json\njson.loads('x')\n", r"JSONDecodeError: .* \(.*own_program\.py:2\); correct the file"),
        ("import sys\nsys.exit(0)\n", r"SystemExit: 0 \(.*own_program\.py:2\); correct the file"),
        ("import no_such_module\n", "No module named 'no_such_module'"),
        ("import dspy\nclass Mien(dspy.Module): pass\n", "has no class 'Mine'; did you mean 'Mien'"),
        ("", "has no class 'Mine'; derive one from dspy.Module there"),
        (
            "import dspy\nclass Mine(dspy.Module):\n  def __init__(self):\n    raise RuntimeError('boom')\n  def forward(self, **ask): pass\n",
            r"RuntimeError: boom \(.*own_program\.py:4\); correct the file",
        ),
        (
            "import dspy\nclass Mine(dspy.Module):\n  def __init__(self, x):\n    pass\n  def forward(self, **ask): pass\n",
            "cannot build 'own_program:Mine' without arguments",
        ),
    ],
)
def test_a_program_that_cannot_be_loaded_is_one_line(
    text: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_program.py").write_text(text)
    importlib.invalidate_caches()
    with pytest.raises(ConfigError, match=says) as error:
        load_program("own_program:Mine")
    assert "\n" not in str(error.value)
    assert "own_program" in str(error.value)


@pytest.mark.parametrize("name", ["own.py", "own.py:Mine", "./own.py:Mine", "sub/own.py:Mine", "own:Mine"])
def test_a_program_named_by_its_file_is_told_its_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    for folder in (tmp_path, tmp_path / "sub"):
        folder.mkdir(exist_ok=True)
        (folder / "own.py").write_text("")
    where = "sub" if name.startswith("sub") else r"\."
    wanted = "Mine" if ":" in name else "CLASS"
    with pytest.raises(ConfigError, match=rf"name it own:{wanted}, and set PYTHONPATH={where}$"):
        load_program(name)


@pytest.mark.parametrize("name", [":Mine", "..x:Mine", " :Mine", "json:"])
def test_a_name_that_names_no_class_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"check module:Class and PYTHONPATH|has no class"):
        load_program(name)
