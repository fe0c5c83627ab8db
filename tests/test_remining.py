"""`train.remine`: negatives are mined again with the encoder as trained so far."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import FakeLM
from sentence_transformers import SentenceTransformer

from syneg.core.config import EncoderConfig, TrainConfig
from syneg.core.errors import ConfigError
from syneg.core.progress import Progress
from syneg.core.records import Training
from syneg.core.settings import load_config
from syneg.core.storage import read_json, read_rows
from syneg.retrieval.dev_set import DevSet
from syneg.run.arms import arm
from syneg.run.export import PROVENANCE, export
from syneg.run.folder import RunFolder
from syneg.run.pipeline import Run
from syneg.training.job import Job, Start, read_job, write_job

NOWHERE = "http://127.0.0.1:9/v1"
MORE = {"train.evals": 1, "train.alphas": [1.0], "train.epochs": 2, "train.learning_rate": 0.5}
Settings = Callable[..., list[str]]


def run(folder: Path, overrides: list[str]) -> dict[str, Any]:
    return Run(folder, load_config(None, overrides), Progress(quiet=True)).until("verdict")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(SentenceTransformer(str(folder), device="cpu").state_dict())


def found_in(path: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in read_rows(path):
        found.setdefault(row["query_id"], set()).add(row["doc_id"])
    return found


def used_in(path: Path, epoch: int) -> dict[str, set[str]]:
    return {row["query_id"]: {*row["doc_ids"]} - {None} for row in read_rows(path) if row["epoch"] == epoch}


def test_the_second_part_trains_on_what_the_first_one_mines(tmp_path: Path, beir: Path, settings: Settings) -> None:
    folder, name = tmp_path / "run", "mined@remine=1"
    more: dict[str, Any] = {**MORE, "train.arms": json.dumps(["mined", name])}
    found = run(folder, settings(NOWHERE, **more))
    first, again = found_in(folder / "mined.jsonl"), found_in(folder / f"mined-{name}.first-0.jsonl")
    assert first.keys() == again.keys() and first != again  # a large learning rate makes another encoder
    rows = folder / "rows" / f"{name}-0.jsonl"
    early, late = used_in(rows, 0), used_in(rows, 1)
    assert early == used_in(folder / "rows" / "mined-0.jsonl", 0)
    assert all(ids <= first[q] for q, ids in early.items())
    assert all(ids <= again[q] for q, ids in late.items()) and any(ids - first[q] for q, ids in late.items())
    qrels = [line.split("\t") for line in (beir / "qrels" / "train.tsv").read_text().splitlines()[1:]]
    assert not [doc_id for query_id, doc_id, grade in qrels if int(grade) and doc_id in again.get(query_id, ())]
    plain, own = (found["arms"][each]["training"][0] for each in ("mined", name))
    assert own["steps"] == plain["steps"] and own["dev"][-1][0] == plain["dev"][-1][0] == plain["steps"]
    exported = list(read_rows(export(RunFolder(folder), "sentence-transformers", arm=name).path / PROVENANCE))
    assert exported and all("rank" in each for row in exported for each in row["negatives"])
    before = {path: path.stat().st_mtime_ns for path in folder.glob("m*/**/*.safetensors")}
    assert run(folder, settings(NOWHERE, **more))["arms"] == found["arms"]
    assert {path: path.stat().st_mtime_ns for path in folder.glob("m*/**/*.safetensors")} == before


def test_the_second_part_goes_on_with_the_weights_of_the_first(tmp_path: Path, settings: Settings) -> None:
    name = "mined@remine=1"
    run(tmp_path / "run", settings(NOWHERE, **{**MORE, "train.arms": json.dumps([name])}))
    models = tmp_path / "run" / "models"
    job = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert {f"train {name}-0", f"train {name}.first-0"} <= {*job["stages"]}
    first, second = weights(models / f"{name}.first-0"), weights(models / f"{name}-0")
    base = weights(Path(load_config(tmp_path / "run" / "config.toml").encoder.model))
    moved = {key: (second[key] - first[key]).norm() for key in first}
    whole = {key: (second[key] - base[key]).norm() for key in first}
    assert any(0 < moved[key] < whole[key] for key in first)
    record = Training.of(read_json(models / f"{name}-0" / "training.json"))
    part = Training.of(read_json(models / f"{name}.first-0" / "training.json"))
    assert record.steps == 2 * part.steps and record.dev[: len(part.dev)] == part.dev


def test_a_changed_first_part_trains_the_second_again(tmp_path: Path, settings: Settings) -> None:
    folder, arms = tmp_path / "run", json.dumps(["mined@remine=1"])
    one = run(folder, settings(NOWHERE, **{**MORE, "train.arms": arms}))
    two = run(folder, settings(NOWHERE, **{**MORE, "train.arms": arms, "train.learning_rate": 0.25}))
    assert one["arms"]["mined@remine=1"]["training"] != two["arms"]["mined@remine=1"]["training"]


def test_an_arm_that_does_not_mine_again_is_not_trained_again(tmp_path: Path, settings: Settings) -> None:
    more = {**MORE, "train.arms": json.dumps(["in-batch", "mined"])}
    run(tmp_path / "run", settings(NOWHERE, **more))
    again = load_config(None, settings(NOWHERE, **more, **{"train.remine": 1}))
    experiment = Run(tmp_path / "run", again, Progress(quiet=True)).experiment
    assert [experiment.is_trained(each, 0) for each in experiment.planned] == [True, False]  # what --dry-run counts


def test_the_file_of_a_job_names_the_model_to_go_on_with(tmp_path: Path) -> None:
    for start in (None, Start("models/a", "key")):
        job = Job(EncoderConfig(), [], {}, DevSet({}, {}, {}), TrainConfig(), 0, start=start)
        write_job(job, tmp_path)
        assert read_job(tmp_path) == job


def test_hybrid_mines_again_and_a_reader_does_not(
    tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    more = {**MORE, "train.arms": json.dumps(["in-batch", "hybrid"]), "train.remine": 1}
    found = run(tmp_path / "run", settings(fake_lm().url, **more))
    assert found["arms"]["hybrid"]["training"][0]["synthetic_share"] > 0
    files = {path.name for path in (tmp_path / "run").glob("mined*.jsonl")}
    assert files == {"mined.jsonl", "mined-hybrid.first-0.jsonl"}
    for text in ("verified@remine=1", "in-batch@remine=1", "bm25@remine=1"):
        with pytest.raises(ConfigError, match=r"does not mine again.*mined, dataset-mix, hybrid"):
            arm(text, load_config())
    with pytest.raises(ConfigError, match="leaves none of train.epochs = 2"):
        load_config(None, ["train.remine=2"])
    with pytest.raises(ConfigError, match="leaves none of train.epochs = 1"):
        arm("mined@remine=1@epochs=1", load_config())
