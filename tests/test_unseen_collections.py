"""Collections of other kinds than the four of the benchmarks: judgements without a relevant passage, untidy ids."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from syneg.core.config import CollectionConfig
from syneg.core.errors import DataError
from syneg.data.collection import Collection, load_collection
from syneg.data.read_log import ReadLog


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def load(dataset: Path, **settings: object) -> Collection:
    return load_collection(CollectionConfig(dataset=str(dataset), **settings))


def test_queries_that_are_judged_with_nothing_relevant_are_left_out_and_are_no_bad_rows(beir: Path) -> None:
    for i in range(20):
        append(beir / "queries.jsonl", json.dumps({"_id": f"z{i}", "text": f"a topic of number {i}"}) + "\n")
        append(beir / "qrels" / "train.tsv", f"z{i}\td{i}\t0\nz{i}\td{i + 1}\t{-(i % 2)}\n")
    collection = load(beir)
    assert (collection.problems, len(collection.queries)) == ((), 96)
    said = "20 of 116 queries have judgements, but no relevant passage, and are left out"
    assert said in collection.notes
    append(beir / "qrels" / "train.tsv", "q0\td0\t2\nq1\td1\t2\n")
    with pytest.raises(DataError, match="leaves 0 queries with a relevant passage for train"):
        load(beir, min_relevance=2)


def test_queries_whose_relevant_passages_are_all_missing_are_still_bad_rows(beir: Path) -> None:
    append(beir / "queries.jsonl", json.dumps({"_id": "z", "text": "a topic"}) + "\n")
    append(beir / "qrels" / "train.tsv", "z\tgone\t1\nz\tgone too\t1\n")
    with pytest.raises(DataError, match=r"2 bad rows of 98 in qrels/train\.tsv"):
        load(beir)
    assert "z" not in load(beir, max_bad_rows=0.1).queries


def test_the_share_of_bad_rows_that_is_advised_is_enough() -> None:
    for bad in range(2, 101):
        log = ReadLog()
        for number in range(100):
            log.row("a")
            if number < bad:
                log.problem(f"a:{number}", "is bad")
        with pytest.raises(DataError, match="max_bad_rows=") as error:
            log.check(0.01)
        log.check(float(str(error.value).rsplit("max_bad_rows=", 1)[1]))
