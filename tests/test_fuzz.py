"""Nothing that a file or a model says may do worse than one line of error: malformed collections, negatives, batches, answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ACTIONS, THINGS, FakeLM, Fault
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from syneg.core.config import CollectionConfig
from syneg.core.errors import SynegError
from syneg.core.progress import Progress
from syneg.core.settings import load_config
from syneg.core.storage import read_rows
from syneg.core.text import normalise
from syneg.data.collection import load_collection
from syneg.negatives.gates import UNPARSEABLE
from syneg.run.parts import Batch
from syneg.run.pipeline import Run

Settings = Callable[..., list[str]]

_WORDS = st.sampled_from(
    [*THINGS, *ACTIONS, "", " ", "\x00", "\u2028", "\ud800", "</data>", '"', "\\", "İ", "a" * 9000]
)
_TEXT = st.lists(_WORDS, max_size=6).map(" ".join) | st.text(max_size=20)
_SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | _TEXT
_VALUE = st.recursive(
    _SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3), max_leaves=6
)
_NAMES = (
    "_id",
    "text",
    "title",
    "query",
    "positive",
    "query_id",
    "doc_id",
    "split",
    "hard_negative",
    "parent_doc_id",
    "program",
)
_ROW = st.dictionaries(st.sampled_from(_NAMES), _VALUE, max_size=6)
_JUNK = st.binary(max_size=30) | st.just(b"[" * 5000) | st.just(b'{"_id": "d1"') | st.just(b"\xff\xfe")
_LINE = (_ROW | _VALUE).map(lambda value: json.dumps(value).encode()) | _JUNK
_LINES = st.lists(_LINE, max_size=8).map(b"\n".join)

_MANY = hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
_FEW = hypothesis_settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _holds(config: CollectionConfig) -> None:
    """A collection that can be used, or an error of ours in one piece."""
    try:
        found = load_collection(config)
    except SynegError as error:
        assert str(error).strip()
        return
    texts: dict[str, str] = {}
    for split, ids in found.splits.items():
        for query_id in ids:
            assert found.relevant(query_id) <= {*found.passages}
            assert texts.setdefault(normalise(found.queries[query_id]), split) == split
    assert found.fingerprint  # every text can be written as UTF-8


@_MANY
@given(
    corpus=_LINES,
    queries=_LINES,
    qrels=_LINES | st.just(b"query-id\tcorpus-id\tscore\nq1\td1\tnan\nq1\td2\t1e999\n"),
    keep=st.booleans(),
)
def test_a_malformed_folder(
    corpus: bytes, queries: bytes, qrels: bytes, keep: bool, tmp_path: Path, beir: Path
) -> None:
    whole = {name: (beir / name).read_bytes() for name in ("corpus.jsonl", "queries.jsonl", "qrels/train.tsv")}
    try:
        for name, junk in zip(whole, (corpus, queries, qrels), strict=True):
            (beir / name).write_bytes(whole[name] + junk + b"\n" + whole[name][:200] if keep else junk)
        _holds(CollectionConfig(dataset=str(beir), max_bad_rows=1.0 if keep else 0.01))
    finally:
        for name, content in whole.items():
            (beir / name).write_bytes(content)


@_MANY
@given(lines=_LINES, corpus=_LINES, kind=st.sampled_from(["csv", "tsv", "jsonl"]), head=st.booleans())
def test_a_malformed_file_of_pairs(lines: bytes, corpus: bytes, kind: str, head: bool, tmp_path: Path) -> None:
    rows = [{"query": f"{a} a {t}", "positive": f"to {a} the {t}"} for t in THINGS[:4] for a in ACTIONS[:4]]
    path, passages = tmp_path / f"pairs.{kind}", tmp_path / "corpus.jsonl"
    separator = "\t" if kind == "tsv" else ","
    good = "\n".join(json.dumps(r) if kind == "jsonl" else f"{r['query']}{separator}{r['positive']}" for r in rows)
    top = "" if kind == "jsonl" or not head else f"query{separator}positive\n"
    path.write_bytes(f"{top}{good}\n".encode() + lines)
    passages.write_bytes(corpus)
    _holds(CollectionConfig(dataset=str(path), corpus=str(passages), max_bad_rows=1.0))


@_FEW
@given(lines=_LINES)
def test_malformed_negatives_and_answers_of_a_batch(
    lines: bytes, tmp_path_factory: pytest.TempPathFactory, settings: Settings
) -> None:
    folder = tmp_path_factory.mktemp("given")
    (folder / "given.jsonl").write_bytes(lines)
    overrides = settings("http://127.0.0.1:9/v1", **{"generate.pairs": 6, "collection.max_bad_rows": 1.0})
    given_ones = [*overrides, f"generate.given={folder / 'given.jsonl'}"]
    for way in (given_ones, overrides):
        batch = None if way is given_ones else Batch(answers=(folder / "given.jsonl",))
        try:
            Run(folder / "run", load_config(None, way), Progress(quiet=True), batch).until("generate")
        except SynegError as error:
            assert str(error).strip()


@_FEW
@given(answers=st.lists(_VALUE.map(json.dumps) | _TEXT | st.just(b""), min_size=1, max_size=4), whole=st.booleans(), name=st.sampled_from(["single_prompt", "multi_attribute", "reflective"]))  # fmt: skip
def test_malformed_answers(
    answers: list[Any], whole: bool, name: str, tmp_path_factory: pytest.TempPathFactory, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:  # fmt: skip
    """Every pair ends with a row and a reason, or the run with one line."""
    turn = [0]

    def answer(messages: list[dict[str, Any]]) -> tuple[Any, ...] | Fault:
        turn[0] += 1
        said = answers[turn[0] % len(answers)]
        if isinstance(said, bytes):
            return Fault(200, body=said)
        value = said if not whole else json.dumps({"hard_negative": said, "hard_negatives": [said], "topic": said})
        return 200, value.encode("utf-8", "replace").decode()

    folder = tmp_path_factory.mktemp("answers")
    overrides = settings(fake_lm(answer).url, **{"generate.pairs": 8, "generate.attempts": 1, "generate.program": name})
    try:
        Run(folder, load_config(None, overrides), Progress(quiet=True)).until("generate")
    except SynegError as error:
        assert str(error).strip()
        return
    rows = list(read_rows(folder / "negatives.jsonl"))
    assert len({row["query_id"] for row in rows}) == 8
    assert all(row["text"] or row["reason"] == UNPARSEABLE for row in rows)
