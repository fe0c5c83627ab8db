"""Columns under other names: what `--columns` names for one table is looked for in the others as well."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from syneg.core.config import CollectionConfig
from syneg.core.errors import DataError, SynegError
from syneg.data.collection import Collection, load_collection
from syneg.run.suggest import suggestion

PAIRS = [(f"how is pump {i} cleaned", f"Rinse pump {i}, then dry it for {i} hours.") for i in range(40)]
ANSWERS = {f"q{i}": {f"d{i}"} for i in range(40)}


def load(dataset: Path, **settings: Any) -> Collection:
    return load_collection(CollectionConfig(dataset=str(dataset), **settings))


def jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def corpus(path: Path, key: str = "_id", text: str = "text", **more: str) -> str:
    return str(jsonl(path / "c.jsonl", ({key: f"d{i}", text: p, **more} for i, (_, p) in enumerate(PAIRS))))


def folder(path: Path, text: str = "text", asked: str = "text", head: str = "query-id\tcorpus-id\tscore") -> Path:
    jsonl(path / "corpus.jsonl", ({"_id": f"d{i}", text: p} for i, (_, p) in enumerate(PAIRS)))
    jsonl(path / "queries.jsonl", ({"_id": f"q{i}", asked: q} for i, (q, _) in enumerate(PAIRS)))
    (path / "qrels.tsv").write_text("\n".join([head, *(f"q{i}\td{i}\t1" for i in range(40))]) + "\n")
    return path


def relevant(collection: Collection) -> dict[str, set[str]]:
    return {query_id: collection.relevant(query_id) for query_id in collection.queries}


def test_a_column_that_is_named_for_one_table_leaves_the_other_tables_as_they_are(tmp_path: Path) -> None:
    made = folder(tmp_path, text="abstract")
    assert relevant(load(made, columns="text=abstract")) == ANSWERS
    made = folder(tmp_path, head="query\tdocument\tjudgment")
    assert relevant(load(made, columns="query_id=query,doc_id=document,score=judgment")) == ANSWERS
    rows = [{"qid": f"q{i}", "question": q, "answer_id": f"d{i}"} for i, (q, _) in enumerate(PAIRS)]
    pairs = jsonl(tmp_path / "p.jsonl", rows)
    assert relevant(load(pairs, corpus=corpus(tmp_path), columns="doc_id=answer_id")) == ANSWERS


def test_a_role_may_have_a_column_for_each_table(tmp_path: Path) -> None:
    made = folder(tmp_path, text="abstract", asked="said")
    assert relevant(load(made, columns="text=abstract,text=said")) == ANSWERS
    with pytest.raises(SynegError, match="no table has the column 'gone' \\(text\\)"):
        load(made, columns="text=abstract,text=said,text=gone")


def test_a_row_without_the_column_that_its_table_has_takes_no_other(tmp_path: Path) -> None:
    rows = [{"_id": f"d{i}", "body_text": p} for i, (_, p) in enumerate(PAIRS)]
    made = jsonl(tmp_path / "c.jsonl", [*rows, {"_id": "odd", "text": "of another kind"}])
    pairs = jsonl(tmp_path / "p.jsonl", ({"query": q, "reply": p} for q, p in PAIRS))
    collection = load(pairs, corpus=str(made), columns="positive=reply,text=body_text", max_bad_rows=0.1)
    assert collection.problems == ("c.jsonl:41 no text (id 'odd')",)
    jsonl(pairs, [{"query": "one more", "text": "not the reply"}, *({"query": q, "reply": p} for q, p in PAIRS)])
    collection = load(pairs, columns="positive=reply", max_bad_rows=0.1)
    assert collection.problems == ("p.jsonl:1 no positive",)


@pytest.mark.parametrize("key", ["_id", "id", "pid", "doc_id"])
def test_the_columns_that_init_writes_down_read_the_same_collection(key: str, tmp_path: Path) -> None:
    rows = [{"qid": f"q{i}", "question": q, "docid": f"d{i}"} for i, (q, _) in enumerate(PAIRS)]
    made, texts = jsonl(tmp_path / "p.jsonl", rows), corpus(tmp_path, key)
    written = tomllib.loads(suggestion([str(made), texts]))["collection"]
    collection = load_collection(CollectionConfig(**written))
    assert relevant(collection) == ANSWERS
    assert collection.fingerprint == load(made, corpus=texts).fingerprint


@pytest.mark.parametrize("columns", ["", "positive=reply"])
def test_a_table_without_a_column_of_texts_is_told_its_columns(columns: str, tmp_path: Path) -> None:
    pairs = jsonl(tmp_path / "p.jsonl", ({"query": q, "reply" if columns else "answer": p} for q, p in PAIRS))
    texts = corpus(tmp_path, text="description")
    said = r"no column 'text'; the columns are '_id', 'description' \({}:1\); name it: --columns text=NAME"
    with pytest.raises(DataError, match=said.format("c.jsonl")):
        load(pairs, corpus=texts, columns=columns)
    with pytest.raises(DataError, match=said.format("corpus.jsonl")):
        load(folder(tmp_path, text="description"))
    with pytest.raises(DataError, match=said.format("queries.jsonl").replace("description", "said")):
        load(folder(tmp_path, asked="said"))


def test_a_table_without_a_column_of_ids_is_told_its_columns(tmp_path: Path) -> None:
    made = folder(tmp_path)
    jsonl(made / "corpus.jsonl", ({"key": f"d{i}", "text": p} for i, (_, p) in enumerate(PAIRS)))
    with pytest.raises(DataError, match=r"no column 'doc_id'; the columns are 'key', 'text' \(corpus.jsonl:1\)"):
        load(made)
    assert relevant(load(made, columns="doc_id=key")) == ANSWERS


def test_a_table_of_qrels_without_a_column_of_grades_is_told_its_columns(tmp_path: Path) -> None:
    said = r"no column 'score'; the columns are 'query-id', 'corpus-id', 'judgment' \(qrels.tsv:2\)"
    with pytest.raises(DataError, match=said):
        load(folder(tmp_path, head="query-id\tcorpus-id\tjudgment"))


def test_titles_that_stand_in_for_a_text_of_another_name_are_said(tmp_path: Path) -> None:
    pairs = jsonl(tmp_path / "p.jsonl", ({"query": q, "answer": p} for q, p in PAIRS))
    texts = corpus(tmp_path, text="abstract", title="Pumps of all kinds")
    said = "c.jsonl has no column 'text': its titles are the passages; name another one with --columns text=NAME"
    assert said in load(pairs, corpus=texts).notes
    assert not [note for note in load(pairs, corpus=texts, columns="text=abstract").notes if "titles" in note]
    titles = str(jsonl(tmp_path / "t.jsonl", ({"_id": f"d{i}", "title": p} for i, (_, p) in enumerate(PAIRS))))
    assert not [note for note in load(pairs, corpus=titles).notes if "titles" in note]


@pytest.mark.parametrize("answer", ["answer", "answers", "response"])
@pytest.mark.parametrize("passage", ["context", "passage", "passage_text"])
def test_beside_passages_the_short_answers_are_no_positives(answer: str, passage: str, tmp_path: Path) -> None:
    """As SQuAD and NQ: the passage is what is searched. `contexts` are those that a system retrieved, right or wrong."""
    short = {"text": ["dry it"], "answer_start": [4]} if answer == "answers" else "dry it"
    rows = [{"question": q, answer: short, passage: p, "contexts": [p, q]} for q, p in PAIRS]
    collection = load(jsonl(tmp_path / "p.jsonl", rows))
    assert set(collection.passages.values()) == {p for _, p in PAIRS}
    assert f"columns of p.jsonl not used: {answer}, contexts" in collection.notes
    named = load(jsonl(tmp_path / "p.jsonl", rows), columns="positive=question", max_bad_rows=0.1)
    assert set(named.passages.values()) == {q for q, _ in PAIRS}


def test_an_id_may_be_a_number_wherever_a_passage_may_stand(tmp_path: Path) -> None:
    texts = str(jsonl(tmp_path / "c.jsonl", ({"id": i, "text": p} for i, (_, p) in enumerate(PAIRS))))
    rows = [{"query": q, "positive": i, "negative": [float((i + 1) % 40)]} for i, (q, _) in enumerate(PAIRS)]
    pairs = jsonl(tmp_path / "p.jsonl", rows)
    collection = load(pairs, corpus=texts)
    first = next(query_id for query_id, text in collection.queries.items() if text == PAIRS[0][0])
    assert (collection.relevant(first), collection.given_negatives[first]) == ({"0"}, ("1",))
    jsonl(pairs, [*rows, {"query": "more", "positive": 99}, {"query": "more", "positive": 1.5}])
    assert load(pairs, corpus=texts, max_bad_rows=0.1).problems == (
        "p.jsonl:41 no passage has the id '99'",
        "p.jsonl:42 positive is a number, not a text",
    )


def test_a_list_of_ids_names_several_positives(tmp_path: Path) -> None:
    texts = str(jsonl(tmp_path / "c.jsonl", ({"id": i, "text": p} for i, (_, p) in enumerate(PAIRS))))
    rows = [{"query": q, "doc_id": [i, str((i + 1) % 40)]} for i, (q, _) in enumerate(PAIRS)]
    collection = load(jsonl(tmp_path / "p.jsonl", rows), corpus=texts)
    first = next(query_id for query_id, text in collection.queries.items() if text == PAIRS[0][0])
    assert collection.relevant(first) == {"0", "1"}
    both = [{"query": q, "positive": p, "doc_id": [i]} for i, (q, p) in enumerate(PAIRS)]
    with pytest.raises(DataError, match="doc_id is a list, not an id"):
        load(jsonl(tmp_path / "p.jsonl", both), corpus=texts)


@pytest.mark.parametrize(("own", "said"), [("0042", "42"), ("Doc 7", "doc-7")])
def test_an_unknown_id_in_pairs_is_told_the_one_that_is_written_otherwise(own: str, said: str, tmp_path: Path) -> None:
    texts = [{"id": own, "text": "another passage"}, *({"id": f"x{i}", "text": p} for i, (_, p) in enumerate(PAIRS))]
    rows = [*({"query": q, "doc_id": f"x{i}"} for i, (q, _) in enumerate(PAIRS)), {"query": "one more", "doc_id": said}]
    made = str(jsonl(tmp_path / "c.jsonl", texts))
    problems = load(jsonl(tmp_path / "p.jsonl", rows), corpus=made, max_bad_rows=0.1).problems
    assert problems == (f"p.jsonl:41 no passage has the id {said!r}; there is {own!r}",)


def test_ids_that_the_corpus_has_as_decimals_are_found(tmp_path: Path) -> None:
    """pandas writes 3 as 3.0 in a column with missing values, of the corpus or of the pairs."""
    (tmp_path / "c.csv").write_text("id,text\n" + "".join(f'{i}.0,"{p}"\n' for i, (_, p) in enumerate(PAIRS)))
    rows = [{"query": q, "doc_id": i} for i, (q, _) in enumerate(PAIRS)]
    collection = load(jsonl(tmp_path / "p.jsonl", rows), corpus=str(tmp_path / "c.csv"))
    assert set().union(*relevant(collection).values()) == {f"{i}.0" for i in range(40)}


@pytest.mark.parametrize("form", ["qrels folder", "qrels files", "tables", "column"])
def test_eval_beside_another_dev_split_may_be_a_test_split(form: str, tmp_path: Path) -> None:
    """Merged into dev, its queries would choose the arm, and test would be cut out of train."""
    parts = {"train": range(20), "valid": range(20, 30), "eval": range(30, 40)}
    path = tmp_path / "set"
    path.mkdir()
    if form.startswith("qrels"):
        folder(path)
        (path / "qrels.tsv").unlink()
        for name, ids in parts.items():
            file = path / (f"qrels/{name}.tsv" if form == "qrels folder" else f"qrels.{name}.small.tsv")
            file.parent.mkdir(exist_ok=True)
            file.write_text("".join(f"q{i}\td{i}\t1\n" for i in ids))
    elif form == "tables":
        for name, ids in parts.items():
            jsonl(path / f"{name}.jsonl", ({"query": PAIRS[i][0], "positive": PAIRS[i][1]} for i in ids))
    else:
        rows = [{"query": PAIRS[i][0], "positive": PAIRS[i][1], "split": n} for n, ids in parts.items() for i in ids]
        path = jsonl(path / "p.jsonl", rows)
    with pytest.raises(DataError, match=r"'eval' and 'valid' would both be dev .*; name the one that tests 'test'"):
        load(path)


@pytest.mark.parametrize("name", ["p.csv", "p.tsv"])
def test_a_table_without_a_header_is_told_to_get_one(name: str, tmp_path: Path) -> None:
    sign = "," if name.endswith("csv") else "\t"
    (tmp_path / name).write_text("".join(f'"{q}"{sign}"{p}"\n' for q, p in PAIRS))
    said = (
        rf"the columns are 'how is pump 0 cleaned', .* \({name}:2\); name .*, or write a header above the first line$"
    )
    with pytest.raises(DataError, match=said):
        load(tmp_path / name)
    (tmp_path / name).write_text(f"What was asked{sign}Said in reply{sign}More\na{sign}b{sign}c\n")
    with pytest.raises(DataError, match="query=NAME,positive=NAME$"):
        load(tmp_path / name)


def test_qrels_of_another_form_are_shown(tmp_path: Path) -> None:
    made = folder(tmp_path)
    (made / "qrels.tsv").unlink()
    for line, said in (("q0 Q0 d0 1 13.2 bm25", "6: 'q0 Q0 d0 1 13.2 bm25'"), ("# by hand", "3: '# by hand'")):
        (made / "qrels.txt").write_text(f"{line}\n" * 40)
        with pytest.raises(DataError, match=rf"the qrels do not have 4 columns, but {said} \(qrels.txt\); write "):
            load(made)


def test_a_column_of_splits_that_names_none_is_as_no_column(tmp_path: Path) -> None:
    rows = [{"query": q, "positive": p, "split": None if i % 2 else ""} for i, (q, p) in enumerate(PAIRS)]
    made = jsonl(tmp_path / "p.jsonl", rows)
    assert {split: len(ids) for split, ids in load(made).splits.items()} == {
        "train": 20,
        "dev": 6,
        "confirm": 4,
        "test": 10,
    }
    jsonl(made, [*rows[:1], *({**row, "split": "train"} for row in rows[1:])])
    collection = load(made, max_bad_rows=0.1)
    assert collection.problems == ("p.jsonl:1 empty split",)
    assert len(collection.queries) == 39 and not collection.notes
