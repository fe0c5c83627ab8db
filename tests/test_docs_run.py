"""Every command of the docs is one that there is, and those of the first pages are run, as are their Python blocks and the
notebook: with a tiny encoder and a scripted LM, on data of the kind that the pages name."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner
from conftest import ACTIONS, THINGS, FakeLM
from test_corpus_only import answer

from syneg.cli.api_page import api_page
from syneg.cli.main import cli
from syneg.cli.options import FLAGS
from syneg.core.errors import ConfigError
from syneg.core.settings import known_keys
from syneg.run.pipeline import STAGES

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "lab_notes.md")]
PUBLIC = ("beir/scifact", "sentence-transformers/natural-questions")  # need a network


def blocks(page: Path, kind: str = "") -> Iterator[str]:
    """The code blocks of a page by what stands behind the fence."""
    for found, text in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        if found == kind:
            yield text


def commands(page: Path) -> Iterator[list[str]]:
    for block in blocks(page):
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            if line.startswith("syneg-dspy "):
                yield shlex.split(line, comments=True)[1:]


COMMANDS = [(page.name, args) for page in PAGES for args in commands(page)]


@pytest.mark.parametrize(
    ("page", "args"), COMMANDS, ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_every_command_of_the_docs_can_be_given(page: str, args: list[str]) -> None:
    command = cli.get_command(click.Context(cli), args[0])
    assert command is not None, args[0]
    with command.make_context(args[0], [part for part in args[1:] if part != "…"], resilient_parsing=False):
        pass


def offered() -> dict[str, click.Parameter]:
    """Every option of every command."""
    made = [cli.get_command(click.Context(cli), name) for name in cli.list_commands(click.Context(cli))]
    return {name: option for command in made if command for option in command.params for name in option.opts}


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "benchmarks.md"], ids=lambda page: page.name)
def test_every_option_and_setting_that_a_page_names_exists(page: Path) -> None:
    words = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S))
    words = [word for word in words if not word.startswith(("python ", "pip ", "benchmarks/"))]
    options = {name for word in words for name in re.findall(r"(?<![\w-])--[a-z][\w-]+", word)}
    others = {"--help", "--quick", "--folds", "--one-positive", "--steps"}  # of the last three, benchmarks/
    assert not options - set(offered()) - others
    sections = {key.partition(".")[0] for key in known_keys() if "." in key}
    settings = {key for word in words for key in re.findall(r"^(\w+\.\w+)(?:$|=)", word)}
    files = {"train.jsonl", "queries.jsonl", "reader.json", "mine.py"}
    assert not {key for key in settings if key.partition(".")[0] in sections} - set(known_keys()) - files


def test_every_flag_is_offered_by_a_stage() -> None:
    stages = [cli.get_command(click.Context(cli), stage.command) for stage in STAGES.values()]
    names = {name for stage in stages if stage for option in stage.params for name in option.opts}
    assert not [flag.name for flag in FLAGS if flag.name not in names]


def test_help_lists_the_machines_and_the_replay_under_run() -> None:
    text = invoke(["run", "--help"])
    headings = dict(re.findall(r"^(\w+):\n(.*?)(?=^\w+:|\Z)", text, re.M | re.S))
    assert "--executor" in headings["Run"] and "--replay" in headings["Run"]
    assert "--reflection-lm" in headings["Compiling"]
    assert list(headings)[-1] == "Run"


@pytest.fixture
def there(tmp_path: Path, beir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the pages name."""
    import pandas

    monkeypatch.chdir(tmp_path)
    texts = {(t, a): f"to {a} the {t} it is {a} again and again, slowly" for t in THINGS for a in ACTIONS}
    rows = [{"question": f"{a} a {t}", "answer": text} for (t, a), text in texts.items()][:40]
    pandas.DataFrame(rows).to_csv("pairs.csv", sep=";", index=False)
    pandas.DataFrame(rows).rename(columns={"question": "title", "answer": "body"}).to_csv("odd.csv", index=False)
    pandas.DataFrame(rows).to_parquet("pairs.parquet")
    Path("splits").mkdir()
    for split, part in (("train", rows[:20]), ("validation", rows[20:30]), ("test", rows[30:])):
        Path("splits", f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    Path("docs.jsonl").write_text(
        "".join(json.dumps({"_id": f"d{i}", "text": text}) + "\n" for i, text in enumerate(texts.values()))
    )
    Path("examples.csv").write_text("query\nclose socket\nopen file\n")
    Path("trec").mkdir()
    Path("trec/docs.trec").write_text(
        "".join(f"<DOC><DOCNO> d{i} </DOCNO><TEXT>{text}</TEXT></DOC>\n" for i, text in enumerate(texts.values()))
    )
    Path("trec/topics.txt").write_text(
        "".join(f"<top><num> Number: {i} <title> {row['question']} </top>\n" for i, row in enumerate(rows))
    )
    Path("trec/qrels.txt").write_text("".join(f"{i} 0 d{i} 1\n" for i in range(40)))
    return tmp_path


@pytest.fixture
def given(
    there: Path, settings: Callable[..., list[str]], fake_lm: Callable[..., FakeLM]
) -> Callable[[list[str]], list[str]]:
    """A command of a page with the tiny encoder and the scripted LM in place of real ones; `run` of pages beside the quick
    start goes as far as mining, which reads all of the data."""
    values = settings(
        fake_lm(answer).url, **{"lm.adapter": "json", "generate.pairs": 4, "train.evals": 1, "train.epochs": 1}
    )
    flags = [part for line in values if not line.startswith("collection.") for part in ("--set", line)]

    def build(args: list[str], *, whole: bool = True) -> list[str]:
        if args[0] != "run":
            return args
        more = [part for at, part in enumerate(args) if part != "--lm" and args[at - 1] != "--lm"]
        more = [part for at, part in enumerate(more) if part != "--budget-usd" and more[at - 1] != "--budget-usd"]
        return [more[0] if whole else "mine", *more[1:], *flags, "--quiet"]

    return build


def invoke(args: list[str]) -> str:
    said = CliRunner().invoke(cli, args, catch_exceptions=False)
    assert said.exit_code == 0, f"{shlex.join(args)}: {said.output}"
    return said.output


@pytest.mark.parametrize("name", ["quickstart.md", "verdict.md"])
def test_the_first_pages_are_walked(name: str, given: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)  # nothing leaves this machine
    steps = list(commands(ROOT / "docs" / name))
    if name == "verdict.md":
        steps.insert(1, ["run", "--dataset", "pairs.csv", "--run", "runs/second"])
    for args in steps:
        if args[0] == "push":
            with pytest.raises(ConfigError, match="no token"):
                invoke(args)
            continue
        said = invoke(given(args))
        assert said.strip(), args
    assert Path("runs/first/best").is_dir()
    if name == "quickstart.md":
        assert Path("runs/first/export/flagembedding/train.jsonl").stat().st_size
    assert "cannot be compared" not in Path("comparison.html").read_text()


@pytest.mark.parametrize(
    "args", [a for a in commands(ROOT / "docs" / "your-data.md") if not set(a) & set(PUBLIC)], ids=" ".join
)  # fmt: skip
def test_every_kind_of_data_is_read(args: list[str], given: Any) -> None:
    said = invoke(given(args, whole=False))
    assert re.search(r"\d+ negatives \(", said)


def test_the_csv_of_the_page_is_read_as_it_stands(there: Path) -> None:
    import syneg

    (block,) = blocks(ROOT / "docs" / "your-data.md", "csv")
    head, *rows = block.splitlines()
    Path("page.csv").write_text("\n".join([head, *(f"{row} {i}" for i in range(10) for row in rows)]) + "\n")
    config = syneg.Config().collection.model_copy(update={"dataset": "page.csv"})
    with pytest.raises(syneg.DataError, match="leaves 0 queries"):
        syneg.load_collection(config)  # two queries, with ten positives each: read, and too few


@pytest.mark.parametrize("page", [ROOT / "docs" / "your-data.md"], ids=lambda page: page.name)
def test_python_blocks_run(page: Path, there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), {})
    assert "passages: 40" in capsys.readouterr().out


def test_the_notebook_runs(
    there: Path, settings: Callable[..., list[str]], fake_lm: Callable[..., FakeLM], capsys: Any
) -> None:
    notebook = json.loads((ROOT / "docs" / "quickstart.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    values = dict(line.split("=", 1) for line in settings(fake_lm().url) if not line.startswith("collection."))
    own = {key: json.loads(value) if re.fullmatch(r"-?[\d.]+", value) else value for key, value in values.items()}
    space: dict[str, Any] = {}
    for number, cell in enumerate(cells):
        exec(compile(cell, f"cell {number}", "exec"), space)
        if number == 0:
            space["settings"] |= {key: value for key, value in own.items() if key not in space["settings"]}
    assert space["verdict"]["sentence"] in capsys.readouterr().out
    assert {row["query_id"] for row in space["written"]} <= set(space["mined"])


def test_the_page_of_the_api_is_current() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert page == api_page(), "make it anew: python -m syneg.cli.api_page > docs/api.md"


def test_the_shell_completes_commands_flags_and_values() -> None:
    shell = ShellComplete(cli, {}, "syneg-dspy", "_SYNEG_DSPY_COMPLETE")

    def offered(args: list[str], incomplete: str) -> set[str]:
        return {item.value for item in shell.get_completions(args, incomplete)}

    assert {"run", "report", "init", "export"} <= offered([], "")
    assert "--dataset" in offered(["run"], "--da")
    assert {"gepa", "search"} <= offered(["run", "--optimizer"], "")
    assert {"beir", "pylate"} <= offered(["export", "x", "--to"], "")
    assert "ratio" in offered(["ablate"], "")
