"""A verdict is exported, pushed and compared only while settings and results of its folder are those it is of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from syneg.core.errors import DataError
from syneg.core.progress import Progress
from syneg.core.settings import load_config
from syneg.run.comparison import sides
from syneg.run.export import export
from syneg.run.folder import RunFolder, RunLock
from syneg.run.pipeline import Run
from syneg.run.push import push

NO_LM = "http://127.0.0.1:9/v1"


def refused(folder: Path, match: str) -> None:
    uses: list[Callable[[], object]] = [
        lambda: export(RunFolder(folder), "flagembedding"), lambda: push(RunFolder(folder), "me/x"), lambda: sides([folder]),
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(DataError, match=match):
            use()


def test_a_verdict_of_other_settings_or_results_is_not_used(
    settings: Callable[..., list[str]], tmp_path: Path, beir: Path
) -> None:
    folder = tmp_path / "run"

    def run(**more: object) -> Run:
        few = {"train.arms": '["mined"]', "train.epochs": 1, "train.evals": 1, **more}
        return Run(folder, load_config(None, settings(NO_LM, **few)), Progress(quiet=True))

    run().until("verdict")
    written = (folder / "config.toml").read_bytes()
    run(**{"train.epochs": 2}).estimate()
    assert (folder / "config.toml").read_bytes() == written
    run(**{"lm.concurrency": 2, "budget.calls": 9}).until("mine")  # these change no result
    assert export(RunFolder(folder), "flagembedding").rows and sides([folder])
    with RunLock(folder):
        refused(folder, r"another syneg-dspy \(process \d+ on .*\) works in this run folder .*; wait for it")
    run(**{"train.epochs": 2, "mine.last_rank": 20}).until("mine")
    refused(
        folder, "the settings are not those of the verdict: mine.last_rank, train.epochs .*; run `syneg-dspy run --run"
    )
    run().until("mine")  # the settings are the same again, and so are the results
    assert export(RunFolder(folder), "flagembedding").rows
    with (beir / "corpus.jsonl").open("a") as corpus:
        corpus.write('{"_id": "d999", "title": "", "text": "to merge the node it is merged slowly"}\n')
    run().until("mine")
    refused(folder, r"the verdict is of earlier results: choose margin, mine \(")
    run().until("verdict")
    assert export(RunFolder(folder), "flagembedding").rows and sides([folder])
