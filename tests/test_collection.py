from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest
from conftest import SHARED
from hypothesis import given
from hypothesis import strategies as st

from syneg.core.config import CollectionConfig
from syneg.core.errors import DataError
from syneg.core.text import normalise
from syneg.data.collection import Collection, load_collection
from syneg.data.python_docs import read_python_docs


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def load(dataset: Path | str, **settings: object) -> object:
    return load_collection(CollectionConfig(dataset=str(dataset), **settings))


def test_docstrings_become_pairs_and_distractors(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "t.py").write_text('"""Left out because it is a test."""')
    (tmp_path / "mod.py").write_text(
        '"""One line only here."""\n'
        "def join(a):\n    '''Join two paths into one.\n\n    The second path wins when it is absolute, and so on.\n    '''\n"
        "def _hidden():\n    '''Join two hidden paths.\n\n    The second path wins when it is absolute, too.\n    '''\n"
        "def join2(a):\n    '''Join  two paths into one.\n\n    Another text which answers the very same query here.\n    '''\n"
    )
    passages, queries, qrels = read_python_docs(tmp_path)
    assert queries == {"mod.join": "Join two paths into one."}
    assert qrels == {"mod.join": {"mod.join": 1, "mod.join2": 1}}
    assert passages["mod"] == "One line only here."
    assert "hidden" not in str(passages)


def test_folders_that_are_left_out_of_python_docs_are_not_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http", "site-packages", "email"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "client.py").write_text(f'"""One line of {name} here."""')
    plain, listed = Path.rglob, list[str]()
    monkeypatch.setattr(Path, "rglob", lambda self, pattern: [listed.append(self.name), *plain(self, pattern)][1:])
    passages, _, _ = read_python_docs(tmp_path, ("http",))
    assert (listed, list(passages)) == (["http"], ["http.client"])
    assert list(read_python_docs(tmp_path)[0]) == ["email.client", "http.client"]


def test_python_docs_of_this_interpreter_is_a_real_collection() -> None:
    collection = load("python-docs")
    assert len(collection.passages) > 3000
    assert len(collection.splits["train"]) > 500
    assert load("python-docs").fingerprint == collection.fingerprint


def test_a_set_with_only_test_qrels_is_divided_only_when_told_to(beir: Path) -> None:
    (beir / "qrels" / "train.tsv").rename(beir / "qrels" / "test.tsv")
    with pytest.raises(
        DataError, match="has only test queries, and these are not trained on; .*collection.divide_test=true"
    ):
        load(beir)
    splits = load(beir, divide_test=True).splits
    ids = [q for found in splits.values() for q in found]
    assert len(ids) == len(set(ids)) == 96
    assert all(splits[name] for name in ("train", "dev", "confirm", "test"))


def test_a_query_in_two_splits_stops_the_run_or_leaves_the_earlier(beir: Path) -> None:
    append(beir / "queries.jsonl", json.dumps({"_id": "x", "text": "Close  A socket!"}) + "\n")
    rows = (beir / "qrels" / "train.tsv").read_text().splitlines()[:49]
    (beir / "qrels" / "test.tsv").write_text("\n".join(rows) + "\n")
    (beir / "qrels" / "train.tsv").write_text(
        "query-id\tcorpus-id\tscore\nx\td0\t1\n" + "".join(f"q{i}\td{i}\t1\n" for i in range(48, 96))
    )
    with pytest.raises(DataError, match="split guard: 1 of the queries"):
        load(beir)
    collection = load(beir, on_leak="drop")
    assert "x" not in collection.queries
    assert "q0" in collection.splits["test"]


@given(st.lists(st.text("abc ", min_size=1, max_size=6), min_size=30, max_size=60))
def test_no_two_splits_share_a_query_by_id_or_text(texts: list[str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.jsonl"
        path.write_text(
            "".join(
                json.dumps({"query": t, "positive": f"p{i}", "query_id": f"i{i}"}) + "\n" for i, t in enumerate(texts)
            )
        )
        try:
            collection = load(path, max_bad_rows=1.0, dev=0.3, confirm=0.1, test=0.3)
        except DataError as error:
            assert "leaves" in str(error)  # too few distinct queries
            return
    of: dict[str, set[str]] = {}
    for split, ids in collection.splits.items():
        for query_id in ids:
            of.setdefault(normalise(collection.queries[query_id]), set()).add(split)
    assert all(len(splits) == 1 for splits in of.values())


def test_csv_pairs_share_positives_and_queries(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    lines = ["query,positive"] + [f"query {i},text number {i // 2}" for i in range(40)] + ["query 0,another text"]
    path.write_text("\n".join(lines) + "\n")
    collection = load(path)
    assert len(collection.passages) == 21
    first = next(query_id for query_id, text in collection.queries.items() if text == "query 0")
    assert len(collection.relevant(first)) == 2


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (
            "a.csv",
            "title,positive\na,b\n",
            r"no column 'query'; the columns are 'title', 'positive' \(a.csv:2\); name it: --columns query=NAME",
        ),
        ("a.jsonl", '{"query": "a", "positive": "b"}\n{broken\n', "a.jsonl:2 not valid JSON"),
        (
            "a.jsonl",
            '{"query": "", "positive": "b"}\n[1]\n',
            "a.jsonl:1 empty query\n  a.jsonl:2 is not a JSON object",
        ),
        ("a.csv", "query,positive\na\n", "a.csv:2 has 1 fields, the header 2"),
        ("a.jsonl", "", "has no rows"),
        ("a.txt", "x", "cannot read 'a.txt'"),
        ("a.jsonl", '{"query": "a", "positive": "b"}\n', "leaves"),
    ],
)
def test_bad_files_are_named_with_file_and_line(tmp_path: Path, name: str, content: str, says: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=says):
        load(tmp_path / name)


def test_qrels_of_unknown_ids_and_queries_without_positives_are_collected(beir: Path) -> None:
    append(beir / "qrels" / "train.tsv", "q0\tnope\t1\nnobody\td1\t1\nq1\td2\tlots\n")
    append(beir / "queries.jsonl", '{"_id": "z", "text": "no relevant one"}\n')
    with pytest.raises(DataError) as error:
        load(beir)
    text = str(error.value)
    assert "qrels/train.tsv:98 names the unknown passage 'nope'" in text
    assert "unknown query 'nobody'" in text
    assert "score 'lots'" in text
    assert load(beir, max_bad_rows=0.1).problems


def test_paths_and_ids_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(DataError, match="not a BEIR folder: corpus.jsonl, queries.jsonl, qrels"):
        load(tmp_path)
    with pytest.raises(DataError, match="did you mean 'beir/scifact'"):
        load("beir/scifcat")


def test_an_ir_datasets_download_without_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import requests

    def refuse(*args: object, **kwargs: object) -> None:
        raise requests.exceptions.ConnectionError(
            "HTTPSConnectionPool(host='public.ukp', port=443): Max retries exceeded with url: /thakur/nfcorpus.zip (Caused "
            "by NameResolutionError(\"HTTPSConnection(host='public.ukp', port=443): Failed to resolve 'public.ukp'\"))"
        )

    monkeypatch.setattr(requests.sessions.Session, "request", refuse)
    with pytest.raises(DataError, match="IR_DATASETS_HOME") as error:
        load("beir/nfcorpus")
    assert "'beir/nfcorpus': public.ukp cannot be reached; check the network, or" in str(error.value)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared is absent")
def test_cranfield_loads_with_its_two_empty_documents_skipped() -> None:
    collection = load(SHARED / "data" / "beir" / "cranfield", divide_test=True)
    assert len(collection.passages) == 1398
    assert "corpus.jsonl:471 no text (id '471')" in collection.problems


def test_a_pair_knows_all_positives_of_its_query_the_best_grade_first(beir: Path) -> None:
    append(beir / "qrels" / "train.tsv", "q0\td2\t2\nq0\td1\t0\n")
    collection = load(beir)
    texts = (collection.passages["d2"], collection.passages["d0"])
    assert collection.relevant_texts("q0") == texts
    split = next(split for split, ids in collection.splits.items() if "q0" in ids)
    pair = next(pair for pair in collection.pairs(split) if pair.query_id == "q0")
    assert (pair.doc_id, pair.positive, pair.positives) == ("d2", texts[0], texts)


def test_the_fingerprint_of_many_passages_takes_no_memory_of_their_size() -> None:
    passages = {f"d{i}": f"passage {i}" for i in range(100_000)}
    many = Collection(
        "many", passages, {"q": "ask"}, {"q": {"d1": 1}}, {"train": ("q",)}, never_mined={"q": {"d3", "d2"}}
    )
    tracemalloc.start()
    found = many.fingerprint
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == "f0bca65a5f9ad59b"  # folders of runs go by it
    assert peak < 16 * len(passages)  # the sorted ids alone: 8 bytes each
