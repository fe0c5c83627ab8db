"""Files as other programs leave them: each is read rightly, or one line says what is wrong."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from syneg.core.config import CollectionConfig
from syneg.core.errors import DataError, SynegError
from syneg.core.text import is_blank
from syneg.data.cells import id_cell
from syneg.data.collection import Collection, load_collection
from syneg.data.tables import names_a_file
from syneg.run.suggest import suggestion

PAIRS = [(f"how is pump {i} cleaned", f"Rinse pump {i}, then dry it for {i} hours.") for i in range(40)]
EXPECTED = {query: {positive} for query, positive in PAIRS}


def load(dataset: Path, **settings: Any) -> Collection:
    return load_collection(CollectionConfig(dataset=str(dataset), **settings))


def texts_of(collection: Collection) -> dict[str, set[str]]:
    return {text: set(collection.relevant_texts(query_id)) for query_id, text in collection.queries.items()}


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lines(rows: Iterable[Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def quoted(*cells: str) -> str:
    return ",".join(f'"{cell}"' for cell in cells) + "\n"


def as_objects(pairs: Sequence[tuple[str, str]] = PAIRS) -> list[dict[str, Any]]:
    return [{"query": query, "positive": positive} for query, positive in pairs]


# CSV


@pytest.mark.parametrize(
    ("before", "separator"),
    [("sep=;\n", ";"), ("SEP=|\r\n", "|"), ("sep=\t\n", "\t"), ('"sep=;"\n', ";"), ("# made 2026, by x; y\n", ","),
     ("#\n## pumps\n\n# two columns\n", ";"), ("sep=;\n# a, comment\n", ";")],
)  # fmt: skip
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_lines_above_the_header_are_no_rows(before: str, separator: str, name: str, tmp_path: Path) -> None:
    pairs = [(q, p if separator == "\t" else f'"{p}"') for q, p in PAIRS]
    text = before + f"query{separator}positive\n" + "".join(f"{q}{separator}{p}\n" for q, p in pairs)
    assert texts_of(load(write(tmp_path / name, text))) == EXPECTED
    bad = text.replace(f"how is pump 0 cleaned{separator}", f"how is pump 0 cleaned{separator}x{separator}")
    line = text[: text.index("how is pump 0")].count("\n") + 1
    with pytest.raises(SynegError, match=rf"{name}:{line}"):
        load(write(tmp_path / "bad" / name, bad), max_bad_rows=0)


def test_the_separator_is_the_one_that_is_named(tmp_path: Path) -> None:
    text = "sep=;\nquery;positive;a,b,c,d\n" + "".join(f"{q};{p};0\n" for q, p in PAIRS)
    assert texts_of(load(write(tmp_path / "a.csv", text))) == EXPECTED


def test_a_header_and_rows_may_begin_with_a_number_sign(tmp_path: Path) -> None:
    rows = [(f"# {query}", f"# {positive}") for query, positive in PAIRS]
    text = "#query,positive\n" + "".join(quoted(*row) for row in rows)
    assert texts_of(load(write(tmp_path / "a.csv", text), columns="query=#query,positive=positive")) == {
        q: {p} for q, p in rows
    }


def test_quotation_marks_after_a_space_are_no_part_of_the_text(tmp_path: Path) -> None:
    text = "query, positive\n" + "".join(f'"{query}", "{positive}"\n' for query, positive in PAIRS)
    assert texts_of(load(write(tmp_path / "a.csv", text))) == EXPECTED


@pytest.mark.parametrize("blank", ["   \n", ",\n", ' , ""\n', "\u00a0,\n"])
def test_a_row_of_blanks_is_no_row(tmp_path: Path, blank: str) -> None:
    text = "query,positive\n" + blank.join(quoted(*pair) for pair in PAIRS) + blank * 20
    assert texts_of(load(write(tmp_path / "a.csv", text), max_bad_rows=0)) == EXPECTED


@pytest.mark.parametrize("mark", ["N/A", "NA", "n/a", "#REF!", "#VALUE!", "nan"])
def test_marks_of_missing_values_are_told_and_never_trained_on(tmp_path: Path, mark: str) -> None:
    text = "query,positive\n" + "".join(quoted(*pair) for pair in [*PAIRS, ("a query", mark)])
    collection = load(write(tmp_path / "a.csv", text), max_bad_rows=0.1)
    assert collection.problems == (f"a.csv:42 positive is '{mark}', which usually marks a missing value",)


def test_a_text_without_a_visible_character_is_empty(tmp_path: Path) -> None:
    assert [is_blank(text) for text in ("\u200b\ufeff", "\0\u00ad", "\u3000", "🚰", "?", "क")] == [True] * 3 + [
        False
    ] * 3
    rows = [*as_objects(), {"query": "a query", "positive": "\u200b\ufeff"}, {"query": "\u2060", "positive": "a text"}]
    collection = load(write(tmp_path / "a.jsonl", lines(rows)), max_bad_rows=0.1)
    assert collection.problems == ("a.jsonl:41 empty positive", "a.jsonl:42 empty query")


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (gzip.compress(b"query,positive", mtime=0), "a .gz file, not text"),
        (b"PK\x03\x04 [Content_Types].xml", "a .zip or .xlsx file"),
        (b"PAR1\x15\x04", "a Parquet file"),
        (b"\x28\xb5\x2f\xfd\x04", "a .zst file"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "an .xls file"),
    ],
)
@pytest.mark.parametrize("name", ["pairs.csv", "pairs.jsonl"])
def test_a_file_that_is_no_text_is_named_and_no_encoding_proposed(
    tmp_path: Path, name: str, start: bytes, says: str
) -> None:
    with pytest.raises(DataError, match=says) as error:
        load(write(tmp_path / name, start))
    assert "encoding" not in str(error.value)


@pytest.mark.parametrize("name", ["my/pairs.csv.zst", "my/pairs.xls", "my/pairs.feather", "my/topics.xml"])
def test_a_missing_file_is_not_looked_for_on_the_hub(name: str) -> None:
    assert names_a_file(name)


# JSON and Parquet


def test_a_name_that_occurs_twice_in_an_object_is_told(tmp_path: Path) -> None:
    double = '{"query": "a query", "positive": "one", "positive": "two"}\n'
    collection = load(write(tmp_path / "a.jsonl", lines(as_objects()) + double), max_bad_rows=0.1)
    assert collection.problems == ("a.jsonl:41 not valid JSON: two values are called 'positive'",)


def test_a_data_frame_in_json_is_a_table(tmp_path: Path) -> None:
    columns = {name: {str(i): pair[place] for i, pair in enumerate(PAIRS)} for place, name in enumerate(("query", "positive"))}  # fmt: skip
    assert texts_of(load(write(tmp_path / "a.json", json.dumps(columns)))) == EXPECTED


@pytest.mark.parametrize("indent", [None, 1])
def test_an_array_that_is_called_jsonl_is_named(tmp_path: Path, indent: int | None) -> None:
    with pytest.raises(DataError, match=r"a JSON array, not one object per line \(a.jsonl:1\); name the file .json"):
        load(write(tmp_path / "a.jsonl", json.dumps(as_objects(), indent=indent)))


def test_two_columns_of_one_name_in_parquet_are_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    queries, positives = zip(*PAIRS, strict=True)
    table = pa.Table.from_arrays([pa.array(queries), pa.array(positives), pa.array(queries)], ["query", "positive", "positive"])  # fmt: skip
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="two columns are called 'positive'"):
        load(tmp_path / "a.parquet")


def test_ids_that_a_database_wrote_as_decimals() -> None:
    assert id_cell(Decimal("12345678901234567890123456789012345678")) == "12345678901234567890123456789012345678"
    assert [id_cell(Decimal(text)) for text in ("7", "7.0", "7.5", "Infinity")] == ["7", "7", "7.5", "Infinity"]


def test_passages_of_dpr_are_the_positives_and_not_its_short_answers(tmp_path: Path) -> None:
    rows = [
        {"question": query, "answers": ["Rinse"], "positive_ctxs": [{"title": "", "text": positive}],
         "hard_negative_ctxs": [{"title": "", "text": f"Paint {positive}"}]}
        for query, positive in PAIRS
    ]  # fmt: skip
    collection = load(write(tmp_path / "a.jsonl", lines(rows)))
    assert texts_of(collection) == EXPECTED
    assert sum(map(len, collection.given_negatives.values())) == 40


# nothing is left out in silence


def test_columns_of_any_row_and_of_the_corpus_that_are_not_used_are_named(tmp_path: Path) -> None:
    rows = as_objects()
    rows[9]["hard_negs"], rows[5]["url"], rows[0]["note"] = ["a text"], "", None
    corpus = [{"_id": str(i), "text": positive, "abstract": "x" if i else ""} for i, (_, positive) in enumerate(PAIRS)]
    pairs, docs = write(tmp_path / "a.jsonl", lines(rows)), write(tmp_path / "docs.jsonl", lines(corpus))
    expected = ("columns of docs.jsonl not used: abstract", "columns of a.jsonl not used: hard_negs")
    assert load(pairs, corpus=str(docs)).notes == expected
    assert "# columns of a.jsonl not used: hard_negs" in suggestion([str(pairs), str(docs)])


@pytest.mark.parametrize("columns", ["negative=nosuch", "split=nosuch,relevance=nosuch"])
def test_a_column_that_is_named_and_in_no_table_is_told(tmp_path: Path, beir: Path, columns: str) -> None:
    for data in (write(tmp_path / "a.jsonl", lines(as_objects())), beir):
        with pytest.raises(SynegError, match="collection.columns: no table has the column .*nosuch"):
            load(data, columns=columns)
    with pytest.raises(SynegError, match="collection.columns: no table has"):
        load_collection(CollectionConfig(dataset="python-docs-small", columns=columns))


def test_queries_without_a_judgement_and_files_that_are_not_read_are_counted(beir: Path) -> None:
    with (beir / "queries.jsonl").open("a") as file:
        file.write(lines([{"_id": f"z{i}", "text": f"a lonely query {i}"} for i in range(7)]))
    write(beir / "negatives.jsonl", "{}\n")
    write(beir / "README.md", "a set\n")
    assert load(beir).notes == (
        "files of beir not used: negatives.jsonl",
        "7 of 103 queries have no judgement and are left out",
    )


def test_a_split_in_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    write(tmp_path / "set" / "train.jsonl", lines(as_objects()))
    write(tmp_path / "set" / "test.jsonl.7z", b"7z")
    write(tmp_path / "set" / "data" / "test.jsonl", lines(as_objects()))
    assert load(tmp_path / "set").notes == (
        "files of set not used: test.jsonl.7z",
        "files of data not used: test.jsonl",
    )


@pytest.mark.parametrize("content", ["", "query-id\tcorpus-id\tscore\n"])
def test_an_empty_file_of_a_split_is_not_replaced_by_another_split(tmp_path: Path, beir: Path, content: str) -> None:
    write(beir / "qrels" / "test.tsv", content)
    with pytest.raises(DataError, match=r"the file has no rows \(qrels/test.tsv\)"):
        load(beir)
    write(tmp_path / "set" / "train.jsonl", lines(as_objects()))
    write(tmp_path / "set" / "test.tsv", content)
    with pytest.raises(DataError, match=r"the file has no rows \(test.tsv\)"):
        load(tmp_path / "set")


def test_a_query_id_of_two_texts_is_told_in_words(beir: Path) -> None:
    with (beir / "queries.jsonl").open("a") as file:
        file.write(lines([{"_id": "q1", "text": "another text"}]))
    assert load(beir, max_bad_rows=0.1).problems == (
        "queries of beir:q1 query id 'q1' occurs twice with different texts",
    )


# TREC and saved data sets


def test_ids_with_spaces_in_qrels_without_a_header(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    write(folder / "corpus.jsonl", lines({"_id": f"doc {i}", "text": text} for i, (_, text) in enumerate(PAIRS)))
    write(folder / "queries.jsonl", lines({"_id": f"q {i}", "text": text} for i, (text, _) in enumerate(PAIRS)))
    for row in ("q {0}\tdoc {0}\t1\n", "q {0}\t0\tdoc {0}\t1\n"):
        write(folder / "qrels" / "train.tsv", "".join(row.format(i) for i in range(40)))
        assert texts_of(load(folder)) == EXPECTED


def trec(folder: Path, topics: str, docs: str = "<DOC><DOCNO>d{i}</DOCNO><TEXT>{text}</TEXT></DOC>\n") -> Path:
    write(folder / "docs.trec", "".join(docs.format(i=i, text=text) for i, (_, text) in enumerate(PAIRS)))
    write(folder / "topics.xml", "<topics>" + "".join(topics.format(i=i, text=text) for i, (text, _) in enumerate(PAIRS)) + "</topics>")  # fmt: skip
    write(folder / "qrels.train.txt", "".join(f"{i} 0 d{i} 1\n" for i in range(40)))
    return folder


@pytest.mark.parametrize("name", ["num", "number", "identifier"])
def test_the_number_of_a_topic_may_be_an_element(tmp_path: Path, name: str) -> None:
    topics = f"<topic><{name}>{{i}}</{name}><title>{{text}}</title></topic>\n"
    assert texts_of(load(trec(tmp_path / "set", topics))) == EXPECTED


def test_the_number_of_a_document_may_be_an_attribute(tmp_path: Path) -> None:
    topics, docs = "{i}\t{text}\n", '<DOC id="d{i}" type="story"><TEXT>{text}</TEXT></DOC>\n'
    folder = trec(tmp_path / "set", topics, docs)
    write(folder / "topics.xml", "".join(topics.format(i=i, text=text) for i, (text, _) in enumerate(PAIRS)))
    assert texts_of(load(folder)) == EXPECTED


def test_a_file_of_topics_under_other_names_is_not_read_as_an_empty_one(tmp_path: Path) -> None:
    folder = trec(tmp_path / "set", '<query id="{i}"><text>{text}</text></query>\n')
    with pytest.raises(DataError, match=r"the file has no entry <top> … </top> \(topics.xml\)"):
        load(folder)


def test_a_folder_of_save_to_disk(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    table = Dataset.from_list(as_objects())
    table.save_to_disk(tmp_path / "one")
    assert texts_of(load(tmp_path / "one")) == EXPECTED
    DatasetDict({"train": table.select(range(30)), "test": table.select(range(30, 40))}).save_to_disk(tmp_path / "two")
    collection = load(tmp_path / "two")
    assert {collection.queries[query_id] for query_id in collection.splits["test"]} == {q for q, _ in PAIRS[30:]}
    write(tmp_path / "docs.jsonl", lines({"_id": f"c{i}", "text": text} for i, (_, text) in enumerate(PAIRS)))
    assert set(load(tmp_path / "two", corpus=str(tmp_path / "docs.jsonl")).passages) == {f"c{i}" for i in range(40)}
    (tmp_path / "one" / "state.json").write_text("{}")
    with pytest.raises(DataError, match="cannot read a folder of save_to_disk"):
        load(tmp_path / "one")
