"""The real embedded models: fetched as a user would, served by the real child process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from syneg.core.config import EncoderConfig, LMConfig
from syneg.core.errors import BackendError
from syneg.core.fetch import fetch, fetched
from syneg.core.storage import read_rows
from syneg.llm.calls import purpose
from syneg.llm.ledger import Ledger
from syneg.llm.local_server import LocalServer

pytestmark = pytest.mark.real


@pytest.fixture(autouse=True)
def _real(own_home: Path, real_home: None) -> None:
    """After `own_home`: these tests use the user's cache of models."""


def test_a_file_with_a_wrong_hash_is_refused_and_a_right_one_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = fetch("smollm2-135m") / "SmolLM2-135M-Instruct.Q4_1.gguf"
    monkeypatch.setenv("SYNEG_HOME", str(tmp_path / "elsewhere"))
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"x" * 98362432)
    with pytest.raises(BackendError, match="has SHA-256"):
        fetch("smollm2-135m", own=bad)
    assert fetched("smollm2-135m") is None
    assert (fetch("smollm2-135m", own=good) / good.name).stat().st_size == 98362432


def test_the_real_encoder_knows_what_is_near_and_caches(tmp_path: Path) -> None:
    from syneg.retrieval.encoder import Encoder

    encoder = Encoder.load(EncoderConfig())
    texts = ["Close the network connection.", "Bake the bread for an hour."]
    passages = encoder.encode(texts, "passage")
    query = encoder.encode(["how to shut a socket"], "query")[0]
    assert passages[0] @ query > passages[1] @ query
    assert np.allclose(np.linalg.norm(passages, axis=1), 1, atol=1e-3)
    assert not encoder._store("passage").missing(texts)


def test_the_embedded_llm_answers_through_the_whole_stack_with_its_schema_enforced(tmp_path: Path) -> None:
    import dspy

    from syneg.llm.lms import LanguageModel
    from syneg.programs import load_program

    ledger = Ledger(tmp_path / "calls.jsonl")
    writer = LanguageModel.open(
        LMConfig(model="local/smollm2-135m", max_tokens=60, concurrency=2, temperature=0.0), ledger
    )
    try:
        for query in ("close a socket", "open a file"):
            # a model this small may run into the limit; what it did say must follow the schema
            with (
                purpose(query),
                dspy.context(lm=writer.lm, adapter=writer.adapter),
                contextlib.suppress(dspy.utils.exceptions.AdapterParseError),
            ):
                load_program("single_prompt")(
                    query=query, positive="It is done with close().", task="It answers.", attributes={}
                )
    finally:
        writer.close()
        ledger.close()
    rows = list(read_rows(tmp_path / "calls.jsonl"))
    assert len(rows) == 2
    for row in rows:
        assert row["answer"].replace("\n", " ").replace(" ", "").startswith('{"hard_negative":"')
        assert row["output_tokens"] > 3
        if row["finish_reason"] == "stop":
            assert set(json.loads(row["answer"])) == {"hard_negative"}


def test_the_child_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from syneg.llm.local_server import LocalServer\n"
        "server = LocalServer(Path(sys.argv[1]), slots=1); print(server._child.pid, flush=True); time.sleep(60)"
    )
    gguf = fetch("smollm2-135m") / "SmolLM2-135M-Instruct.Q4_1.gguf"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(gguf)], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(child, 0)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{child}").exists()


def test_a_file_that_is_no_model_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"not a model")
    with pytest.raises(BackendError, match="did not start"):
        LocalServer(tmp_path / "x.gguf", slots=1, log=tmp_path / "log")
