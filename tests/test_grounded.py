"""Grounded negatives beside a reader: it grades the real passages near written texts before they are trained on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeLM, write_negative
from test_reading import READS, grade, reads_well
from test_reading import sparse as sparse  # a fixture

from syneg.core.progress import Progress
from syneg.core.settings import load_config
from syneg.core.storage import read_rows
from syneg.run.arms import ablation
from syneg.run.experiment import Experiment
from syneg.run.pipeline import Run

Settings = Callable[..., list[str]]
Served = Callable[..., tuple[FakeLM, list[str]]]
Opened = Callable[[Path, list[str]], Run]
GROUNDED = {
    **READS, "train.arms": '["mined", "grounded"]', "mix.negatives": 2, "mix.ratio": 1.0, "mine.margin": 10,
    "generate.pairs": 8, "train.pairs": 12, "reader.sample": 8, "boundary.queries": 0,
}  # fmt: skip


def both(messages: list[dict[str, Any]]) -> tuple[int, str]:
    """Read well; write what stands in the positive, so that copies which nobody judged are near."""
    if "passages" in messages[0]["content"]:
        return reads_well(messages)
    positive = messages[-1]["content"].split("<data>")[2].split("</data>")[0]
    return 200, json.dumps({"hard_negative": " ".join(reversed(positive.split()))})


@pytest.fixture
def opened() -> Iterator[Callable[[Path, list[str]], Run]]:
    """Open a run in a folder; its LMs are closed after the test."""
    runs: list[Run] = []

    def build(folder: Path, overrides: list[str]) -> Run:
        runs.append(Run(folder, load_config(None, overrides), Progress(quiet=True)))
        return runs[-1]

    yield build
    for run in runs:
        run.workspace.close_lms()


def taken(experiment: Experiment, arm: int) -> set[tuple[str, str]]:
    """(query_id, doc_id) of the grounded negatives that arm number `arm` is trained on."""
    return {
        (row.pair.query_id, str(doc_id))
        for rows in experiment.job(experiment.planned[arm], 0).epochs for row in rows
        for doc_id, source in zip(row.doc_ids, row.sources, strict=True) if source == "grounded"
    }  # fmt: skip


@pytest.fixture
def served(sparse: Path, settings: Settings, fake_lm: Callable[..., FakeLM]) -> Served:
    """Start an LM that answers so, and give it with the settings of a run over `sparse` with grounded arms."""

    def build(answer: Callable[..., Any], **more: object) -> tuple[FakeLM, list[str]]:
        server = fake_lm(answer)
        return server, settings(server.url, **{**GROUNDED, **more})

    return build


def test_a_trusted_reader_grades_what_grounding_finds(tmp_path: Path, served: Served, opened: Opened) -> None:
    (server, overrides), folder = served(both), tmp_path / "run"

    def planned() -> dict[str, float]:
        parts = opened(folder, overrides).estimate("train")["parts"]
        return {part["name"]: part["calls"]["likely"] for part in parts if part["lm"]}

    before = planned()
    assert before["read grounded"] == before["measure reader"] == 8 and "read" not in before
    experiment = opened(folder, overrides).experiment
    _ = experiment.generation  # all calls of an LM
    uses = Counter(row["use"] for row in read_rows(folder / "ledger" / "calls.jsonl"))
    assert (uses["read grounded"], uses["read"]) == (8, 0) and not (folder / "readings.jsonl").exists()
    grades = {(row["query_id"], row["doc_id"]): row["grade"] for row in read_rows(folder / "readings-grounded.jsonl")}
    assert len({query_id for query_id, _ in grades}) == 8 and set(grades.values()) == {0, 1, 3}
    used = taken(experiment, 1)
    assert used and {grades[each] for each in used} <= {0, 1}
    cost = experiment._cost(experiment.planned[1])
    assert cost is not None and cost.calls == len(server.requests) == uses.total()
    assert experiment._cost(experiment.planned[0]) is None
    assert not planned()
    assert taken(opened(folder, overrides).experiment, 1) == used and len(server.requests) == uses.total()


def test_only_what_no_list_graded_is_read_near_and_counted(
    tmp_path: Path, sparse: Path, served: Served, opened: Opened
) -> None:
    def accepted(messages: list[dict[str, Any]]) -> tuple[int, str]:
        return reads_well(messages) if "passages" in messages[0]["content"] else write_negative(messages)

    arms = [*ablation("calls"), "grounded"]
    (_, overrides), folder = served(accepted, **{"train.arms": json.dumps(arms)}), tmp_path / "run"
    experiment = opened(folder, overrides).experiment
    _ = experiment.generation
    corpus = {row["_id"]: row["text"] for row in read_rows(sparse / "corpus.jsonl")}
    queries = {row["_id"]: row["text"] for row in read_rows(sparse / "queries.jsonl")}
    listed = {(row["query_id"], row["doc_id"]) for row in read_rows(folder / "readings.jsonl")}
    near = {(row["query_id"], row["doc_id"]) for row in read_rows(folder / "readings-grounded.jsonl")}
    assert len(near & listed) <= 2 * len({query_id for query_id, _ in near})  # a known positive and negative
    used = taken(experiment, 6)
    assert used & (near - listed) and used <= near | listed
    assert {grade(queries[query_id], corpus[doc_id]) for query_id, doc_id in used} <= {0, 1}
    rows = [row for row in read_rows(folder / "ledger" / "calls.jsonl") if row["use"] != "measure reader"]
    spent = Counter(row["query_id"].rpartition(":")[2] for row in rows)
    limited, allowed = taken(experiment, 3), experiment._allowed(experiment.planned[3]) or set()
    assert limited < used and {query_id for query_id, _ in limited} <= allowed
    assert all(spent[query_id] >= 3 for query_id in allowed)  # a text, a list and the passages near the text
    hybrid = experiment.job(experiment.planned[5], 0).epochs
    assert {"synthetic", "related"} <= {source for rows_ in hybrid for row in rows_ for source in row.sources}
    costs = {one.name: experiment._cost(one) for one in experiment.planned[1:6]}
    calls = {name.partition("@calls")[0]: cost.calls for name, cost in costs.items() if cost}
    assert calls["grounded"] == sum(spent[query_id] for query_id in allowed) > 0
    assert len(calls) == 5 and max(calls.values()) - min(calls.values()) <= max(spent.values())


@pytest.mark.parametrize("use", ["auto", "off"])
def test_without_a_trusted_reader_the_margin_decides(use: str, tmp_path: Path, served: Served, opened: Opened) -> None:
    def bad(messages: list[dict[str, Any]]) -> tuple[int, str]:
        return (200, '{"grades": []}') if "passages" in messages[0]["content"] else both(messages)

    (_, overrides), folder = served(bad, **{"reader.use": use}), tmp_path / "run"
    experiment = opened(folder, overrides).experiment
    assert taken(experiment, 1) and not (folder / "readings-grounded.jsonl").exists()


def sources_of(experiment: Experiment, arm: int) -> set[str]:
    return {
        source for rows in experiment.job(experiment.planned[arm], 0).epochs for row in rows for source in row.sources
    }


def test_hybrid_on_what_was_read_is_written_and_read_for(tmp_path: Path, served: Served, opened: Opened) -> None:
    def accepted(messages: list[dict[str, Any]]) -> tuple[int, str]:
        return reads_well(messages) if "passages" in messages[0]["content"] else write_negative(messages)

    arms = ["mined", "verified", "hybrid", "hybrid@base=verified"]
    (server, overrides), folder = served(accepted, **{"train.arms": json.dumps(arms)}), tmp_path / "run"
    alone = served(accepted, **{"train.arms": '["hybrid@base=verified"]'})[1]
    planned = {part["name"]: part["calls"]["likely"] for part in opened(folder, alone).estimate("train")["parts"]}
    assert planned["read"] == 12 and sum(planned[name] for name in planned if name.startswith("write ")) >= 8
    experiment = opened(folder, overrides).experiment
    _ = experiment.generation  # all calls of an LM
    asked = len(server.requests)
    verified, hybrid, both = ([*experiment.job(experiment.planned[place], 0).epochs] for place in (1, 2, 3))
    assert {"synthetic", "related"} <= sources_of(experiment, 3) and "related" not in sources_of(experiment, 2)
    extra = opened(folder, overrides).readings.fed.extra
    drawn = [[row.pair.positive for rows in epochs for row in rows] for epochs in (verified, hybrid, both)]
    assert drawn[0] == drawn[2] != drawn[1]  # the new positives of the reader, one drawn an epoch
    assert extra and all(row.pair.query_id in extra for rows in both for row in rows)
    for one, other in zip(verified[0], both[0], strict=True):
        count = other.sources.count("synthetic")
        assert other.negatives[count:] == one.negatives[: len(one.negatives) - count]
    cost = experiment._cost(experiment.planned[3])
    assert cost is not None and cost.calls == asked == len(server.requests)
    whole = served(accepted, **{"train.arms": '["hybrid"]', "mix.base": "verified"})[1]
    again = opened(folder, whole).experiment
    assert again.job(again.planned[0], 0).epochs == both and again.planned[0].reads


def test_hybrid_needs_written_texts_on_every_base(tmp_path: Path, served: Served, opened: Opened) -> None:
    def copies(messages: list[dict[str, Any]]) -> tuple[int, str]:
        if "passages" in messages[0]["content"]:
            return reads_well(messages)
        positive = messages[-1]["content"].split("<data>")[2].split("</data>")[0]
        return 200, json.dumps({"hard_negative": positive})

    arms = ["mined", "grounded", "hybrid@base=grounded", "hybrid@base=verified"]
    overrides = served(copies, **{"train.arms": json.dumps(arms)})[1]
    experiment = opened(tmp_path / "run", overrides).experiment
    _ = experiment.generation
    assert [each.name for each in experiment.arms] == ["mined", "grounded"]
