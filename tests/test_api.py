"""The path in Python, on a path and on a collection in memory, in ten lines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import FakeLM

import syneg


def test_mine_generate_train_and_run(
    tmp_path: Path,
    beir: Path,
    settings: Callable[..., list[str]],
    fake_lm: Callable[..., FakeLM],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    server = fake_lm()
    chosen = dict(line.split("=", 1) for line in settings(server.url, **{"generate.pairs": 4}))
    del chosen["collection.dataset"]
    typed = {key: float(value) if value.replace(".", "").isdigit() else value for key, value in chosen.items()}
    mined = syneg.mine(beir, settings=typed)
    assert {n.source for negatives in mined.values() for n in negatives} <= {"dense", "bm25"}
    rows = syneg.generate(str(beir), settings=typed)
    assert {row["query_id"] for row in rows} <= set(mined)
    assert any(row["accepted"] for row in rows)
    models = syneg.train(beir, settings=typed)
    assert all((path / "config_sentence_transformers.json").is_file() for path in models.values())
    calls = len(server.requests)
    verdict = syneg.run(beir, settings=typed)
    assert verdict["sentence"]
    assert len(server.requests) == calls
    assert (Path("runs") / beir.name / "best").is_dir()


def test_a_collection_in_memory(tmp_path: Path, beir: Path, encoder_path: str) -> None:
    collection = syneg.load_collection(syneg.Config().collection.model_copy(update={"dataset": str(beir)}))
    mined = syneg.mine(collection, tmp_path / "run", {"encoder.model": encoder_path, "mine.last_rank": 10})
    assert set(mined) <= set(collection.splits["train"])


def test_names_are_loaded_on_first_use_only() -> None:
    import subprocess
    import sys

    code = "import sys, syneg; assert not {'torch', 'dspy', 'litellm', 'pydantic'} & set(sys.modules); syneg.Config; assert set(syneg.__all__) <= set(dir(syneg))"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = syneg.nothing


def test_nothing_that_is_given_is_ignored(tmp_path: Path, beir: Path, encoder_path: str) -> None:
    collection = syneg.load_collection(syneg.Config().collection.model_copy(update={"dataset": str(beir)}))
    settings = {"encoder.model": encoder_path}
    with pytest.raises(syneg.ConfigError, match=r"Collection has its own passages; leave out corpus"):
        syneg.mine(collection, tmp_path / "a", settings, corpus="docs.jsonl")
    with pytest.raises(syneg.ConfigError, match=r"collection\.dev changes nothing in a Collection"):
        syneg.mine(collection, tmp_path / "a", {**settings, "collection.dev": 0.3})
    for key in ("dataset", "corpus"):
        with pytest.raises(syneg.ConfigError, match=rf"collection\.{key} is no setting here.*argument '{key}'"):
            syneg.mine("pairs.csv", tmp_path / "a", {**settings, f"collection.{key}": "other.csv"})
    assert not (tmp_path / "a").exists()


def test_a_folder_keeps_its_settings_and_its_collection(tmp_path: Path, beir: Path, encoder_path: str) -> None:
    folder = tmp_path / "run"
    few = syneg.mine(beir, folder, {"encoder.model": encoder_path, "mine.last_rank": 10, "mine.per_query": 2})
    assert syneg.mine(beir, folder) == few
    with pytest.raises(syneg.ConfigError, match="belongs to '.*beir', not to 'python-docs-small'"):
        syneg.mine("python-docs-small", folder)
