"""The benchmarks still start, and what they share computes what it says."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
SHARED = ("made", "turns")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(FOLDER))

    def module(name: str) -> ModuleType:
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    yield module
    for name in (*SHARED, *(path.stem for path in FOLDER.glob("*.py"))):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in SHARED))
def test_each_benchmark_finds_what_it_imports(load, name: str) -> None:  # type: ignore[no-untyped-def]
    result = CliRunner().invoke(load(name).main, ["--help"])
    assert result.exit_code == 0 and "Usage" in result.output, result.output


def test_growth_is_fitted_over_sizes_that_take_long_enough(load) -> None:  # type: ignore[no-untyped-def]
    exponent = load("growth").exponent
    assert exponent([10, 100, 1000], [0.001, 1.0, 100.0]) == pytest.approx(2.0)
    assert exponent([10, 100], [0.001, 1.0]) is None


def test_ratios_are_taken_within_a_turn(load) -> None:  # type: ignore[no-untyped-def]
    rows = {"theirs": [{"s": 1.0}, {"s": 10.0}], "ours": [{"s": 2.0}, {"s": 5.0}]}
    assert "1.25 [0.50, 2.00]" in load("turns").table(rows, "theirs")
