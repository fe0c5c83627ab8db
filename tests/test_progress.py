"""Progress on a terminal and in a pipe: a clock from the first second, lines that fit 80 columns."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path

import pytest

from syneg.core.errors import BackendError, DeferredError, SynegError
from syneg.core.progress import Progress, Stage
from syneg.core.storage import read_rows

LONG = "pairs: 120 passages; queries: train 24, dev 6, confirm 0, test 10, of a set with a long name"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn_soon(screen: Terminal, line: str, times: int) -> None:
    """Wait until a line has been drawn so often; a busy machine is slow."""
    deadline = time.monotonic() + 30
    while len(re.findall(rf"[\r\n]{line}", screen.getvalue().replace("\x1b[2K", ""))) < times:
        assert time.monotonic() < deadline, screen.getvalue()
        time.sleep(0.01)


def test_a_terminal_shows_a_clock_before_the_first_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", screen := Terminal())
    monkeypatch.setattr("syneg.core.progress._CLOCK_SECONDS", 0.05)
    with Progress().stage("generate", "pairs") as line:
        drawn_soon(screen, r"generate   …  \d+ s", 1)
        line(3, 16)
        drawn_soon(screen, r"generate   3/16 pairs", 2)
    ended = screen.getvalue()
    time.sleep(0.2)
    assert screen.getvalue() == ended


def test_a_count_that_begins_again_has_a_rate_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, *(float(second) for second in range(100, 1000, 100))]).__next__
    monkeypatch.setattr("syneg.core.progress.time.monotonic", clock)
    line = Stage("choose", "answers", quiet=False)
    for done in (1, 31, 2, 4):  # two programs, one after the other, with as many answers to get
        line(done, 40)
    assert [re.sub(".* answers", "", row).split() for row in capsys.readouterr().err.splitlines()] == [
        [], ["18.0/min", "ETA", "0:30"], [], ["1.2/min", "ETA", "30:00"],
    ]  # fmt: skip


def test_a_message_clears_the_line_that_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", screen := Terminal())
    progress = Progress()
    with progress.stage("generate", "pairs"):
        progress.say("  a message")
    assert "\x1b[2K  a message\n" in screen.getvalue()


def test_a_pipe_gets_plain_lines_of_at_most_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress().stage("collection") as line:
        line.note = LONG
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert " ".join(said.split()).startswith(f"collection {LONG}")
    assert max(map(len, said.splitlines())) <= 80
    assert re.search(r"  \d\.\d s\n$", said)


@pytest.mark.parametrize(
    ("error", "event", "said"),
    [
        (DeferredError("call 5f0c waits"), "waits", "waits for the answers to a batch file"),
        (BackendError("gone"), "stopped", "stopped"),
    ],
)  # fmt: skip
def test_a_stage_that_waits_for_a_batch_is_not_stopped(
    error: SynegError, event: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress()
    with pytest.raises(type(error)), progress.kept(tmp_path / "events.jsonl"), progress.stage("read"):
        raise error
    assert re.fullmatch(rf"read +{said}  \d+\.\d s\n", capsys.readouterr().err)
    assert [row["event"] for row in read_rows(tmp_path / "events.jsonl")] == ["begun", event]


def test_seconds_stay_with_their_unit(capsys: pytest.CaptureFixture[str]) -> None:
    for length in range(60, 70):
        with Progress().stage("collection") as line:
            line.note = "x" * length
    assert "\n           s\n" not in capsys.readouterr().err


def test_a_long_message_is_wrapped_at_80_columns_under_its_indent(capsys: pytest.CaptureFixture[str]) -> None:
    Progress().say("  " + " ".join(["word"] * 40))
    full = "  " + " ".join(["word"] * 15)  # 76 columns; with a 16th word 81
    assert capsys.readouterr().err.splitlines() == [full, full, "  " + " ".join(["word"] * 10)]
    path = "/data/a-long-name" * 6
    Progress().say(f"the file {path} is not there")
    assert capsys.readouterr().err.splitlines() == ["the file", path, "is not there"]


def test_stages_of_no_time_need_no_list() -> None:
    assert Progress().shares() == ""
