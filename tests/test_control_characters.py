"""Control characters and halves of surrogate pairs: what a run writes can be read again, and ids stay distinct."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from syneg.cli.browse import entry
from syneg.core.config import CollectionConfig
from syneg.core.errors import DataError
from syneg.core.near import near_key
from syneg.core.text import normalise, plain_text
from syneg.data.cells import BadCell, id_cell
from syneg.data.collection import load_collection
from syneg.retrieval.metrics import write_trec
from syneg.verdict.markup import document

CONTROLS = "".join(map(chr, (*range(32), *range(127, 160))))
_UNWRITTEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def test_ids_that_no_file_can_store_are_bad_and_not_made_equal(beir: Path) -> None:
    with pytest.raises(BadCell, match="id holds half of a surrogate pair"):
        id_cell("d\ud800")
    with (beir / "corpus.jsonl").open("a") as file:
        file.write(
            "".join(json.dumps({"_id": f"d{half}", "text": f"a text {half!a}"}) + "\n" for half in "\ud800\udfff")
        )
    collection = load_collection(CollectionConfig(dataset=str(beir), max_bad_rows=0.1))
    assert collection.problems == (
        "corpus.jsonl:97 id holds half of a surrogate pair, which no file can store",
        "corpus.jsonl:98 id holds half of a surrogate pair, which no file can store",
    )


def test_a_query_with_control_characters_equals_the_one_without(beir: Path) -> None:
    assert normalise("close\x00a\x07 file") == normalise("Close a file") == "close a file"
    assert near_key("résumé\x00 of\x9f it") == "résumé of it"
    with (beir / "queries.jsonl").open("a") as file:
        file.write(json.dumps({"_id": "twin", "text": "close\x00 a socket\x01"}) + "\n")
    (beir / "qrels" / "test.tsv").write_text("twin\td0\t1\nq5\td5\t1\nq6\td6\t1\n")
    with pytest.raises(DataError, match="3 of the queries of 'beir' are in two splits"):
        load_collection(CollectionConfig(dataset=str(beir)))


def test_an_lms_text_has_no_control_characters() -> None:
    assert plain_text(f"close{CONTROLS}it\ud800") == "close it?"


def test_a_page_has_no_control_characters() -> None:
    page = document(f"a{CONTROLS}b", [f"<p>{CONTROLS}</p>\n\t"])
    assert not _UNWRITTEN.search(page)
    assert "\n\t" in page


def test_a_file_of_trec_has_ids_without_control_characters(tmp_path: Path) -> None:
    ids = [f"d{character}" for character in CONTROLS]
    write_trec(tmp_path / "a.trec", {"q\0": {doc_id: 1.0 - place / 100 for place, doc_id in enumerate(ids)}}, "tag")
    text = (tmp_path / "a.trec").read_text()
    assert not _UNWRITTEN.search(text)
    assert [unquote(line.split(" ")[2]) for line in text.splitlines()] == ids


def test_the_terminal_gets_no_control_characters() -> None:
    row = {
        "query_id": f"q{CONTROLS}1", "accepted": False, "reason": "too near", "figure": None, "query": "q", "text": "t",
        "reasoning": "", "evidence": "", "attributes": {}, "figures": {}, "program": "p", "lm": "l", "attempt": 0,
        "input_tokens": 1, "output_tokens": 1,
    }  # fmt: skip
    assert not _UNWRITTEN.search(entry(row, CONTROLS, [], 80, "1/1"))
