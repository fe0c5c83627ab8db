"""A corpus and no queries: what is written for it, what is kept, what is trained and tested on, and what the verdict
says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import ACTIONS, THINGS, FakeLM

from syneg.cli.main import cli
from syneg.core.errors import ConfigError, DataError
from syneg.core.lm_settings import QueriesConfig
from syneg.core.progress import Progress
from syneg.core.settings import load_config
from syneg.core.storage import read_json, read_rows
from syneg.negatives.queries import (
    AS_EXAMPLES,
    KINDS,
    WrittenQuery,
    ask_for_queries,
    gated,
    one_per_cluster,
)
from syneg.run.pipeline import Run

Settings = Callable[..., list[str]]


def answer(messages: list[dict[str, Any]]) -> tuple[int, str]:
    """A query for the passage asked about, and a negative for whatever else is asked."""
    said = str(messages[-1]["content"])
    if "search_query" not in str(messages):
        thing = THINGS[len(said) % 12]
        return 200, json.dumps({"hard_negative": f"the {thing} is merged twice and counted slowly"})
    action, thing = re.findall(r"to (\w+) the (\w+) it is", said)[-1]
    return 200, json.dumps({"search_query": f"{action} a {thing}"})


@pytest.fixture
def corpus(beir: Path) -> Path:
    return beir / "corpus.jsonl"


@pytest.fixture
def opened(tmp_path: Path, corpus: Path, settings: Settings, fake_lm: Callable[..., FakeLM]) -> Callable[..., Run]:
    def build(reply: Callable[..., Any] = answer, **more: object) -> Run:
        server = fake_lm(reply)
        values = {"collection.corpus": str(corpus), "lm.adapter": "json", "queries.passages": 60, "generate.pairs": 8,
                  "train.evals": 1, **more}  # fmt: skip
        chosen = [line for line in settings(server.url, **values) if not line.startswith("collection.dataset=")]
        run = Run(tmp_path / "run", load_config(None, chosen), Progress(quiet=True))
        run.server = server  # type: ignore[attr-defined]
        return run

    return build


class Places:
    """Stands for an encoder: a text is the unit vector of its first number."""

    def encode(self, texts: list[str], role: str, progress: Any = None) -> np.ndarray:
        return np.eye(40, dtype=np.float32)[[int(re.findall(r"\d+", text)[0]) for text in texts]]

    def index(self, passages: dict[str, str]) -> Any:
        from syneg.retrieval.indexes import DenseIndex

        return DenseIndex.of(passages, self)  # type: ignore[arg-type]


def test_passages_come_one_from_each_cluster(corpus: Path) -> None:
    texts = {f"d{i}": f"{i % 4} is what this passage of eight words says" for i in range(12)} | {"short": "9 words"}
    found = one_per_cluster(texts, Places(), 4, seed=0)  # type: ignore[arg-type]
    assert len(found) == 4
    assert {int(doc_id[1:]) % 4 for doc_id in found} == {0, 1, 2, 3}
    assert one_per_cluster(texts, Places(), 4, seed=0) == found  # type: ignore[arg-type]
    assert one_per_cluster(texts, Places(), 50, seed=0) == [f"d{i}" for i in range(12)]  # type: ignore[arg-type]


def test_a_corpus_of_titles_gets_queries_too() -> None:
    titles = {f"d{i}": "关闭文件的方法" if i % 3 else "关闭" for i in range(9)}
    assert one_per_cluster(titles, Places(), 50, seed=0) == [f"d{i}" for i in range(9) if i % 3]  # type: ignore[arg-type]


def test_examples_go_round_and_kinds_where_there_are_none() -> None:
    passages = {f"d{i}": f"text {i}" for i in range(4)}
    with_examples = ask_for_queries(passages, list(passages), [f"e{i}" for i in range(7)], 100)
    assert [one.examples for one in with_examples[:2]] == [
        ("e0", "e1", "e2", "e3", "e4"),
        ("e5", "e6", "e0", "e1", "e2"),
    ]
    assert {one.kind for one in with_examples} == {AS_EXAMPLES}
    without = ask_for_queries(passages, list(passages), [], 100)
    assert [one.kind for one in without] == [*KINDS, KINDS[0]]


def test_gates_give_a_reason_for_what_they_reject() -> None:
    passages = {f"d{i}": f"{i} passage about subject{i}" for i in range(6)}

    def query(text: str, doc_id: str) -> WrittenQuery:
        return WrittenQuery(f"w{text}", text, doc_id, "a question")

    asked = [query("1 what is subject1", "d1"), query("", "d2"), query("2", "d2"), query("1 What IS subject1", "d1"),
             query("3 what is it", "d4"), query("9 tell me of subject5", "d5"), query("1 once more subject1", "d1"),
             query("0 yours", "d0")]  # fmt: skip
    config = QueriesConfig(round_trip=1)
    found = gated(asked, passages, Places(), config, known=["0 YOURS"])  # type: ignore[arg-type]
    assert [one.reason for one in found] == [
        "", "unparseable answer", "too short or too long", "repeats another query", "does not find its passage", "",
        "near-duplicate of another query", "repeats another query",
    ]  # fmt: skip
    assert found[0].rank == 1
    assert found[5].rank == 1  # by BM25 alone: the encoder takes it for passage 9
    loose = gated(asked, passages, Places(), QueriesConfig(round_trip=0, near_duplicate=0))  # type: ignore[arg-type]
    assert [one.reason for one in loose][4] == ""


def test_a_corpus_alone_comes_to_a_verdict_that_says_its_queries_are_synthetic(opened: Callable[..., Run]) -> None:
    run = opened()
    found = run.until("verdict")
    rows = list(read_rows(run.folder.queries))
    assert len(rows) == 60
    assert all(row["rank"] and row["calls"] for row in rows if row["accepted"])
    splits = run.workspace.collection.splits
    assert sum(map(len, splits.values())) == sum(row["accepted"] for row in rows) >= 50
    wrote = found["written_queries"]
    assert wrote["tested"] == len(splits["test"]) == found["queries"]["test"]
    assert wrote["kinds"].keys() == set(KINDS)
    assert found["sentence"].startswith(
        "The test queries are synthetic, written by write_queries with openai/fake (a few keywords 20, a question 20"
    )
    assert "how real queries fare cannot be told" in found["sentence"]
    calls = len(run.server.requests)  # type: ignore[attr-defined]
    again = Run(run.folder.path, run.config, Progress(quiet=True)).until("verdict")
    assert again["arms"] == found["arms"]
    assert len(run.server.requests) == calls  # type: ignore[attr-defined]


def test_cross_fitted_written_queries_are_all_synthetic(opened: Callable[..., Run]) -> None:
    run = opened(**{"evaluate.folds": 2, "train.arms": "mined", "train.epochs": 1})
    verdict = run.until("verdict")
    assert verdict["folds"] == 2
    assert (
        verdict["written_queries"]["tested"]
        == verdict["queries"]["test"]
        > len(run.workspace.collection.splits["test"])
    )
    assert verdict["sentence"].startswith("The test queries are synthetic, written by")
    assert "yours" not in verdict["sentence"]


def test_human_pairs_are_dev_and_test_and_written_ones_are_trained_on(
    opened: Callable[..., Run], tmp_path: Path, beir: Path
) -> None:
    pairs = [
        {"query": f"how do I {action} one {thing}", "positive": f"to {action} the {thing} it is {action} again and again, slowly"}
        for thing in THINGS[:5] for action in ACTIONS[:4]
    ]  # fmt: skip
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    run = opened(**{"queries.examples": str(tmp_path / "mine.jsonl")})
    run.until("queries")
    collection = run.workspace.collection
    human = {row["query"] for row in pairs}
    for split, ids in collection.splits.items():
        assert {collection.queries[q] in human for q in ids} == (
            {False} if split == "train" else {True} if ids else set()
        )
    assert len(collection.splits["dev"]) + len(collection.splits["test"]) == 20
    assert len(collection.passages) == 96
    asked = str(run.server.requests)  # type: ignore[attr-defined]
    assert "<data>how do I close one socket</data>" in asked
    assert read_json(run.folder / "manifest.json")["written_queries"]["tested"] == 0
    assert run.until("verdict")["sentence"].startswith("The train queries are synthetic, written by write_queries")


@pytest.mark.parametrize(("count", "tested", "chosen"), [(3, 3, 0), (4, 2, 2), (12, 10, 2)])
def test_human_queries_are_tested_with_first_and_never_trained_on(
    count: int, tested: int, chosen: int, opened: Callable[..., Run], tmp_path: Path
) -> None:
    pairs = [
        {"query": f"how do I {action} one {thing}", "positive": f"to {action} the {thing} it is {action} again and again, slowly"}
        for thing in THINGS[:3] for action in ACTIONS[:4]
    ][:count]  # fmt: skip
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    run = opened(**{"queries.examples": str(tmp_path / "mine.jsonl"), "evaluate.folds": 5})
    sentence = run.until("verdict")["sentence"]
    collection = run.workspace.collection
    human = {row["query"] for row in pairs}
    ours = {split: [collection.queries[q] in human for q in ids] for split, ids in collection.splits.items()}
    assert (sum(ours["test"]), sum(ours["dev"]), sum(ours["train"])) == (tested, chosen, 0)
    written = len(ours["test"]) - tested
    assert all(collection.queries[q] in human or q.startswith("w-") for q in collection.splits["test"])
    if count < 4:
        assert sentence.startswith(f"{written} of {written + 3} test queries are synthetic (ids w-…), written by")
        assert "and 3 yours" in sentence
    else:
        assert (written, all(ours["dev"])) == (0, True)
        assert "the test queries are yours" in sentence
    assert "Cross-fitted" not in sentence


def test_a_few_human_queries_are_examples_only(opened: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("id,query\n1,close socket how\n2,open file how\n")
    run = opened(**{"queries.examples": str(tmp_path / "mine.csv")})
    assert run.until("queries")["kinds"].keys() == {AS_EXAMPLES}
    assert "close socket how" not in run.workspace.collection.queries.values()


def test_too_few_good_queries_stop_the_run_with_reasons(opened: Callable[..., Run]) -> None:
    run = opened(lambda messages: (200, json.dumps({"search_query": "the same for all"})))
    with pytest.raises(
        DataError, match=r"of 60 written queries pass the gates .*repeats another query 59.*--write-queries"
    ):
        run.until("verdict")
    assert len(list(read_rows(run.folder.queries))) == 60


def test_a_changed_number_of_passages_writes_anew(opened: Callable[..., Run]) -> None:
    assert opened().until("queries")["written"] == 60
    assert opened(**{"queries.passages": 50}).until("queries")["written"] == 50


def test_an_estimate_calls_no_lm(opened: Callable[..., Run]) -> None:
    run = opened()
    with pytest.raises(ConfigError, match="up to 60 calls write queries first.*syneg-dspy write-queries"):
        run.estimate()
    assert not run.server.requests  # type: ignore[attr-defined]
    run.until("queries")
    calls = len(run.server.requests)  # type: ignore[attr-defined]
    assert Run(run.folder.path, run.config, Progress(quiet=True)).estimate()["parts"]
    assert len(run.server.requests) == calls  # type: ignore[attr-defined]


def test_the_command_takes_a_corpus_alone(
    tmp_path: Path, corpus: Path, settings: Settings, fake_lm: Callable[..., FakeLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = [line for line in settings(fake_lm(answer).url, **{"lm.adapter": "json"}) if "dataset" not in line]
    flags = [part for line in chosen for part in ("--set", line)]
    said = CliRunner().invoke(
        cli, ["write-queries", "--corpus", str(corpus), "--write-queries", "60", "--quiet", *flags]
    )
    assert said.exit_code == 0, said.output
    assert re.search(r"\d+ of 60 queries pass the gates \(a few keywords \d+, a question", said.stdout)
    assert "; splits: train" in " ".join(said.stdout.split())
    assert (tmp_path / "runs" / "corpus" / "queries.jsonl").is_file()
    with pytest.raises(ConfigError, match="there are queries already"):
        CliRunner().invoke(
            cli, ["write-queries", "--dataset", str(corpus.parent), "--quiet", *flags], catch_exceptions=False
        )
