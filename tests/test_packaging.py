from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"syneg": "syneg", "programs": "syneg.programs", "optimizers": "syneg.optimizers"}


def imports(path: Path, package: str) -> set[str]:
    """Full names of our own modules that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in (*FOLDERS, "ranx")}


MODULES = [(path, package) for folder, package in FOLDERS.items() for path in sorted((ROOT / folder).glob("*.py"))]


@pytest.mark.parametrize(("path", "package"), MODULES, ids=lambda value: getattr(value, "stem", value))
def test_imports_go_in_the_allowed_direction(path: Path, package: str) -> None:
    name = path.stem
    found = imports(path, package)
    assert not {n for n in found if n.split(".")[0] in ("programs", "optimizers")}, "write syneg.programs"
    if package == "syneg":
        if name not in (
            "pipeline",
            "cli",
            "writing",
            "strength",
            "prompts",
            "roles",
            "compile",
            "dry_run",
        ):  # the stages that run programs
            assert not {n for n in found if n.startswith(("syneg.programs", "syneg.optimizers"))}
        if name in ("errors", "records"):
            assert not {n for n in found if n.startswith("syneg")}
        if name != "__main__":
            assert not {n for n in found if n.startswith("syneg.cli")}
        if name != "metrics":
            assert "ranx" not in {n.split(".")[0] for n in found}
    if package == "syneg.programs":
        ours = {n for n in found if n.startswith("syneg") and not n.startswith("syneg.programs")}
        assert all(n.startswith(("syneg.records", "syneg.errors")) for n in ours), ours


def test_only_the_cli_prints() -> None:
    for path, _ in MODULES:
        calls = [
            n
            for n in ast.walk(ast.parse(path.read_text()))
            if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "print"
        ]
        assert not calls, path


def test_the_wheel_holds_every_module_under_one_package(tmp_path: Path) -> None:
    copy = tmp_path / "src"
    subprocess.run(["cp", "-r", str(ROOT), str(copy)], check=True)
    for left in ("build", ".venv"):
        subprocess.run(["rm", "-rf", str(copy / left)], check=True)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(copy)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    expected = {"syneg/py.typed"} | {f"{package.replace('.', '/')}/{path.name}" for path, package in MODULES}
    assert names == expected
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert set(listed) == set(FOLDERS.values())


def test_litellm_is_not_one_of_the_poisoned_versions() -> None:
    import importlib.metadata
    import sysconfig

    assert importlib.metadata.version("litellm") not in ("1.82.7", "1.82.8")
    assert not list(Path(sysconfig.get_paths()["purelib"]).glob("litellm_init.pth"))
