"""Nothing in a file is dropped, changed or trained on without a word."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import ACTIONS, THINGS, pack

from syneg.core.config import CollectionConfig
from syneg.core.errors import DataError, SynegError
from syneg.data.collection import Collection, load_collection
from syneg.data.splits import split_name

ROWS = [(f"how do I {action} a {thing}", f"To {action} the {thing}, call its method and wait.") for thing in THINGS for action in ACTIONS][:40]  # fmt: skip


def load(dataset: Path | str, **settings: Any) -> Collection:
    return load_collection(CollectionConfig(dataset=str(dataset), **settings))


def jsonl(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def table(path: Path, rows: Sequence[Sequence[str]], head: Sequence[str] = ("query", "positive"), **form: Any) -> Path:
    with path.open("w", newline="", encoding=form.pop("encoding", "utf-8")) as file:
        csv.writer(file, **form).writerows([head, *rows])
    return path


def texts_of(collection: Collection) -> dict[str, set[str]]:
    return {text: set(collection.relevant_texts(query_id)) for query_id, text in collection.queries.items()}


EXPECTED = {query: {positive} for query, positive in ROWS}


# files


def test_a_cell_of_any_length_is_read(tmp_path: Path) -> None:
    long = "word " * 40_000
    collection = load(table(tmp_path / "pairs.csv", [*ROWS, ("a long one", long)]))
    assert len(collection.queries) == 41
    assert texts_of(collection)["a long one"] == {long.strip()}


@pytest.mark.parametrize("query", ['"Hamlet" act one', '"how do I clean a spoke', '"Hamlet"', 'a 5" pipe'])
def test_quotation_marks_in_a_tsv_are_text(tmp_path: Path, query: str) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("query\tpositive\n" + "".join(f"{q}\t{p}\n" for q, p in [*ROWS[:20], (query, "pos"), *ROWS[20:]]))
    assert texts_of(load(path)) == {**EXPECTED, query: {"pos"}}


def test_a_tsv_whose_rows_but_not_header_are_quoted_is_unquoted(beir: Path) -> None:
    path = beir / "qrels" / "train.tsv"
    head, *rows = path.read_text().splitlines()
    quoted = ["\t".join(f'"{cell}"' for cell in row.split("\t")) for row in rows]
    path.write_bytes("\r\n".join([head, *quoted, ""]).encode())
    assert load(beir).relevant("q7") == {"d7"}


def test_a_row_with_two_faults_is_one_bad_row(beir: Path) -> None:
    path = beir / "qrels" / "train.tsv"
    path.write_text(path.read_text().replace("\td7\t", "\tnosuch\t"))
    with pytest.raises(DataError, match=r"1 bad row of 96 in qrels/train.tsv"):
        load(beir, max_bad_rows=0)


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_a_tsv_that_pandas_quoted_is_unquoted(tmp_path: Path, quoting: int) -> None:
    rows = [*ROWS, ('say "hi"', "one\ttab"), ("two\nlines", "x")]
    collection = load(table(tmp_path / "pairs.tsv", rows, delimiter="\t", quoting=quoting))
    assert texts_of(collection) == {**EXPECTED, 'say "hi"': {"one\ttab"}, "two\nlines": {"x"}}


def test_an_open_quotation_mark_in_a_csv_is_an_error_and_never_skips_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    lines = [f"{query},{positive.replace(',', ' ')}" for query, positive in ROWS]
    path.write_text("query,positive\n" + "\n".join([*lines[:20], '"open,text', *lines[20:]]) + "\n")
    with pytest.raises(DataError, match=r"quotation mark that opens in line 22 is not closed \(pairs.csv:22\)"):
        load(path, max_bad_rows=1.0)


def test_the_share_of_bad_rows_is_that_of_each_file(beir: Path) -> None:
    lines = (beir / "qrels" / "train.tsv").read_text().splitlines()
    lines[1:4] = [line.rsplit("\t", 1)[0] + "\tyes" for line in lines[1:4]]
    (beir / "qrels" / "train.tsv").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"3 bad rows of 96 in qrels/train.tsv"):
        load(beir, max_bad_rows=0.02)  # 3 of 288 rows in all would pass


@pytest.mark.parametrize(
    ("encoding", "text"), [("utf-8-sig", "é"), ("utf-16", "é"), ("utf-16-be", "\ufeffé"), ("utf-32", "字")]
)
def test_a_mark_at_the_start_tells_the_encoding(tmp_path: Path, encoding: str, text: str) -> None:
    path = tmp_path / "pairs.csv"
    head = "\ufeffquery" if encoding == "utf-16-be" else "query"
    lines = [f"{head},positive", *(f"{q}{text.strip(chr(0xFEFF))},{p.replace(',', '')}" for q, p in ROWS)]
    path.write_bytes("\n".join(lines).encode(encoding))
    assert len(load(path).queries) == 40


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le"])
def test_another_encoding_is_refused_in_one_line_and_read_when_named(tmp_path: Path, encoding: str) -> None:
    rows = [(f"{query} à la façon", positive) for query, positive in ROWS]
    path = table(tmp_path / "pairs.csv", rows, encoding=encoding)
    with pytest.raises(DataError, match=r"not UTF-8 text \(pairs.csv:\d+\); .*--set collection.encoding=\w+") as error:
        load(path)
    assert "\n" not in str(error.value)
    assert rows[0][0] in texts_of(load(path, encoding=encoding))


def test_separators_names_of_columns_and_of_files_in_any_case(tmp_path: Path) -> None:
    for number, (separator, name) in enumerate([(";", "a.CSV"), ("|", "b.csv"), ("\t", "c.Tsv"), (",", "d.CSV")]):
        path = table(tmp_path / name, ROWS, ("Query", " POSITIVE "), delimiter=separator)
        assert texts_of(load(path)) == EXPECTED, number


@pytest.mark.parametrize("ending", [".gz", ".zst", ".bz2", ".xz"])
def test_packed_tables_are_read(ending: str, tmp_path: Path) -> None:
    text = "".join(json.dumps({"Question": q, "Answer": f"{p} à la façon"}, ensure_ascii=False) + "\n" for q, p in ROWS)
    path = tmp_path / f"e.jsonl{ending}"
    path.write_bytes(pack(text.encode(), ending))
    assert texts_of(load(path)) == texts_of(load(table(tmp_path / "f.csv", [(q, f"{p} à la façon") for q, p in ROWS])))
    path.write_bytes(pack(text.encode("cp1252"), ending))
    with pytest.raises(DataError, match=r"not UTF-8 text .*; .*--set collection.encoding=cp1252"):
        load(path)
    assert load(path, encoding="cp1252").passages
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / f"train.jsonl{ending}").write_bytes(pack(text.encode(), ending))
    assert len(load(folder).passages) == len(load(path, encoding="cp1252").passages)


def test_json_arrays_columns_and_parquet_are_tables(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    rows = [{"anchor": query, "positive": positive} for query, positive in ROWS]
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=1))
    (tmp_path / "b.json").write_text(json.dumps({"anchor": [q for q, _ in ROWS], "positive": [p for _, p in ROWS]}))
    (tmp_path / "c.json").write_text("\n".join(map(json.dumps, rows)))
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "d.parquet")
    coded = [{name: text.encode() for name, text in row.items()} for row in rows]  # as Spark writes them
    parquet.write_table(pyarrow.Table.from_pylist(coded), tmp_path / "e.parquet")
    for name in "a.json", "b.json", "c.json", "d.parquet", "e.parquet":
        assert texts_of(load(tmp_path / name)) == EXPECTED, name
    parquet.write_table(
        pyarrow.Table.from_pylist([*coded, {"anchor": b"\xe0", "positive": b"x"}]), tmp_path / "f.parquet"
    )
    with pytest.raises(DataError, match="query is bytes that are no UTF-8, not a text"):
        load(tmp_path / "f.parquet")
    (tmp_path / "d.parquet").write_bytes(b"PAR1 broken")
    with pytest.raises(DataError, match="not a Parquet file"):
        load(tmp_path / "d.parquet")
    (tmp_path / "a.json").write_text(json.dumps(rows)[:-5])
    with pytest.raises(DataError, match="not valid JSON"):
        load(tmp_path / "a.json", max_bad_rows=1.0)


# cells


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"query": ["a", "b"], "positive": "x"}, "query is a list, not a text"),
        (
            {"query": {"text": "a"}, "positive": "x"},
            "query is an object, not a text; give its text a column of its own",
        ),
        ({"query": "a", "positive": 12.5}, "positive is a number, not a text"),
        ({"query": True, "positive": "x"}, "query is true or false, not a text"),
        ({"query": "a", "positive": float("nan")}, "empty positive"),
        ({"query": None, "positive": "x"}, "empty query"),
        ({"query": "a", "positive": "NaN"}, "positive is 'NaN', which usually marks a missing value"),
        ({"query": "a", "positive": ["x", 3]}, "an entry of positive is a number, not a text"),
        ({"query": "a", "positive": "['x', \"it's y\"]"}, "positive is a list that was written as text"),
        ({"query": "a", "positive": '["x", "y"]'}, "positive is a list that was written as text"),
        ({"query": "a", "positive": "x", "query_id": [1]}, "query_id is a list, not an id"),
        ({"query": "a \ud800", "positive": "x"}, "query holds half of a surrogate pair"),
    ],
)
def test_what_is_no_text_is_a_problem_and_not_made_one(tmp_path: Path, row: dict[str, Any], says: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in [*({"query": q, "positive": p} for q, p in ROWS), row]))
    with pytest.raises(DataError) as error:
        load(path)
    assert f"pairs.jsonl:41 {says}" in str(error.value)
    collection = load(path, max_bad_rows=0.1)
    assert texts_of(collection) == EXPECTED
    assert len(collection.problems) == 1


def test_several_positives_stand_in_lists_or_in_rows(tmp_path: Path) -> None:
    lists = [{"query": q, "pos": [p, f"{p} Twice."]} for q, p in ROWS]
    rows = [{"query": q, "positive": text} for q, p in ROWS for text in (p, f"{p} Twice.")]
    tevatron = [{"query_id": i, "query": q, "positive_passages": [{"docid": f"{i}a", "title": "", "text": p},
                 {"docid": f"{i}b", "title": "T", "text": "body"}]} for i, (q, p) in enumerate(ROWS)]  # fmt: skip
    expected = {q: {p, f"{p} Twice."} for q, p in ROWS}
    assert texts_of(load(jsonl(tmp_path / "a.jsonl", lists))) == expected
    assert texts_of(load(jsonl(tmp_path / "b.jsonl", rows))) == expected
    assert texts_of(load(jsonl(tmp_path / "c.jsonl", tevatron))) == {q: {p, "T body"} for q, p in ROWS}


def test_columns_that_are_not_known_are_named(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", [(q, p, "x") for q, p in ROWS], ("Titel", "Inhalt", "Autor"))
    collection = load(path, columns="query=titel, positive=Inhalt")
    assert texts_of(collection) == EXPECTED
    assert "columns of a.csv not used: Autor" in collection.notes
    with pytest.raises(SynegError, match="unknown 'qery'; did you mean 'query'"):
        load(path, columns="qery=Titel")


def test_a_score_beside_pairs_is_no_grade_until_it_is_named(tmp_path: Path) -> None:
    rows = [{"query": q, "positive": p, "score": 2} for q, p in ROWS]
    path = jsonl(tmp_path / "a.jsonl", rows)
    collection = load(path)
    assert collection.notes == (
        "if score grades the positive, give --columns relevance=score",
        "columns of a.jsonl not used: score",
    )
    assert {grade for grades in collection.qrels.values() for grade in grades.values()} == {1}
    graded = load(path, columns="relevance=score")
    assert graded.notes == ()
    assert {grade for grades in graded.qrels.values() for grade in grades.values()} == {2}
    both = load(jsonl(tmp_path / "b.jsonl", [{**row, "label": 1} for row in rows]))
    assert both.notes == ("columns of b.jsonl not used: score",)


# ids


def test_made_ids_meet_no_id_of_the_corpus_and_come_from_the_text(tmp_path: Path) -> None:
    corpus = jsonl(tmp_path / "corpus.jsonl", [{"_id": f"p{i}", "text": f"about golf {i}"} for i in range(60)])
    collection = load(table(tmp_path / "pairs.csv", ROWS), corpus=str(corpus))
    assert texts_of(collection) == EXPECTED
    assert len(collection.passages) == 100
    table(tmp_path / "pairs.csv", [("a new question", "a new answer"), *ROWS])
    after = load(tmp_path / "pairs.csv", corpus=str(corpus))
    assert {q: text for q, text in after.queries.items() if q in collection.queries} == collection.queries


def test_ids_that_are_numbers_stay_what_they_are_from_0_on(tmp_path: Path) -> None:
    corpus = jsonl(tmp_path / "corpus.jsonl", [{"id": i, "text": f"{p} With more."} for i, (_, p) in enumerate(ROWS)])
    for name, ids in ("int", range(40)), ("float", map(float, range(40))), ("text", (f" {i} " for i in range(40))):
        rows = [{"query_id": i, "doc_id": i, "query": q, "positive": f"{p} With more."} for i, (q, p) in zip(ids, ROWS, strict=True)]  # fmt: skip
        collection = load(jsonl(tmp_path / f"{name}.jsonl", rows), corpus=str(corpus))
        assert set(collection.queries) == set(collection.passages) == {str(i) for i in range(40)}, name
        assert collection.relevant("0") == {"0"}


def test_two_texts_under_one_id_are_problems(tmp_path: Path) -> None:
    chunks = [{"query": q, "positive": p, "doc_id": f"manual-{i // 6}"} for i, (q, p) in enumerate(ROWS)]
    with pytest.raises(DataError, match=r"33 bad rows of 40 in a.jsonl") as error:
        load(jsonl(tmp_path / "a.jsonl", chunks))
    assert "a.jsonl:2 passage id 'manual-0' occurs twice with different texts" in str(error.value)
    queries = [{"query": q, "positive": p, "query_id": i // 2} for i, (q, p) in enumerate(ROWS)]
    with pytest.raises(DataError, match="query id '0' occurs twice with different texts"):
        load(jsonl(tmp_path / "b.jsonl", queries))
    corpus = jsonl(tmp_path / "corpus.jsonl", [{"id": "d", "text": "one"}, {"id": "d", "text": "two"}])
    with pytest.raises(DataError, match="corpus.jsonl:2 passage id 'd' occurs twice with different texts"):
        load(table(tmp_path / "pairs.csv", ROWS), corpus=str(corpus))


# positives and the corpus


def test_positives_are_found_by_their_text_without_the_title(tmp_path: Path) -> None:
    corpus = jsonl(
        tmp_path / "c.jsonl", [{"_id": f"d{i}", "title": f"Title {i}", "text": p} for i, (_, p) in enumerate(ROWS)]
    )
    collection = load(table(tmp_path / "pairs.csv", ROWS), corpus=str(corpus))
    assert len(collection.passages) == 40
    assert not [note for note in collection.notes if "positives" in note]


def test_positives_that_are_pieces_of_passages_stand_for_these_and_are_counted(tmp_path: Path) -> None:
    corpus = jsonl(
        tmp_path / "c.jsonl", [{"_id": f"d{i}", "text": f"First. {p} Then rest."} for i, (_, p) in enumerate(ROWS)]
    )
    collection = load(table(tmp_path / "pairs.csv", [*ROWS, ("another", "nowhere to be found")]), corpus=str(corpus))
    assert len(collection.passages) == 41
    assert all(collection.relevant(q) <= set(collection.passages) for q in collection.queries)
    assert "41 of 41 positives are no passage of the corpus; 40 are contained in passages" in collection.notes[0]


def test_passages_around_a_positive_are_never_negatives_of_its_query(tmp_path: Path) -> None:
    phrase = "please read the whole manual first"
    passages = [{"_id": f"d{i}", "text": f"{p} Now {phrase}."} for i, (_, p) in enumerate(ROWS)]
    corpus = jsonl(tmp_path / "c.jsonl", [*passages, {"_id": "piece", "text": "the second half of a long answer"}])
    rows = [("which one", phrase), ("halves", "It has the first half and the second half of a long answer.")]
    collection = load(table(tmp_path / "p.csv", [*ROWS[:30], *rows]), corpus=str(corpus))
    ids = {text: query_id for query_id, text in collection.queries.items()}
    common, whole = ids["which one"], ids["halves"]
    assert len(collection.relevant(common)) == 1  # a common phrase stands for no passage
    assert {f"d{i}" for i in range(40)} <= collection.no_negative(common)
    assert "piece" in collection.no_negative(whole) - collection.relevant(whole)


def test_a_large_corpus_is_matched_like_a_small_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = jsonl(
        tmp_path / "c.jsonl", [{"_id": f"d{i}", "text": f"First. {p} Then rest."} for i, (_, p) in enumerate(ROWS)]
    )
    rows = [*ROWS, ("halves", f"Before all this. First. {ROWS[3][1]} Then rest. And after.")]
    path = table(tmp_path / "pairs.csv", rows)
    small = load(path, corpus=str(corpus))
    monkeypatch.setattr("syneg.data.matching._MAX_COMPARISONS", 0)
    assert load(path, corpus=str(corpus)).fingerprint == small.fingerprint
    assert small.never_mined


def test_negatives_of_triplets_are_kept_beside_the_pairs(tmp_path: Path) -> None:
    rows = [(q, p, ROWS[i - 1][1], f"Never {p}") for i, (q, p) in enumerate(ROWS)]
    collection = load(table(tmp_path / "a.csv", rows, ("anchor", "positive", "negative_1", "negative_2")))
    for query_id, query in collection.queries.items():
        i = [q for q, _ in ROWS].index(query)
        names = [collection.passages[doc_id] for doc_id in collection.given_negatives[query_id]]
        assert names == [ROWS[i - 1][1], f"Never {ROWS[i][1]}"]


def test_negatives_that_are_relevant_and_two_grades_of_one_passage_are_said(tmp_path: Path, beir: Path) -> None:
    rows = [{"anchor": q, "positive": p, "negative": p if i < 3 else ROWS[i - 1][1]} for i, (q, p) in enumerate(ROWS)]
    collection = load(jsonl(tmp_path / "triplets.jsonl", rows))
    assert "3 given negatives are judged relevant to their query; they are left out" in collection.notes
    assert len(collection.given_negatives) == 37
    path = beir / "qrels" / "train.tsv"
    path.write_text(path.read_text() + "q5\td5\t3\nq6\td6\t1\n")
    collection = load(beir)
    note = "1 pair of query and passage has two grades, such as query 'q5' and passage 'd5': the higher grade counts"
    assert (collection.qrels["q5"], collection.notes) == ({"d5": 3}, (note,))


# grades


def test_fractions_are_problems_and_never_zeros(beir: Path) -> None:
    path = beir / "qrels" / "train.tsv"
    path.write_text(path.read_text() + "q0\td5\t0.4\n")
    with pytest.raises(DataError, match=r"qrels/train.tsv:98 score 0.4 is a fraction; set collection.min_relevance"):
        load(beir)
    assert load(beir, min_relevance=0.3).relevant("q0") == {"d0", "d5"}
    assert load(beir, min_relevance=0.5).relevant("q0") == {"d0"}
    assert load(beir, min_relevance=0.5).qrels["q0"] == {"d0": 1, "d5": 0.4}


def test_a_lowest_grade_and_grades_below_zero(beir: Path) -> None:
    lines = [f"q{i}\td{i}\t3\nq{i}\td{(i + 1) % 96}\t1\nq{i}\td{(i + 2) % 96}\t-2" for i in range(96)]
    (beir / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(lines) + "\n")
    assert load(beir).relevant("q0") == {"d0", "d1"}
    strict = load(beir, min_relevance=2)
    assert strict.relevant("q0") == {"d0"} and strict.qrels["q0"] == {"d0": 3, "d1": 1, "d2": 0}
    (beir / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n" + "q0\td0\t1\n" + "\n".join(lines[1:]))
    assert "q0" not in load(beir, min_relevance=2, max_bad_rows=0.02).queries


def test_grades_of_trec_and_qrels_without_a_header(beir: Path) -> None:
    for line in ("q{0} 0 d{0} 2", "q{0}\td{0}\t1"):
        (beir / "qrels" / "train.tsv").write_text("\n".join(line.format(i) for i in range(96)) + "\n")
        assert load(beir).relevant("q7") == {"d7"}


# splits


@pytest.mark.parametrize("test", ["Test", "test ", "TESTING"])
@pytest.mark.parametrize("dev", ["validation", "Val", "dev_small"])
def test_splits_by_other_names_are_known(tmp_path: Path, dev: str, test: str) -> None:
    names = ["train"] * 20 + [dev] * 10 + [test] * 10
    collection = load(
        table(tmp_path / "a.csv", [(*r, n) for r, n in zip(ROWS, names, strict=True)], ("query", "positive", "split"))
    )
    tested = {collection.queries[query_id] for query_id in collection.splits["test"]}
    assert tested == {query for query, _ in ROWS[30:]}
    assert len(collection.splits["dev"]) == 10


def test_names_of_files_are_splits_and_unknown_ones_errors(beir: Path) -> None:
    lines = (beir / "qrels" / "train.tsv").read_text().splitlines()
    for name, part in ("train", lines[1:61]), ("val", lines[61:81]), ("test", lines[81:]):
        (beir / "qrels" / f"{name}.TSV").write_text("\n".join([lines[0], *part]) + "\n")
    (beir / "qrels" / "train.tsv").unlink()
    collection = load(beir)
    assert set(collection.splits["dev"]) == {f"q{i}" for i in range(60, 80)}
    assert set(collection.splits["test"]) == {f"q{i}" for i in range(80, 96)}
    (beir / "qrels" / "test.TSV").rename(beir / "qrels" / "held.tsv")
    with pytest.raises(DataError, match=r"unknown split 'held' \(qrels/held.tsv\); name it one of: train, "):
        load(beir)


def test_a_row_without_a_split_beside_others_is_a_problem(tmp_path: Path) -> None:
    names = ["train"] * 20 + [""] + ["test"] * 19
    path = table(
        tmp_path / "a.csv", [(*r, n) for r, n in zip(ROWS, names, strict=True)], ("query", "positive", "split")
    )
    with pytest.raises(DataError, match="a.csv:22 empty split"):
        load(path)


def test_split_names() -> None:
    assert [split_name(name) for name in ("", "Train", "dev.small", "test-2019")] == ["", "train", "dev", "test"]
    for name in ("held-out", "train_test", "2019_test"):
        with pytest.raises(DataError, match="unknown split"):
            split_name(name)


def test_with_dev_and_test_only_dev_is_divided_and_test_left_alone(beir: Path) -> None:
    lines = (beir / "qrels" / "train.tsv").read_text().splitlines()
    (beir / "qrels" / "train.tsv").unlink()
    for name, part in ("dev", lines[1:61]), ("test", lines[61:]):
        (beir / "qrels" / f"{name}.tsv").write_text("\n".join([lines[0], *part]) + "\n")
    collection = load(beir)
    assert set(collection.splits["test"]) == {f"q{i}" for i in range(60, 96)}
    assert not set(collection.splits["train"]) & set(collection.splits["test"])
    assert "no train split: 45 of 60 dev queries become train" in collection.notes


def test_a_published_test_set_is_never_trained_on(monkeypatch: pytest.MonkeyPatch, beir: Path) -> None:
    from syneg.data.collection import read_collection
    from syneg.data.sources import open_reader

    (beir / "qrels" / "train.tsv").rename(beir / "qrels" / "test.tsv")
    config = CollectionConfig(dataset=str(beir), divide_test=True)
    reader = open_reader(config)
    monkeypatch.setattr(reader, "published", True)
    with pytest.raises(
        DataError, match="has only test queries, and these are not trained on; give a data set with train queries$"
    ):
        read_collection(reader, config)


# TREC

DOCS = "".join(f"<DOC>\n<DOCNO> D-{i} </DOCNO>\n<TITLE>T{i}</TITLE><TEXT>\n{p} &amp; <b>wait</b>\n</TEXT>\n</DOC>\n" for i, (_, p) in enumerate(ROWS))  # fmt: skip
SGML = "".join(
    f"<top>\n<num> Number: {i}\n<title> {q}\n\n<desc> Description:\nlong\n</top>\n" for i, (q, _) in enumerate(ROWS)
)
XML = (
    "<topics>"
    + "".join(f'<topic number="{i}"><query>{q}</query></topic>\n' for i, (q, _) in enumerate(ROWS))
    + "</topics>"
)
LINES = "".join(f"{i}\t{q}\n" for i, (q, _) in enumerate(ROWS))


@pytest.mark.parametrize(("name", "topics"), [("topics.txt", SGML), ("Topics.xml", XML), ("queries.tsv", LINES)])
def test_files_of_trec(tmp_path: Path, name: str, topics: str) -> None:
    (tmp_path / "docs.trec").write_text(DOCS)
    (tmp_path / name).write_text(topics)
    (tmp_path / "qrels.robust04.txt").write_text(
        "".join(f"{i} 0 D-{i} {i % 3 - 1}\n{i} 0 D-{i} 1\n" for i in range(40))
    )
    collection = load(tmp_path)
    assert collection.queries == {str(i): q for i, (q, _) in enumerate(ROWS)}
    assert collection.passages["D-0"] == f"T0 {ROWS[0][1]} & wait"
    assert collection.relevant("5") == {"D-5"}


def test_files_of_trec_that_are_broken(tmp_path: Path) -> None:
    (tmp_path / "docs.trec").write_text(DOCS + "<DOC><DOCNO>x</DOCNO> cut off")
    (tmp_path / "topics.txt").write_text(LINES)
    (tmp_path / "qrels.txt").write_text("".join(f"{i} 0 D-{i} 1\n" for i in range(40)) + "1 0 D-1\n")
    with pytest.raises(DataError, match="the file ends inside an entry"):
        load(tmp_path)
    (tmp_path / "docs.trec").write_text(DOCS)
    with pytest.raises(DataError, match="qrels.txt:41 has 3 columns, not 4"):
        load(tmp_path)


@pytest.mark.parametrize(("given", "known"), [("3.0", True), ("v3.0", False), ("python-3.0", False)])
def test_only_a_number_is_looked_up_without_its_point(beir: Path, given: str, known: bool) -> None:
    own = given.removesuffix(".0")
    for name in ("corpus.jsonl", "qrels/train.tsv"):
        path = beir / name
        path.write_text(path.read_text().replace('"d3"', f'"{own}"').replace("q3\td3\t", f"q3\t{given}\t"))
    if known:
        assert load(beir).relevant("q3") == {own}
    else:
        with pytest.raises(DataError, match=f"unknown passage '{given}'"):
            load(beir, max_bad_rows=0)


def test_hidden_files_are_no_data_and_a_second_file_of_passages_is_told(beir: Path) -> None:
    (beir / "qrels" / ".DS_Store").write_bytes(b"\0\1")
    (beir / "qrels" / "._train.tsv").write_bytes(b"\0\1")
    assert load(beir).notes == ()
    jsonl(beir / "corpus-old.jsonl", [{"_id": "old", "text": "an old passage"}])
    (note,) = load(beir).notes
    assert note == "passages are read from 2 files: corpus-old.jsonl, corpus.jsonl"


# one table for each split, on disk and on the hub


def write_splits(folder: Path, names: dict[str, list[int]], **more: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, numbers in names.items():
        rows = [{"anchor": ROWS[i][0], "positive": ROWS[i][1], **more} for i in numbers]
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize(
    ("train", "dev", "test", "inside"),
    [
        ("train.jsonl", "validation.jsonl", "test.jsonl", ""),
        ("Train.JSONL", "dev.ndjson", "TEST.jsonl", ""),
        ("train-00000-of-00001.jsonl", "val_clean.jsonl", "test-00000-of-00001.jsonl", "data"),
    ],
)
def test_a_folder_of_one_table_for_each_split(tmp_path: Path, train: str, dev: str, test: str, inside: str) -> None:
    parts = {train: [*range(20)], dev: [*range(20, 30)], test: [*range(30, 40)]}
    write_splits(tmp_path / "set" / inside, parts, split="wrong")
    collection = load(tmp_path / "set", confirm=0)
    for split, numbers in (("train", range(20)), ("dev", range(20, 30)), ("test", range(30, 40))):
        assert {collection.queries[q] for q in collection.splits[split]} == {ROWS[i][0] for i in numbers}
    assert len(collection.passages) == 40


def test_a_folder_of_splits_with_a_corpus_and_other_files(tmp_path: Path) -> None:
    folder = write_splits(tmp_path / "set", {"train.jsonl": [*range(30)], "test.jsonl": [*range(30, 40)]})
    (folder / "corpus.jsonl").write_text("".join(json.dumps({"_id": f"c{i}", "text": p}) + "\n" for i, (_, p) in enumerate(ROWS)))  # fmt: skip
    (folder / "notes.csv").write_text("a,b\n1,2\n")
    collection = load(folder)
    assert set(collection.passages) == {f"c{i}" for i in range(40)}
    assert "files of set not used: notes.csv" in collection.notes
    (folder / "corpus.jsonl").rename(tmp_path / "docs.jsonl")
    assert set(load(folder, corpus=str(tmp_path / "docs.jsonl")).passages) == set(collection.passages)


def on_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, subsets: dict[str, dict[str, str]]) -> list[dict[str, Any]]:
    """The hub holds one data set: subset → split → file. Returns what `load_dataset` is asked for."""
    import datasets

    asked: list[dict[str, Any]] = []
    load_dataset = datasets.load_dataset

    def from_files(path: str, name: str | None = None, **more: Any) -> Any:
        asked.append({"path": path, "name": name, **more})
        return load_dataset("json", data_files=subsets[name or "default"], cache_dir=str(tmp_path / "cache"))

    monkeypatch.setattr(datasets, "load_dataset", from_files)
    monkeypatch.setattr(datasets, "get_dataset_config_names", lambda path: list(subsets))
    return asked


def test_pairs_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_splits(tmp_path / "set", {"a.jsonl": [*range(30)], "b.jsonl": [*range(30, 40)]})
    files = {"train": str(folder / "a.jsonl"), "test": str(folder / "b.jsonl")}
    asked = on_hub(monkeypatch, tmp_path, {"default": files, "pair": files})
    for name, subset in (("someone/a-set", None), ("someone/a-set:pair", "pair")):
        collection = load(name)
        assert {collection.queries[q] for q in collection.splits["test"]} == {query for query, _ in ROWS[30:]}
        assert asked.pop() == {"path": "someone/a-set", "name": subset}
    with pytest.raises(DataError, match="no column 'query'"):
        load("someone/a-set", columns="query=nosuch")


def test_a_collection_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: dict[str, list[dict[str, Any]]] = {
        "corpus": [{"_id": f"d{i}", "title": "", "text": text} for i, (_, text) in enumerate(ROWS)],
        "queries": [{"_id": f"q{i}", "text": text} for i, (text, _) in enumerate(ROWS)],
        "train": [{"query-id": f"q{i}", "corpus-id": f"d{i}", "score": 1} for i in range(30)],
        "test": [{"query-id": f"q{i}", "corpus-id": f"d{i}", "score": 1.0} for i in range(30, 40)],
    }
    paths = {name: tmp_path / f"{name}.jsonl" for name in rows}
    for name, found in rows.items():
        paths[name].write_text("".join(json.dumps(row) + "\n" for row in found))
    subsets = {
        "corpus": {"corpus": str(paths["corpus"])}, "queries": {"queries": str(paths["queries"])},
        "default": {"train": str(paths["train"]), "test": str(paths["test"])},
    }  # fmt: skip
    on_hub(monkeypatch, tmp_path, subsets)
    collection = load("someone/a-set")
    assert len(collection.passages) == 40 and collection.relevant("q35") == {"d35"}
    assert set(collection.splits["test"]) == {f"q{i}" for i in range(30, 40)}


def test_a_file_without_rows_and_an_id_that_no_passage_has_are_said(tmp_path: Path) -> None:
    for text in ("", "query,positive\n"):
        (tmp_path / "empty.csv").write_text(text)
        with pytest.raises(DataError, match="'empty' has no rows; give a header"):
            load(tmp_path / "empty.csv")
    (tmp_path / "docs.jsonl").write_text('{"_id": "d1", "text": "the socket is closed"}\n')
    (tmp_path / "pairs.csv").write_text("query,doc_id\nclose a socket,d2\n")
    with pytest.raises(DataError, match="pairs.csv:2 no passage has the id 'd2'"):
        load(tmp_path / "pairs.csv", corpus=str(tmp_path / "docs.jsonl"))


def test_the_hub_is_asked_once(hub: Callable[[bool], list[str]]) -> None:
    hub(False)
    with pytest.raises(DataError, match="hub cannot be reached for 'someone/no-such-set'.*HF_HUB_OFFLINE=1"):
        load("someone/no-such-set")
    asked = hub(True)
    with pytest.raises(DataError, match="no file, folder or data set of the Hugging Face hub: 'someone/no-such-set'"):
        load("someone/no-such-set")
    assert len(asked) == 1


def test_a_set_that_the_hub_cannot_give_is_one_line() -> None:
    with pytest.raises(DataError, match="cannot load 'someone/no-such-set' from the Hugging Face hub") as error:
        load("someone/no-such-set")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "encoding"),
    [("A proof at 4 °C takes a night in the fridge, a café crème does not", "cp1252"), ("Öfen über 200 Grad", "cp1252"),
     ("Привет мир, как дела сегодня утром", "cp1251"), ("日本語のテキストです。とても短い。", "cp932")],
)  # fmt: skip
def test_the_encoding_proposed_reads_the_text(tmp_path: Path, text: str, encoding: str) -> None:
    (tmp_path / "pairs.csv").write_text(f"query,positive\n{text},{text}\n" * 9, encoding=encoding)
    with pytest.raises(DataError) as error:
        load(tmp_path / "pairs.csv")
    proposed = str(error.value).rpartition("collection.encoding=")[2]
    assert text.encode(encoding).decode(proposed) == text


@pytest.mark.parametrize("content", ["", "_id,text\n"])
def test_a_corpus_without_passages_is_refused(tmp_path: Path, content: str) -> None:
    path = table(tmp_path / "pairs.csv", ROWS)
    (tmp_path / "docs.csv").write_text(content)
    with pytest.raises(DataError, match="the corpus has no passages; give a row with a text for each"):
        load(path, corpus=str(tmp_path / "docs.csv"))


def test_positives_that_no_passage_contains_are_told_in_a_line_without_the_other_case(tmp_path: Path) -> None:
    path = table(tmp_path / "pairs.csv", ROWS)
    (tmp_path / "docs.csv").write_text("_id,text\nx,a passage of nothing that is asked\n")
    said = load(path, corpus=str(tmp_path / "docs.csv")).notes[0]
    assert said == "40 of 40 positives are no passage of the corpus; 40 were added to it"
