"""Small sets are cross-fitted: every query is tested once, by models that were not trained on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ACTIONS, THINGS, FakeLM

from syneg.core.config import CollectionConfig
from syneg.core.progress import Progress
from syneg.core.settings import load_config
from syneg.core.storage import read_json, read_rows
from syneg.data.collection import load_collection
from syneg.retrieval.evaluation import SplitResult
from syneg.run.folds import _joined, cross_fit, wants_folds
from syneg.run.pipeline import Run

Settings = Callable[..., list[str]]


@pytest.fixture
def opened(tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM]) -> Callable[..., Run]:
    """A run over 24 pairs."""
    rows = [
        {"query": f"{action} a {thing}", "positive": f"to {action} the {thing} it is {action} again and again, slowly"}
        for thing in THINGS for action in ACTIONS
    ]  # fmt: skip
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:24]))
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps({"text": row["positive"]}) + "\n" for row in rows))
    server = fake_lm()

    def build(**more: object) -> Run:
        values = {"collection.dataset": str(tmp_path / "pairs.jsonl"), "collection.corpus": str(tmp_path / "docs.jsonl"),
                  "train.evals": 1, "train.epochs": 1, "evaluate.folds": 3, **more}  # fmt: skip
        run = Run(tmp_path / "run", load_config(None, settings(server.url, **values)), Progress(quiet=True))
        run.server = server  # type: ignore[attr-defined]
        return run

    return build


def test_every_query_is_tested_once_by_models_not_trained_on_it(
    opened: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    from syneg.run.trial import Trials

    trained: list[set[str]] = []
    train = Trials.train

    def watched(self: Any, job: Any, folder: Path, name: str) -> Any:
        if "folds" in folder.parts:
            tested = set(self._workspace.collection.splits["test"])
            trained.append(tested)
            assert not tested & {row.pair.query_id for row in job.rows}
        return train(self, job, folder, name)

    monkeypatch.setattr(Trials, "train", watched)
    run = opened()
    found = run.until("verdict")
    assert found["folds"] == 3
    assert found["queries"]["test"] == 24
    assert len(trained) == 6  # two arms in three folds
    assert sum(map(len, trained[::2])) == 24 == len(set().union(*trained))
    results = read_json(run.folder / "folds.json")
    assert results.keys() == {"base", "mined", "hybrid"}
    assert all(len(runs[0]["test"]["values"]["ndcg@10"]) == 24 for runs in results.values())
    assert "Cross-fitted in 3 folds: each of the 24 queries was tested once" in found["sentence"]
    assert "too few queries to tell (24" in found["sentence"]
    assert not list((run.folder / "folds").glob("[0-9]*"))
    assert (run.folder / "best").is_dir()
    page = (run.folder / "report.html").read_text()
    assert "Training loss, of the run" in page  # the table has dev over all folds
    # a query is written for once, whatever fold it is in
    asked = [row["query_id"] for row in read_rows(run.folder.ledger)]
    assert len(set(asked)) == 24
    calls = len(run.server.requests)  # type: ignore[attr-defined]
    again = opened().until("verdict")
    assert again["arms"] == found["arms"]
    assert len(trained) == 6
    assert len(run.server.requests) == calls  # type: ignore[attr-defined]


def test_only_a_small_test_split_that_was_cut_here_is_folded(opened: Callable[..., Run], beir: Path) -> None:
    run = opened(**{"evaluate.folds": 0, "train.arms": '["mined"]'})
    assert run.until("verdict")["folds"] == 0
    assert run.workspace.collection.wants_folds
    (beir / "qrels" / "train.tsv").rename(beir / "qrels" / "dev.tsv")
    (beir / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq0\td0\t1\nq1\td1\t1\n")
    collection = load_collection(CollectionConfig(dataset=str(beir), on_leak="drop"))
    assert len(collection.splits["test"]) == 2
    assert not collection.wants_folds  # the source's own


@pytest.mark.parametrize(
    ("compiled", "what"),
    [({"compile.optimizer": "search"}, "program"), ({"compile.target": "sampler"}, "sampler")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_was_compiled_on_the_queries_of_other_folds_is_not_tested_on_them(
    compiled: dict[str, object], what: str, opened: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = opened(**compiled).workspace
    workspace.progress = Progress()
    assert cross_fit(workspace, None, [], None, None) is None  # type: ignore[arg-type]
    assert f"the compiled {what} has seen the test queries" in capsys.readouterr().err
    assert not wants_folds(workspace)
    assert wants_folds(opened().workspace)


def test_dev_values_of_several_folds_are_averaged() -> None:
    a = {
        "dev": SplitResult({"q": {"d": 1.0}}, {"ndcg@10": {"q": 0.2}}),
        "test": SplitResult({"t": {}}, {"ndcg@10": {"t": 1.0}}),
    }
    b = {"dev": SplitResult({"q": {"d": 2.0}, "r": {}}, {"ndcg@10": {"q": 0.4, "r": 0.5}})}
    joined = _joined([a, b])
    assert joined["dev"].values["ndcg@10"] == {"q": pytest.approx(0.3), "r": 0.5}
    assert joined["test"].values["ndcg@10"] == {"t": 1.0}


def test_a_reader_reads_for_the_queries_of_all_folds(opened: Callable[..., Run], tmp_path: Path) -> None:
    collection = load_collection(
        CollectionConfig(dataset=str(tmp_path / "pairs.jsonl"), corpus=str(tmp_path / "docs.jsonl")), 0
    )
    graded = [
        {"query_id": q, "doc_id": d, "grade": 3 if d in collection.relevant(q) else 1 if query.split()[-1] in text else 0}
        for q, query in collection.queries.items() for d, text in collection.passages.items()
    ]  # fmt: skip
    (tmp_path / "grades.jsonl").write_text("".join(json.dumps(row) + "\n" for row in graded))
    more = {"train.arms": '["mined", "verified"]', "reader.given": str(tmp_path / "grades.jsonl"), "reader.use": "on"}
    run = opened(**more)
    found = run.until("verdict")
    assert found["folds"] == 3 and list(found["arms"]) == ["base", "mined", "verified"]
    read = {row["query_id"] for row in read_rows(run.folder / "folds" / "read" / "readings.jsonl")}
    own = {row["query_id"] for row in read_rows(run.folder / "readings.jsonl")}
    assert read == set(collection.queries) and own < read
    trained = run.until("verdict")  # nothing is made again
    assert trained["arms"] == found["arms"]


def test_the_lines_of_a_run_name_each_fold_and_claim_no_perfection_of_the_queries_still_to_come(
    opened: Callable[..., Run], tmp_path: Path
) -> None:
    run = opened(**{"train.arms": '["mined"]', "mine.margin": 2.0})
    rows = [{"query": row["query"], "positive": row["query"]} for row in read_rows(tmp_path / "pairs.jsonl")]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps({"text": row["positive"]}) + "\n" for row in rows))
    run.until("verdict")
    said = [str(row.get("text")) for row in read_rows(run.folder / "events.jsonl")]
    assert [line for line in said if "fold " in line] == [f"  fold {place} of 3" for place in (1, 2, 3)]
    (perfect,) = [line for line in said if "perfectly" in line]
    assert "every query of dev and test perfectly; the folds test the other queries, too" in perfect
    assert not (run.folder / "folds").exists()
