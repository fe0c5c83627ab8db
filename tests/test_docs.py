"""Docs that are made from the code are current, and links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

from click.testing import CliRunner

from syneg.cli.main import cli
from syneg.core.settings import settings_page
from syneg.run.arms import ABLATIONS
from syneg.run.pipeline import STAGES

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_of_settings_is_current() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == settings_page(), "make it anew: syneg-dspy settings > docs/settings.md"


def test_links_between_pages_lead_to_files() -> None:
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_headings_that_the_code_names_are_in_the_lab_notes() -> None:
    notes = (ROOT / "docs" / "lab_notes.md").read_text(encoding="utf-8")
    headings = " ".join(line for line in notes.splitlines() if line.startswith("#")).lower()
    named = []
    for folder in ("syneg", "programs", "optimizers", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = " ".join(path.read_text(encoding="utf-8").split())
            named += [(path.name, heading) for heading in re.findall(r'docs/lab_notes\.md, "([^"]+)"', text)]
    assert len(named) > 3 and not [place for place in named if place[1].lower() not in headings]


def test_every_setting_is_described() -> None:
    assert "| `lm.extra` | `{}` |" in settings_page() and "Undefined" not in settings_page()
    rows = [line for line in settings_page().splitlines() if line.startswith("| `")]
    assert len(rows) > 80
    assert not [row for row in rows if row.endswith("|  |")]


def test_the_readme_names_every_stage_and_package() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not [
        stage.command
        for stage in STAGES.values()
        if f"`{stage.command}`" not in text and f"syneg-dspy {stage.command}" not in text
    ]
    folders = [
        f"syneg/{path.parent.name}"
        for path in sorted((ROOT / "syneg").glob("*/__init__.py"))
        if path.parent.name not in ("programs", "optimizers")
    ]
    assert not [folder for folder in (*folders, "programs", "optimizers") if f"`{folder}`" not in text]


def test_every_ablation_is_named() -> None:
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    assert f"`syneg-dspy ablate {'|'.join(ABLATIONS)}`" in page
    help_line = CliRunner().invoke(cli, ["ablate", "--help"]).output.split("\n\n")[1]
    assert not [name for name in ABLATIONS if not re.search(rf"\b{name}\b", help_line)]


def test_prose_keeps_to_120_columns() -> None:
    made = {"api.md", "settings.md"}  # from docstrings and descriptions
    pages = [
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in made),
    ]
    for page in pages:
        prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        long = [line for line in prose.splitlines() if len(line) > 120 and not line.startswith("|")]
        assert not long, f"{page.name}: {long[0]}"
