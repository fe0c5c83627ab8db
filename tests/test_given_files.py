"""Negatives, grades and scores from a file are read as carefully as data: ids, packed files, and what is left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ACTIONS, THINGS, pack

from syneg.core.errors import DataError, SynegError
from syneg.core.progress import Progress
from syneg.core.settings import load_config
from syneg.core.storage import read_rows, write_rows
from syneg.data.collection import Collection, load_collection
from syneg.negatives.given_readings import given_readings
from syneg.run import teachers
from syneg.run.pipeline import Run

Settings = Callable[..., list[str]]


@pytest.fixture
def numbered(beir: Path) -> Path:
    """The collection with numbers as ids of queries and passages."""
    for name in ("corpus", "queries"):
        path = beir / f"{name}.jsonl"
        write_rows(path, [{**row, "_id": row["_id"][1:]} for row in read_rows(path)])
    qrels = beir / "qrels" / "train.tsv"
    qrels.write_text(qrels.read_text().replace("\nq", "\n").replace("\td", "\t"))
    return beir


def collection_of(folder: Path) -> Collection:
    return load_collection(load_config(None, [f"collection.dataset={folder}"]).collection, 0)


def written(number: int, **more: Any) -> dict[str, Any]:
    text = f"the {THINGS[(number * 5 + 3) % 12]} is {ACTIONS[(number * 3 + 1) % 8]} again and counted slowly"
    return {"query_id": f"q{number}", "text": text, "program": "p", **more}


def negatives(path: Path, settings: Settings, name: str = "run") -> list[dict[str, Any]]:
    """The rows of negatives.jsonl that a run makes of a file."""
    values = settings("http://127.0.0.1:9/v1", **{"generate.given": str(path), "generate.program": "auto"})
    folder = path.parent / name
    Run(folder, load_config(None, values), Progress()).until("generate")
    return list(read_rows(folder / "negatives.jsonl"))


def test_ids_of_given_negatives_are_read_as_those_of_data(tmp_path: Path, numbered: Path, settings: Settings) -> None:
    path = tmp_path / "given.jsonl"
    found = []
    for spelling in (str, int, float, lambda number: f" {number} ", lambda number: f"{number}.0"):
        write_rows(path, [written(number, query_id=spelling(number)) for number in range(96)])
        found.append(negatives(path, settings, f"run{len(found)}"))
    assert len(found[0]) > 40
    assert all(rows == found[0] for rows in found)


@pytest.mark.parametrize("ending", [".gz", ".zst", ".bz2", ".xz"])
def test_given_negatives_may_be_packed(ending: str, tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "given.jsonl"
    write_rows(path, [written(number) for number in range(96)])
    packed = tmp_path / f"given.jsonl{ending}"
    packed.write_bytes(pack(path.read_bytes(), ending))
    assert negatives(packed, settings, "packed") == negatives(path, settings, "plain")


def test_rows_of_queries_that_the_collection_does_not_have_are_told(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [written(number) for number in range(94)]  # also of queries that are held out, which is no mistake
    path = tmp_path / "given.jsonl"
    write_rows(path, rows)
    negatives(path, settings)
    assert "not used" not in capsys.readouterr().err
    held_out = {"query": "merge a node", "text": "the node is merged"}
    write_rows(path, [*rows, written(94, query_id="Q94"), {"query": "no such query", "text": "t"}, held_out])
    negatives(path, settings)
    said = " ".join(capsys.readouterr().err.split())
    assert "2 rows not used: the collection does not have, for example the query 'Q94'; there is 'q94'" in said


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (written(1, accepted="false"), "accepted is 'false', not true or false"),
        (written(1, accepted=0), "accepted is 0, not true or false"),
        (written(1, query_id=True), "query_id is true or false, not an id"),
        (written(1, query_id=" "), "no query_id"),
        ('{"query_id": "q1", "text": "one", "text": "two"}', "two values are called 'text'"),
    ],
)
def test_a_row_that_may_mean_two_things_is_a_bad_row(row: Any, why: str, tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "given.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row), *(json.dumps(written(n)) for n in range(2, 9))]
    path.write_text("\n".join(lines))
    with pytest.raises(SynegError, match=f"1 of 8 rows cannot be used:\n.*:1: {why}"):
        negatives(path, settings)


def test_a_given_file_has_its_own_encoding_or_is_told_in_a_line(tmp_path: Path, beir: Path) -> None:
    collection, path = collection_of(beir), tmp_path / "grades.jsonl"
    text = json.dumps({"query_id": "q1", "doc_id": "d1", "grade": 3, "lm": "Größe"}, ensure_ascii=False)
    path.write_text(text, encoding="utf-16")
    found, notes = given_readings(path, collection, 0.0)
    assert (len(found), notes) == (1, [])
    path.write_text(text, encoding="cp1252")
    with pytest.raises(DataError, match=r"^not UTF-8 text \(.*grades.jsonl\); convert it to UTF-8$"):
        given_readings(path, collection, 0.0)


def test_ids_of_given_grades_are_read_as_those_of_data(tmp_path: Path, numbered: Path) -> None:
    collection, path = collection_of(numbered), tmp_path / "grades.jsonl"
    for ids in ({"query_id": 1.0, "doc_id": 7.0}, {"query_id": "1.0", "doc_id": " 7"}):
        write_rows(path, [{**ids, "grade": 2}])
        found, notes = given_readings(path, collection, 0.0)
        assert ([(r.query_id, r.doc_id, r.grade) for r in found], notes) == ([("1", "7", 2)], [])


def test_two_grades_of_a_passage_and_ids_that_are_none_are_told(tmp_path: Path, beir: Path) -> None:
    collection, path = collection_of(beir), tmp_path / "grades.jsonl"
    good = {"query_id": "q1", "doc_id": "d1", "grade": 3}
    write_rows(path, [good, good, {**good, "grade": 1}, {**good, "doc_id": "D1"}])
    found, notes = given_readings(path, collection, 0.0)
    assert [reading.grade for reading in found] == [1]
    assert notes == [
        "1 grade not used: the collection does not have the passage 'D1'; there is 'd1'",
        "1 passage has two grades: the last one counts",
    ]
    for bad in ({**good, "doc_id": None}, {"query_id": "q1", "doc_ids": "d1", "grades": [1, 2]}):
        write_rows(path, [bad])
        with pytest.raises(DataError, match="no doc_id|are no two lists"):
            given_readings(path, collection, 0.0)


def test_scores_of_a_teacher_are_read_as_carefully(tmp_path: Path, numbered: Path) -> None:
    collection, path = collection_of(numbered), tmp_path / "scores.jsonl"
    good = {"query_id": 1.0, "doc_id": "7.0", "score": 0.5}
    write_rows(path, [good, {**good, "score": 0.25}, {**good, "query_id": "Q1"}, {**good, "doc_id": 700}])
    scores, notes = teachers._given(path, collection)
    assert scores == {"1": {"7": 0.25}}
    assert notes == [
        "2 scores not used: the collection does not have, for example the query 'Q1'",
        "1 passage has two scores: the last one counts",
    ]
    path.write_text('{"query_id": "1", "doc_id": "7", "score": NaN}\n')
    with pytest.raises(DataError, match="score .* is not a number"):
        teachers._given(path, collection)
