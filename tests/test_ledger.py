"""The ledger at many rows: constant memory, a lookup by key, and an index that is never trusted more than the file."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from conftest import FakeLM, pack, write_negative

from syneg.core.errors import BackendError, DataError
from syneg.core.progress import Progress
from syneg.core.settings import load_config
from syneg.core.storage import Log, read_rows
from syneg.llm.ledger import Ledger
from syneg.llm.recorded import Recorded
from syneg.run.pipeline import Run
from syneg.run.rates import Rates


def row(number: int, **more: Any) -> dict[str, Any]:
    return {
        "key": f"key-{number}", "query_id": f"q{number}", "attempt": 0, "model": "openai/fake@default", "prompt": f"p{number}",
        "answer": f"answer {number} " + "x" * 80, "finish_reason": "stop", "input_tokens": 1, "output_tokens": 1, "usd": 0.0,
        "seconds": 0.1, "error": None, **more,
    }  # fmt: skip


def write(path: Path, count: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row(n)) + "\n" for n in range(count))


def test_rows_go_into_the_index_sorted_by_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syneg.llm.ledger._ROWS_PER_COMMIT", 4)
    ledger, said = Ledger(tmp_path / "calls.jsonl"), list[str]()
    ledger._index._database.set_trace_callback(said.append)
    for number in (5, 2, 9, 1, 7, 3, 8):
        ledger.keep(row(number))
    ledger.close()
    added = [text.split("'")[1] for text in said if text.startswith("INSERT OR REPLACE INTO calls")]
    assert added == [f"key-{number}" for number in (1, 2, 5, 9, 3, 7, 8)]  # commits of four and of three


def test_many_rows_are_found_by_key_in_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "calls.jsonl"
    write(path, 20_000)
    tracemalloc.start()
    ledger = Ledger(path)
    answer = ledger.find("key-19999")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answer is not None
    assert answer["query_id"] == "q19999"
    assert ledger.find("key-20000") is None
    assert peak < 2e6  # the rows are 6 MB
    ledger.keep(row(20_000))
    assert ledger.find("key-20000") is not None
    ledger.close()
    monkeypatch.setattr("syneg.llm.ledger.Index._note", lambda index, key, start, length: pytest.fail("read again"))
    again = Ledger(path)  # the index is there, the file is not read
    assert again.find("key-20000") is not None
    again.close()


ROW = (
    '{"answer": "text %d", "attempt": 0, "error": null, "finish_reason": "stop", "input_tokens": 9, "key": "%08x", '
    '"model": "openai/fake@default", "output_tokens": 9, "prompt": "p", "query_id": "q", "seconds": 0.1, "usd": 0.0}'
)
OPEN = """
import random, re, sys, time
from pathlib import Path
from syneg.llm.ledger import Ledger

def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) / 1e3

path, rows, before = Path(sys.argv[1]), int(sys.argv[2]), peak()
Ledger(path).close()
start = time.process_time()  # of this process alone: other processes do not count
ledger = Ledger(path)
opened = time.process_time() - start
start = time.process_time()
for _ in range(2000):
    number = random.randrange(rows)
    assert ledger.find("%08x" % (number * 2654435761 % 2**32))["answer"] == f"text {number}"
print(peak() - before, opened, 2000 / (time.process_time() - start))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory of a process is read from /proc")
def test_a_million_calls_are_opened_and_found_in_little_memory(tmp_path: Path) -> None:
    path, rows = tmp_path / "calls.jsonl", 1_000_000
    with path.open("w", encoding="utf-8") as file:
        file.writelines(ROW % (n, n * 2654435761 % 2**32) + "\n" for n in range(rows))
    command = [sys.executable, "-c", OPEN, str(path), str(rows)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
    grown_mb, seconds, lookups = map(float, told.split())
    assert path.stat().st_size > 200e6
    assert grown_mb < 40
    assert seconds < 1  # the index is there, the file is not read
    assert lookups > 1000


def test_the_ledger_of_another_machine_is_indexed_on_disk_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, temporary = tmp_path / "calls.jsonl", tmp_path / "temporary"
    write(path, 3000)
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    recorded = Recorded(path)
    assert recorded.find(row(2999)) == row(2999)
    assert recorded.find(row(3000)) is None
    assert sum(file.stat().st_size for file in temporary.rglob("*.index")) > 50_000
    recorded.close()
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["calls.jsonl"]


def test_a_recorded_ledger_that_is_edited_meanwhile_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    write(path, 3)
    recorded = Recorded(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([json.dumps(row(0, use="edited by hand")), *lines[1:]]) + "\n", encoding="utf-8")
    assert recorded.find(row(2)) == row(2)  # the old place of this row is now the middle of a line
    recorded.close()


def test_rates_of_many_queries_take_constant_memory(tmp_path: Path) -> None:
    def rows(queries: int) -> Iterator[dict[str, Any]]:
        for number in range(queries):
            for attempt in range(3):
                yield row(number, attempt=attempt, use="write")

    few = Rates.of(rows(1000)).find("write", "openai/fake")
    assert few is not None
    assert (few.calls, few.calls_each) == (3000, 3.0)
    tracemalloc.start()
    many = Rates.of(rows(60_000)).find("write", "openai/fake")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert many is not None
    assert (many.calls, many.calls_each) == (180_000, 3.0)
    assert peak < 1e6


def test_an_index_that_does_not_fit_is_made_again(tmp_path: Path) -> None:
    path, index = tmp_path / "calls.jsonl", tmp_path / "calls.jsonl.index"

    def found(*numbers: int) -> list[bool]:
        ledger = Ledger(path)
        try:
            return [ledger.find(f"key-{n}") is not None for n in numbers]
        finally:
            ledger.close()

    write(path, 100)
    assert found(0, 99, 100) == [True, True, False]
    kept = index.read_bytes()
    with path.open("a") as file:
        file.write(json.dumps(row(100)) + "\n" + json.dumps(row(101))[:50])  # and a crash
    assert found(99, 100, 101) == [True, True, False]
    index.write_bytes(kept)  # an older index, as after a crash
    assert found(0, 100) == [True, True]
    index.write_bytes(b"not a database at all" * 100)
    assert found(0, 100) == [True, True]
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[50:]))  # lines were deleted by hand
    assert found(0, 49, 50, 100) == [False, False, True, True]
    path.write_text("".join([*lines[1:50], lines[0], *lines[50:]]))  # put in another order, the last one the same
    assert found(0, 1, 49, 50, 100) == [True] * 5
    index.unlink()
    assert found(0, 100) == [True, True]
    with path.open("a") as file:
        file.write('{"key": \n')
    with pytest.raises(DataError, match="not valid JSON.*delete the line"):
        Ledger(path)


@pytest.mark.parametrize("damage", [b"\0", b"\xff"])
@pytest.mark.parametrize("page", range(1, 5))
def test_an_index_with_a_spoilt_page_is_made_again(page: int, damage: bytes, tmp_path: Path) -> None:
    """The index is not synced, so a power failure may leave any page of it unwritten."""
    path, index = tmp_path / "calls.jsonl", tmp_path / "calls.jsonl.index"
    write(path, 400)
    Ledger(path).close()
    whole = index.read_bytes()
    size = 4096
    assert len(whole) == 5 * size
    spoilt = whole[: page * size] + damage * size + whole[(page + 1) * size :]
    index.write_bytes(spoilt)
    ledger = Ledger(path)
    assert all(ledger.find(f"key-{n}") for n in range(400))
    ledger.keep(row(400))  # type: ignore[arg-type]
    ledger.close()
    ledger = Ledger(path)
    assert all(ledger.find(f"key-{n}") for n in range(401))
    ledger.close()
    index.write_bytes(spoilt)
    ledger = Ledger(path)
    for number in range(401, 801):
        ledger.keep(row(number))  # type: ignore[arg-type]
    ledger.close()  # writes into the index without having looked for anything
    ledger = Ledger(path)
    assert all(ledger.find(f"key-{n}") for n in range(801))
    ledger.close()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"[1]", "no JSON object"), (b'{"answer": "a"}', "no call"), (b'{"key": "k"}', "no call"), (b"{", "not valid JSON"),
        (b'{"key": "\xe9"}', "not valid JSON"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_call_is_named_by_its_number(line: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    write(path, 3)
    path.write_bytes(path.read_bytes() + line + b"\n" + json.dumps(row(9)).encode() + b"\n")
    with pytest.raises(DataError, match=rf"{said}.*calls.jsonl:4\); delete the line"):
        Ledger(path)


def test_a_ledger_with_holes_of_zero_bytes_keeps_its_calls(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    write(path, 2)
    path.write_bytes(path.read_bytes() + b"\0" * 600 + b"\n" + b"\0" * 9 + json.dumps(row(2)).encode())
    ledger = Ledger(path)
    assert all(ledger.find(f"key-{number}") for number in range(3))
    ledger.keep(row(3))  # type: ignore[arg-type]
    ledger.close()
    assert [found["key"] for found in read_rows(path)] == [f"key-{number}" for number in range(4)]


def test_a_row_whose_line_cannot_be_printed_is_found(tmp_path: Path) -> None:
    def printed(row: object) -> None:
        raise BrokenPipeError

    ledger = Ledger(tmp_path / "calls.jsonl", printed)
    with pytest.raises(BrokenPipeError):
        ledger.keep(row(1))  # type: ignore[arg-type]
    ledger._on_row = None
    ledger.keep(row(2))  # type: ignore[arg-type]
    ledger.close()
    ledger = Ledger(tmp_path / "calls.jsonl")
    assert ledger.find("key-1") and ledger.find("key-2")
    ledger.close()


@pytest.mark.parametrize("number", [errno.ESTALE, errno.ENOTCONN, errno.EACCES, errno.ENOSPC])
def test_a_ledger_that_cannot_be_written_ends_the_run(
    number: int, tmp_path: Path, settings: Callable[..., list[str]], fake_lm: Callable[..., FakeLM],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def fails(self: object, row: object) -> None:
        raise OSError(number, os.strerror(number))

    server, keep = fake_lm(), Log.append
    monkeypatch.setattr(
        Log, "append", lambda log, row: fails(log, row) if log.path.name == "calls.jsonl" else keep(log, row)
    )
    with pytest.raises((BackendError, OSError), match=os.strerror(number)):
        run(tmp_path / "run", settings(server.url, **{"lm.concurrency": 2}))
    assert len(server.requests) <= 4  # nothing is paid for that cannot be kept


def test_only_answers_are_found(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "calls.jsonl")
    ledger.keep(row(1, error="down", finish_reason="error"))
    ledger.keep(row(2, error="all tokens went into thinking", finish_reason="length"))
    assert ledger.find("key-1") is None
    assert ledger.find("key-2") is not None
    ledger.keep(row(1))
    assert ledger.find("key-1") is not None
    ledger.close()


def run(folder: Path, values: list[str]) -> Any:
    return Run(folder, load_config(None, values), Progress(quiet=True)).until("generate")


@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
def test_a_run_is_replayed_on_another_machine_with_the_server_down(
    packed: str,
    tmp_path: Path,
    settings: Callable[..., list[str]],
    fake_lm: Callable[..., FakeLM],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused = [True]

    def answer(messages: list[dict[str, Any]]) -> tuple[int, str]:
        if refused and "close a socket" in str(messages):
            return 400, "content policy"
        return write_negative(messages)

    server = fake_lm(answer)
    more = {"generate.pairs": 12, "judge.use": "auto"}
    run(tmp_path / "one", settings(server.url, **more))
    server.stop()
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setenv("SYNEG_HOME", str(tmp_path / "other"))
    ledger = tmp_path / "published.jsonl"
    shutil.copy(tmp_path / "one" / "ledger" / "calls.jsonl", ledger)
    if packed:
        plain, ledger = ledger.read_bytes(), tmp_path / f"published.jsonl{packed}"
        with pyarrow.CompressedOutputStream(str(ledger), {".gz": "gzip", ".zst": "zstd"}[packed]) as file:
            file.write(plain)
    elsewhere = settings("http://127.0.0.1:9/v1", **more, **{"executor.replay": ledger})
    run(tmp_path / "two", elsewhere)
    first, second = (list(read_rows(tmp_path / name / "negatives.jsonl")) for name in ("one", "two"))
    assert [r["text"] for r in first] == [r["text"] for r in second]
    assert first
    assert not list(tmp_path.glob("*.index"))
    with pytest.raises(
        BackendError,
        match=r"no answer to this prompt: \w+ of 'openai/fake' for query '.+', attempt 1, prompt [0-9a-f]{12} .*--replay",
    ):
        run(tmp_path / "three", [*elsewhere, "lm.temperature=0.1"])
    with pytest.raises(DataError, match="no such ledger"):
        run(tmp_path / "four", [*elsewhere, f"executor.replay={tmp_path / 'none'}"])


@pytest.mark.parametrize("ending", [".gz", ".zst", ".bz2", ".xz", ".GZ"])
def test_a_packed_ledger_is_read(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"calls.jsonl{ending}"
    path.write_bytes(pack((json.dumps(row(1)) + "\n").encode(), ending.lower()))
    recorded = Recorded(path)
    found = recorded.find({"key": "", "query_id": "", "attempt": 0, "model": "openai/fake@elsewhere", "prompt": "p1"})
    recorded.close()
    assert found == row(1)


@pytest.mark.parametrize("ending", [".gz", ".zst", ".bz2", ".xz"])
def test_a_ledger_that_is_not_what_its_name_says_is_refused(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"calls.jsonl{ending}"
    path.write_text("{}")
    with pytest.raises(DataError, match=rf"broken \{ending} file"):
        Recorded(path)


def test_a_ledger_holds_the_calls_that_an_older_run_made_for_it(
    tmp_path: Path, settings: Callable[..., list[str]], fake_lm: Callable[..., FakeLM]
) -> None:
    server = fake_lm()
    values = settings(server.url, **{"generate.pairs": 4, "generate.program": "auto"})
    run(tmp_path / "one", values)
    run(tmp_path / "two", values)
    rows = [list(read_rows(tmp_path / name / "ledger" / "calls.jsonl")) for name in ("one", "two")]
    assert {r["key"] for r in rows[0]} == {r["key"] for r in rows[1]}
    assert sum(str(r["query_id"]).startswith("strength") for r in rows[1]) == 8


def test_an_index_that_is_none_is_closed_before_it_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, opened, connect = tmp_path / "calls.jsonl", list[sqlite3.Connection](), sqlite3.connect
    write(path, 3)
    path.with_name("calls.jsonl.index").write_bytes(b"no database" * 100)
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **more: opened.append(connect(*args, **more)) or opened[-1])
    ledger = Ledger(path)
    assert ledger.find("key-2") == row(2) and len(opened) == 2
    with pytest.raises(sqlite3.ProgrammingError, match="closed database"):  # an open file cannot be removed on Windows
        opened[0].execute("SELECT 1")
    ledger.close()
