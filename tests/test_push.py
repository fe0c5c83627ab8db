"""Pushing to the hub, against a hub on loopback: no network, private by default, nothing without a token."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from syneg.cli.main import cli
from syneg.core.errors import BackendError, ConfigError, DataError
from syneg.run.folder import RunFolder
from syneg.run.manifest import Manifest
from syneg.run.push import MODEL, NEGATIVES, push

FILES = ("README.md", "verdict.json", "mined.jsonl", "negatives.jsonl", "negatives-reflective.jsonl", "program.md", "config.toml",
         "ledger/calls.jsonl", "events.jsonl", "best/model.safetensors", "best/README.md", "best/1_Pooling/config.json",
         "best/job.json", "models/mined-0/model.safetensors")  # fmt: skip


class Hub:
    """What the hub was asked: repositories made, and paths committed to each."""

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []
        self.committed: dict[str, set[str]] = {}
        self.tokens: set[str] = set()
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                outer.tokens.add(self.headers.get("authorization", ""))
                self.reply(*outer.answer(self.path, body))

            def do_GET(self) -> None:
                self.reply(200, {"id": "x", "sha": "0" * 40, "siblings": []})

            def reply(self, status: int, data: Any) -> None:
                payload = json.dumps(data).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path: str, body: bytes) -> tuple[int, Any]:
        if self.status != 200:
            return self.status, {"error": "no rights"}
        if path == "/api/repos/create":
            asked = json.loads(body)
            self.made.append(asked)
            kind = "datasets/" if asked.get("type") == "dataset" else ""
            return 200, {"url": f"{self.url}/{kind}{asked['organization']}/{asked['name']}"}
        if "/preupload/" in path:
            return 200, {"files": [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                                   for file in json.loads(body)["files"]]}  # fmt: skip
        if "/commit/" in path:
            lines = [json.loads(line) for line in body.splitlines()]
            name = path.removeprefix("/api/").split("/commit/")[0]
            self.committed[name] = {line["value"]["path"] for line in lines if line["key"] == "file"}
            return 200, {"commitUrl": f"{self.url}/{name}/commit/1", "commitOid": "1" * 40, "success": True}
        return 200, {}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # loopback only
    monkeypatch.setenv("HF_TOKEN", "hf_planted")
    yield hub
    hub.server.shutdown()
    hub.server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    for name in FILES:
        path = tmp_path / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\n")
    return RunFolder(tmp_path / "run")


def test_the_model_is_pushed_to_a_private_repository(hub: Hub, folder: RunFolder) -> None:
    (sent,) = push(folder, "me/pairs")
    assert (sent.what, sent.repo_id, sent.files) == (MODEL, "me/pairs", 3)
    assert [(asked["name"], asked["organization"], asked["visibility"]) for asked in hub.made] == [
        ("pairs", "me", "private")
    ]
    assert hub.committed == {"models/me/pairs": {"model.safetensors", "README.md", "1_Pooling/config.json"}}
    assert hub.tokens == {"Bearer hf_planted"}


def test_negatives_go_to_a_data_set_without_the_ledger_and_the_settings(hub: Hub, folder: RunFolder) -> None:
    said = CliRunner().invoke(cli, ["push", str(folder), "--to", "me/pairs", "--what", "both", "--public"])
    assert said.exit_code == 0, said.output
    assert "negatives: 6 files in " in said.output and "/datasets/me/pairs-negatives" in said.output
    assert [(asked.get("type"), asked["name"], asked["visibility"]) for asked in hub.made] == [
        ("model", "pairs", "public"), ("dataset", "pairs-negatives", "public"),
    ]  # fmt: skip
    assert hub.committed["datasets/me/pairs-negatives"] == {
        "README.md", "verdict.json", "mined.jsonl", "negatives.jsonl", "negatives-reflective.jsonl", "program.md",
    }  # fmt: skip
    push(folder, "me/rows", (NEGATIVES,))
    assert hub.committed["datasets/me/rows"] and hub.made[-1]["visibility"] == "private"


def test_a_line_is_printed_for_each_repository_and_the_token_stands_nowhere(
    hub: Hub, folder: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    said = CliRunner().invoke(cli, ["push", str(folder), "--to", "me/pairs", "--what", "both"])
    assert said.stdout.splitlines() == [
        f"model: 3 files in {hub.url}/me/pairs",
        f"negatives: 6 files in {hub.url}/datasets/me/pairs-negatives",
    ]
    assert all(asked["visibility"] == "private" for asked in hub.made)
    assert caplog.records and "hf_planted" not in said.output + caplog.text


def test_without_a_token_nothing_is_asked(
    hub: Hub, folder: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="no token for the Hugging Face hub; export HF_TOKEN=…") as refused:
        push(folder, "me/pairs")
    with pytest.raises(DataError, match="no verdict in this run folder"):
        push(RunFolder(tmp_path / "nothing"), "me/pairs")  # what no token would mend is said first
    assert "\n" not in str(refused.value)
    assert not hub.made and not hub.committed


@pytest.mark.parametrize("name", ["pairs", "a/b/c", "/x"])
def test_a_name_that_is_none_is_refused(name: str, hub: Hub, folder: RunFolder) -> None:
    with pytest.raises(ConfigError, match="give OWNER/NAME"):
        push(folder, name)
    assert not hub.made


def test_what_is_not_there_is_said_before_anything_is_sent(hub: Hub, folder: RunFolder) -> None:
    for name in ("negatives.jsonl", "negatives-reflective.jsonl", "mined.jsonl"):
        (folder / name).unlink()
    with pytest.raises(DataError, match="there are no negatives to push"):
        push(folder, "me/pairs", (MODEL, NEGATIVES))
    (folder / "verdict.json").unlink()
    with pytest.raises(DataError, match="no verdict in this run folder"):
        push(folder, "me/pairs")
    assert not hub.made


@pytest.mark.parametrize("name", ["mined.jsonl", "negatives.jsonl", "negatives-reflective.jsonl"])
def test_negatives_that_are_not_as_they_were_written_are_not_pushed(name: str, hub: Hub, folder: RunFolder) -> None:
    for written in ("mined.jsonl", "negatives.jsonl", "negatives-reflective.jsonl"):
        Manifest(folder).done("mine" if written == "mined.jsonl" else Path(written).stem, "key", folder / written)
    push(folder, "me/pairs", (MODEL, NEGATIVES))
    hub.made.clear()
    (folder / name).write_text("")
    with pytest.raises(
        DataError, match=rf"not as it was written \(.*{name}\); run `syneg-dspy run --run FOLDER` again"
    ):
        push(folder, "me/pairs", (MODEL, NEGATIVES))
    assert not hub.made


def test_a_refusal_of_the_hub_is_one_line_without_the_token(hub: Hub, folder: RunFolder) -> None:
    hub.status = 403
    with pytest.raises(BackendError, match="the hub did not take me/pairs: .*check the token's rights") as refused:
        push(folder, "me/pairs")
    assert "\n" not in str(refused.value)
    assert "hf_planted" not in str(refused.value)
