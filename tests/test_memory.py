"""Data in memory, and a program called by itself in plain DSPy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.utils import DummyLM

import syneg
from syneg.core.errors import ConfigError, DataError
from syneg.data.memory import collection_of
from syneg.data.tasks import KINDS, TASKS
from syneg.programs import PROGRAMS, RequirementBreak, load_program
from syneg.programs.attributes import ATTRIBUTES, TASK
from syneg.run.api import open_run

ROWS = [{"question": f"how is pump {i} primed", "answer": f"pump {i} is filled through the valve"} for i in range(40)]


def as_frame(rows: list[dict[str, Any]]) -> Any:
    import pandas

    return pandas.DataFrame(rows)


def as_dataset(rows: list[dict[str, Any]]) -> Any:
    from datasets import Dataset

    return Dataset.from_list(rows)


@pytest.mark.parametrize("form", [list, iter, as_frame, as_dataset])
def test_rows_are_read_whatever_holds_them(form: Any, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    config = syneg.Config().collection.model_copy(update={"dataset": str(path)})
    found = collection_of(form(ROWS))
    assert found.fingerprint == syneg.load_collection(config).fingerprint
    assert found.name == collection_of(ROWS).name != collection_of(ROWS[1:]).name


@pytest.mark.parametrize("form", [list, as_frame, as_dataset])
def test_a_corpus_in_memory_or_in_a_file_goes_with_them(form: Any, tmp_path: Path) -> None:
    passages = [{"_id": f"d{i}", "text": f"pump {i} is filled through the valve"} for i in range(60)]
    found = collection_of(ROWS, form(passages))
    assert len(found.passages) == 60
    assert found.relevant(found.splits["train"][0]) <= {f"d{i}" for i in range(40)}
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in passages))
    assert collection_of(ROWS, tmp_path / "docs.jsonl").fingerprint == found.fingerprint


def test_bad_rows_are_told_by_their_number() -> None:
    with pytest.raises(DataError, match=r"rows:2 empty query"):
        collection_of([ROWS[0], {"question": "", "answer": "x"}])
    with pytest.raises(DataError, match="no column 'query'.*'q1', 'a1'"):
        collection_of([{"q1": "a", "a1": "b"}])
    with pytest.raises(DataError, match="no rows in a dict.*one split of a Dataset"):
        collection_of({"train": ROWS})  # type: ignore[arg-type]
    missing = as_frame([*ROWS, {"question": None, "answer": "x"}])
    with pytest.raises(DataError, match="rows:41 empty query"):
        collection_of(missing)


def test_the_path_takes_rows(tmp_path: Path, encoder_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    passages = as_frame([{"text": f"the {i} file is copied slowly"} for i in range(30)])
    mined = syneg.mine(ROWS, settings={"encoder.model": encoder_path, "mine.margin": 2.0}, corpus=passages)
    assert mined.keys() <= set(collection_of(ROWS).queries)
    assert [path.name for path in Path("runs").iterdir()] == [collection_of(ROWS).name]
    run = open_run(ROWS, settings={"encoder.model": encoder_path})
    assert run.workspace.collection.splits["confirm"] == ()
    with pytest.raises(ConfigError, match="passages in memory go with pairs in memory"):
        open_run("pairs.csv", corpus=passages)


def test_the_defaults_of_programs_are_those_of_question_answering() -> None:
    assert TASKS["question answering"].definition == TASK
    plain = TASKS["question answering"]
    assert (
        {"domain": plain.domains[0], "difficulty": plain.difficulties[0], "length": plain.lengths[0], "kind": KINDS[0]},
    ) == ATTRIBUTES


def test_a_program_is_called_by_itself_in_plain_dspy() -> None:
    answers = [
        {"need": "how a pump is primed", "requirements": "['about pumps', 'about priming', 'tells how']"},
        {"broken": "about priming", "how": "action shift", "hard_negative": "The pump is stopped at the valve."},
    ]
    with dspy.context(lm=DummyLM(answers), adapter=dspy.ChatAdapter()):
        said = RequirementBreak()(query="how is a pump primed", positive="Fill it through the valve.")
    assert said.negatives[0].text == "The pump is stopped at the valve."
    assert said.negatives[0].attributes["how"] == "action shift"


@pytest.mark.parametrize("name", list(PROGRAMS))
def test_every_program_needs_only_query_and_positive(name: str) -> None:
    import inspect

    taken = inspect.signature(load_program(name).forward).parameters
    assert [key for key, one in taken.items() if one.default is inspect.Parameter.empty] == ["query", "positive"]
