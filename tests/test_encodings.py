"""An encoding that is named changes no file that does not need it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from syneg.core.config import CollectionConfig
from syneg.core.errors import DataError
from syneg.data.collection import load_collection

ROWS = [(f"où est la clé {i}", f"La clé {i} se trouve derrière le café.") for i in range(40)]
PAIRS = "query;positive\n" + "".join(f"{query};{positive}\n" for query, positive in ROWS)
CORPUS = "".join(
    json.dumps({"_id": f"d{i}", "text": text}, ensure_ascii=False) + "\n" for i, (_, text) in enumerate(ROWS)
)


@pytest.mark.parametrize(("form", "zipped"), [("utf-8", False), ("utf-8-sig", False), ("utf-16", True)])
def test_beside_pairs_in_another_encoding_a_corpus_is_read_in_its_own(tmp_path: Path, form: str, zipped: bool) -> None:
    (tmp_path / "pairs.csv").write_bytes(PAIRS.encode("cp1252"))
    corpus = tmp_path / ("corpus.jsonl.gz" if zipped else "corpus.jsonl")
    corpus.write_bytes(gzip.compress(CORPUS.encode(form)) if zipped else CORPUS.encode(form))
    config = CollectionConfig(dataset=str(tmp_path / "pairs.csv"), corpus=str(corpus), encoding="cp1252")
    collection = load_collection(config)
    assert collection.passages == {f"d{i}": text for i, (_, text) in enumerate(ROWS)}
    assert sorted(collection.queries.values()) == sorted(query for query, _ in ROWS)


@pytest.mark.parametrize("named", ["utf-8", "latin-1", "utf-16-le"])
@pytest.mark.parametrize("form", ["utf-8-sig", "utf-16"])
def test_a_mark_at_the_start_wins_over_the_name(tmp_path: Path, named: str, form: str) -> None:
    (tmp_path / "pairs.csv").write_bytes(PAIRS.encode(form))
    collection = load_collection(CollectionConfig(dataset=str(tmp_path / "pairs.csv"), encoding=named))
    assert sorted(collection.queries.values()) == sorted(query for query, _ in ROWS)


@pytest.mark.parametrize("form", ["iso2022_jp", "utf-16-le", "shift_jis"])
def test_bytes_that_only_look_like_utf_8_are_read_as_named(tmp_path: Path, form: str) -> None:
    rows = [(f"鍵 {i}", f"鍵 {i} は店の後ろにある。") for i in range(40)]
    text = "query;positive\n" + "".join(f"{query};{positive}\n" for query, positive in rows)
    (tmp_path / "pairs.csv").write_bytes(text.encode(form))
    collection = load_collection(CollectionConfig(dataset=str(tmp_path / "pairs.csv"), encoding=form))
    assert sorted(collection.queries.values()) == sorted(query for query, _ in rows)


def test_a_name_that_python_does_not_know_is_refused_even_for_utf_8(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text(PAIRS, encoding="utf-8")
    with pytest.raises(DataError, match="unknown encoding 'cp1525'"):
        load_collection(CollectionConfig(dataset=str(tmp_path / "pairs.csv"), encoding="cp1525"))
