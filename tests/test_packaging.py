from __future__ import annotations

import ast
import graphlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("core", "data", "llm", "retrieval", "negatives", "training", "verdict", "run", "cli")
FOLDERS = {"syneg": "syneg", **{f"syneg/{name}": f"syneg.{name}" for name in PACKAGES},
           "programs": "syneg.programs", "optimizers": "syneg.optimizers"}  # fmt: skip

# package → the packages of ours that it may import; its own is always allowed
MAY: dict[str, set[str]] = {
    "core": set(), "data": {"core"}, "llm": {"core"}, "programs": {"core"}, "retrieval": {"core", "data"},
    "negatives": {"core", "data", "llm", "programs", "retrieval"}, "training": {"core", "retrieval"},
    "verdict": {"core", "data", "retrieval"},
    "optimizers": {"core", "data", "llm", "programs", "retrieval", "negatives", "training"},
}  # fmt: skip
MAY["run"] = {*MAY}
MAY["cli"] = {*MAY}


def imports(path: Path, package: str) -> set[str]:
    """Full names of everything that a file imports, also inside functions and under TYPE_CHECKING."""
    return imports_of(nodes(path), package)


def nodes(path: Path) -> list[ast.AST]:
    """All nodes of a file, the module first."""
    return nodes_of(path.read_text())


@cache
def nodes_of(text: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse(text)))


def imports_of(among: Iterable[ast.AST], package: str) -> set[str]:
    """Full names of what these nodes import."""
    names = set()
    for node in among:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return names


MODULES = [(path, package) for folder, package in FOLDERS.items() for path in sorted((ROOT / folder).glob("*.py"))]


def upward(path: Path, package: str) -> set[str]:
    """The imports of a file that the table does not allow."""
    names = imports(path, package)
    bare = {name for name in names if name.split(".")[0] in ("programs", "optimizers")}
    if package == "syneg":
        return bare
    own = package.split(".")[1]
    ours = {name for name in names if name.startswith("syneg.")}
    return bare | {name for name in ours if name.split(".")[1] not in MAY[own] | {own}}


NAMES = {f"{package}.{path.stem}".removesuffix(".__init__"): (path, package) for path, package in MODULES}


def edges() -> dict[str, set[str]]:
    """Module → the modules of ours that it imports, also inside functions and under TYPE_CHECKING."""
    graph: dict[str, set[str]] = {}
    for name, (path, package) in NAMES.items():
        wanted = imports(path, package)
        # `from .folder import RunFolder` imports the module, and not the package that holds it
        deepest = {n for n in wanted if not any(other.startswith(f"{n}.") and other in NAMES for other in wanted)}
        graph[name] = {n for n in deepest & NAMES.keys() if n != name}
    return graph


# libraries that take long to load, or that not every installation has
HEAVY = {
    "accelerate", "bm25s", "charset_normalizer", "datasets", "dspy", "faiss", "gepa", "httpx", "huggingface_hub",
    "ir_datasets", "litellm", "matplotlib", "mlflow", "numpy", "openai", "optuna", "pandas", "peft", "pyarrow", "pydantic",
    "ranx", "ray", "scipy", "sentence_transformers", "sklearn", "torch", "transformers", "xllamacpp",
}  # fmt: skip


def imported(node: ast.Import | ast.ImportFrom, package: str) -> set[str]:
    """The modules of ours and the top names of libraries that one line imports."""
    names = imports_of([node], package)
    ours = {name for name in names if name in NAMES and not any(n.startswith(f"{name}.") and n in NAMES for n in names)}
    return ours or {name if name in NAMES else name.split(".")[0] for name in names}


def at_top_and_inside(path: Path, package: str) -> tuple[set[str], list[tuple[int, set[str]]]]:
    """What a module imports when it is loaded, and line by line what its functions import."""
    top: set[str] = {package} if package in NAMES else set()
    inside: list[tuple[int, set[str]]] = []

    def walk(node: ast.AST, within: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import | ast.ImportFrom):
                inside.append((child.lineno, imported(child, package))) if within else top.update(
                    imported(child, package)
                )
            elif not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)):
                walk(child, within or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))

    walk(nodes(path)[0], False)
    return top, inside


def test_an_import_inside_a_function_spares_a_heavy_library() -> None:
    tops = {name: at_top_and_inside(*place)[0] for name, place in NAMES.items()}

    def heavy(name: str, seen: set[str]) -> set[str]:
        """The heavy libraries that loading a module loads."""
        if name in seen:
            return set()
        seen.add(name)
        if name not in NAMES:
            return {name} & HEAVY
        return set().union(*(heavy(other, seen) for other in tops[name]))

    needless = [
        f"{path.relative_to(ROOT)}:{line}: {other}"
        for name, (path, package) in NAMES.items()
        for line, others in at_top_and_inside(path, package)[1]
        for other in others
        if not heavy(other, set()) - heavy(name, set())
    ]
    assert not needless, "import these at the top of the file"


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = edges()
    assert len(graph) > 150 and "syneg.core.errors" in graph["syneg.core.settings"]
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


@pytest.mark.parametrize(("path", "package"), MODULES, ids=lambda value: getattr(value, "stem", value))
def test_a_file_has_at_most_300_lines(path: Path, package: str) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300, f"{path} of {package}: split it"


def test_plurals_are_made_in_one_module() -> None:
    by_hand = re.compile(r"""(["'])s\1 if |else (["'])s\2""")
    assert not [f"{path}" for path, _ in MODULES if by_hand.search(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(("path", "package"), MODULES, ids=lambda value: getattr(value, "stem", value))
def test_packages_import_one_way(path: Path, package: str) -> None:
    assert upward(path, package) == set()
    if path.stem != "metrics":
        assert "ranx" not in {name.split(".")[0] for name in imports(path, package)}, (
            "only retrieval/metrics.py touches ranx"
        )


def test_an_upward_import_is_found_wherever_it_hides(tmp_path: Path) -> None:
    path = tmp_path / "records.py"
    path.write_text("def f():\n    from syneg.cli.main import cli\n    return cli\n")
    assert upward(path, "syneg.core") == {"syneg.cli.main", "syneg.cli.main.cli"}
    path.write_text("if TYPE_CHECKING:\n    from ..run import Run\nimport programs\n")
    assert upward(path, "syneg.core") == {"syneg.run", "syneg.run.Run", "programs"}


def test_the_diagram_of_packages_draws_every_import_that_is_allowed() -> None:
    arrows: dict[str, set[str]] = {}
    for package, target in re.findall(
        r"^  (\w+) --> (\w+)$", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE
    ):
        arrows.setdefault(package, set()).add(target)

    def below(package: str) -> set[str]:
        return {name for target in arrows.get(package, ()) for name in (target, *below(target))}

    for package, allowed in MAY.items():
        assert allowed - {package, "cli"} <= below(package), package


def test_every_recipe_can_be_set_and_every_setting_is_a_recipe() -> None:
    from typing import get_args

    from syneg.core.training_settings import CompileConfig
    from syneg.optimizers import RECIPES

    assert get_args(CompileConfig.model_fields["optimizer"].annotation) == tuple(RECIPES)


def test_only_the_cli_prints() -> None:
    for path, _ in MODULES:
        calls = [n for n in nodes(path) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "print"]
        assert not calls, path


def test_the_wheel_holds_every_module_under_one_package(tmp_path: Path) -> None:
    copy = tmp_path / "src"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns("build", ".*", "runs"))  # .venv holds gigabytes
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


def test_make_keeps_what_python_compiles_whatever_the_environment_says() -> None:
    # make installs without compiling: where nothing is kept, each command compiles thousands of files anew
    done = subprocess.run(
        ["make", "--no-print-directory", "-f", "Makefile", "-f", "-", "told"],
        input="told:\n\t@$(PYTHON) -c 'import sys; print(sys.dont_write_bytecode)'\n",
        cwd=ROOT, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "False\n", done.stderr


def test_every_package_that_is_imported_is_declared() -> None:
    from importlib.metadata import packages_distributions

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    declared = {re.split(r"[<>=\[]", line)[0].lower() for line in [*project["dependencies"], *extras]}
    provides = packages_distributions()
    missing = set()
    for folder, package in FOLDERS.items():
        for path in (ROOT / folder).glob("*.py"):
            for name in {full.split(".")[0] for full in imports(path, package)} - {"syneg", *sys.stdlib_module_names}:
                if not {found.lower().replace("_", "-") for found in provides.get(name, [name])} & declared:
                    missing.add(f"{name} ({path.relative_to(ROOT)})")
    assert not missing


def test_litellm_is_not_one_of_the_poisoned_versions() -> None:
    import importlib.metadata
    import sysconfig

    assert importlib.metadata.version("litellm") not in ("1.82.7", "1.82.8")
    assert not list(Path(sysconfig.get_paths()["purelib"]).glob("litellm_init.pth"))


def wide_excepts(path: Path) -> list[str]:
    """The functions of a module with an `except` for every kind of error."""
    found = []
    for function in nodes(path):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            kinds = [
                ast.unparse(h.type) if h.type else "" for h in ast.walk(function) if isinstance(h, ast.ExceptHandler)
            ]
            found += [function.name for kind in kinds if not kind or re.search(r"\b(Base)?Exception\b", kind)]
    return found


def test_every_kind_of_error_is_caught_only_where_foreign_code_answers() -> None:
    """Elsewhere `syneg.core.failing.on_failure` acts on an error, which goes on."""
    found = {str(path.relative_to(ROOT)): names for path, _ in MODULES if (names := wide_excepts(path))}
    assert found == {
        "programs/own.py": ["imported", "built"],
        "syneg/llm/calls.py": ["attempted"],
        "syneg/llm/deadline.py": ["in_time", "run"],
    }
