"""Positives and negatives as objects or ids, as Tevatron and DPR write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from syneg.core.config import CollectionConfig
from syneg.core.errors import DataError
from syneg.data.collection import Collection, load_collection

COUNT = 12
OBJECT = {"docid": "{kind}{i}", "title": "T{i}", "text": "the {kind} thing {i} works"}


def lines(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def passage(kind: str, i: int) -> dict[str, str]:
    return {name: value.format(kind=kind, i=i) for name, value in OBJECT.items()}


def row(i: int, form: str) -> dict[str, Any]:
    def shown(kind: str) -> Any:
        whole = passage(kind, i)
        return {
            "whole": whole,
            "no title": {**whole, "title": ""},
            "id": {"docid": f"{kind}{i}"},
            "text": f"{kind}{i}",
        }[form]

    return {"query": f"how does thing {i} work", "positive_passages": [shown("d")], "negative_passages": [shown("n")]}


def loaded(tmp_path: Path, rows: list[dict[str, Any]], *, corpus: bool) -> Collection:
    passages = lines(tmp_path / "corpus.jsonl", [passage(kind, i) for kind in "dn" for i in range(COUNT)])
    path = lines(tmp_path / "pairs.jsonl", rows)
    return load_collection(CollectionConfig(dataset=path, corpus=passages if corpus else None))


@pytest.mark.parametrize(
    ("form", "corpus"), [("whole", False), ("whole", True), ("no title", True), ("id", True), ("text", True)]
)
def test_passages_of_rows_keep_their_ids(form: str, corpus: bool, tmp_path: Path) -> None:
    found = loaded(tmp_path, [row(i, form) for i in range(COUNT)], corpus=corpus)
    assert found.passages == {f"{kind}{i}": f"T{i} the {kind} thing {i} works" for kind in "dn" for i in range(COUNT)}
    for query_id, query in found.queries.items():
        number = query.split()[3]
        assert found.relevant(query_id) == {f"d{number}"}
        assert found.given_negatives[query_id] == (f"n{number}",)
    said = f"{2 * COUNT} positives and negatives are ids of passages"
    assert (said in found.notes) is (form in ("id", "text"))


@pytest.mark.parametrize("side", ["positive_passages", "negative_passages"])
def test_one_id_with_two_texts_and_an_id_of_no_passage_are_problems(side: str, tmp_path: Path) -> None:
    rows = [row(i, "whole") for i in range(COUNT)]
    rows[1][side][0]["docid"] = rows[0][side][0]["docid"]
    with pytest.raises(DataError, match=r"pairs.jsonl:2 passage id '[dn]0' occurs twice with different texts"):
        loaded(tmp_path, rows, corpus=False)
    rows[1][side] = [{"docid": "x9"}]
    with pytest.raises(DataError, match="pairs.jsonl:2 no passage has the id 'x9'"):
        loaded(tmp_path, rows, corpus=True)


def test_an_id_may_be_the_number_zero(tmp_path: Path) -> None:
    rows = [row(i, "whole") for i in range(COUNT)]
    for i, each in enumerate(rows):
        each["positive_passages"][0]["docid"] = i
    found = loaded(tmp_path, rows, corpus=False)
    assert found.passages["0"] == "T0 the d thing 0 works"
