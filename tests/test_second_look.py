"""A second look: a passage graded 3 that nobody judged is a positive only if it is graded 3 again, alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeLM
from test_reading import READS, grade, reads_well
from test_reading import sparse as sparse  # a fixture

from syneg.core.errors import BackendError, ConfigError
from syneg.core.progress import Progress
from syneg.core.settings import load_config
from syneg.core.storage import read_rows
from syneg.run import show
from syneg.run.checks import check
from syneg.run.pipeline import Run

Settings = Callable[..., list[str]]
LOOKS = {**READS, "reader.use": "on", "train.pairs": 12, "reader.second_look": "on", "reader.sample": 8}


def in_haste(messages: list[dict[str, Any]]) -> tuple[int, str]:
    """As it should be, but in a list of more than two the first passage of grade 1 gets a 3."""
    text = messages[-1]["content"]
    query = re.findall(r"<data>(.*?)</data>", text)[0]
    shown = dict(re.findall(r"(\d+)\. <data>(.*?)</data>", text))
    wrong = next((n for n, passage in shown.items() if len(shown) > 2 and grade(query, passage) == 1), None)
    rows = [
        {"passage": int(n), "span": passage, "grade": 3 if n == wrong else grade(query, passage)}
        for n, passage in shown.items()
    ]
    return 200, json.dumps({"grades": rows})


def opened(folder: Path, overrides: list[str]) -> Run:
    return Run(folder, load_config(None, overrides), Progress(quiet=True))


def test_only_what_is_graded_3_twice_is_a_positive(
    tmp_path: Path, sparse: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    server, folder = fake_lm(in_haste), tmp_path / "run"
    values = settings(server.url, **LOOKS)
    parts = {part["name"]: part["calls"] for part in opened(folder, values).estimate("read")["parts"]}
    assert parts["look again"] == {"likely": 6, "most": 2 * 12 * 8}
    first = opened(folder, values)
    found = first.until("read")
    uses = [row["use"] for row in read_rows(folder / "ledger" / "calls.jsonl")]
    asked, denied = found["read"]["asked"], found["read"]["denied"]
    assert uses.count("read") == 12 and uses.count("look again") == asked == len(server.requests) - 12 - 8
    assert 12 < asked <= 24 and asked - denied == found["read"]["extra"] == 12  # the copy of each positive stays
    passages, queries = first.workspace.collection.passages, first.workspace.collection.queries
    for row in read_rows(folder / "readings.jsonl"):
        right = grade(queries[row["query_id"]], passages[row["doc_id"]])
        assert row["grade"] == right or (row["grade"], right) == (2, 1)  # a wrong 3 counts as 2
    assert sum(first.readings.calls.values()) == len(server.requests) - 8  # measuring is counted apart
    assert found["read"]["calls"] == len(server.requests)
    assert f"Second looks: {denied} of {asked} new 3s were not graded 3 again" in show.read(first.folder, found)
    again = opened(folder, values)
    assert "look again" not in {part["name"] for part in again.estimate("read")["parts"]}
    assert again.until("read")["read"]["extra"] == 12 and len(server.requests) == 8 + 12 + asked
    once = opened(folder, [*values, "reader.second_look=off"]).until("read")
    assert once["read"]["extra"] == asked and len(server.requests) == 8 + 12 + asked  # the lists are in the ledger


def test_a_strong_lm_looks_unasked(
    tmp_path: Path, sparse: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    cheap, strong = fake_lm(in_haste), fake_lm(reads_well)
    more: dict[str, Any] = {**LOOKS, "reader.second_look": "auto", "train.pairs": 8}
    assert opened(tmp_path / "one", settings(cheap.url, **more)).until("read")["read"]["asked"] == 0
    assert len(cheap.requests) == 8 + 8  # to measure, and to read
    more |= {"reader.strong": "openai/strong", "reader.strong_api_base": strong.url}
    found = opened(tmp_path / "two", settings(cheap.url, **more)).until("read")["read"]
    rows = [row for row in read_rows(tmp_path / "two" / "ledger" / "calls.jsonl") if row["use"] == "look again"]
    assert len(rows) == found["asked"] >= 8 and {row["model"].split("@")[0] for row in rows} == {"openai/strong"}
    assert found["extra"] == 8


def test_second_looks_that_broke_off_go_on(
    tmp_path: Path, sparse: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    answered: list[int] = []

    def breaks_off(messages: list[dict[str, Any]]) -> tuple[int, str]:
        answered.append(1)
        return in_haste(messages) if len(answered) <= 8 + 14 else (401, "no such key")

    server = fake_lm(breaks_off)
    values = settings(server.url, **LOOKS)
    with pytest.raises(BackendError):
        opened(tmp_path / "run", values).until("read")
    server.answer, server.requests[:] = in_haste, []
    found = opened(tmp_path / "run", values).until("read")["read"]
    assert len(server.requests) == found["calls"] - 8 - 14 and found["extra"] == 12


def test_a_second_look_without_an_lm_is_refused() -> None:
    for more in (["reader.given=grades.jsonl"], ["reader.cross_encoder=some/model"]):
        with pytest.raises(ConfigError, match="second_look=on asks an LM, and no LM reads"):
            check(load_config(None, ["reader.second_look=on", *more]))
