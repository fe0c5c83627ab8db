from __future__ import annotations

import errno
import itertools
import json
import os
import platform
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syneg.core.errors import DataError
from syneg.core.storage import Log, read_rows, write_json, write_text
from syneg.retrieval.embeddings import EmbeddingStore
from syneg.run.folder import RunLock


@given(st.lists(st.text(max_size=20), min_size=1, max_size=8), st.integers(0, 400))
def test_a_log_cut_anywhere_keeps_every_whole_row(texts: list[str], cut: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.jsonl"
        log = Log(path)
        for text in texts:
            log.append({"t": text})
        log.close()
        whole = path.read_bytes()[:cut]
        path.write_bytes(whole)
        log = Log(path)
        rows = whole.count(b"\n") + whole.endswith(b"}")  # a whole row needs no line end
        assert [row["t"] for row in read_rows(path)] == texts[:rows]
        log.append({"t": "after"})
        log.close()
        assert [row["t"] for row in read_rows(path)][-1] == "after"


@pytest.mark.parametrize("hole", [b"\0" * 5000 + b"\n", b"\n", b" \r\n", b"\0" * 7])
def test_empty_lines_and_zero_bytes_of_a_power_failure_are_passed_over(hole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for before, after in ((b"", b""), (b'{"t": 1}\n', b'{"t": 2}\n')):
        path.write_bytes(before + hole + after)
        assert [row["t"] for row in read_rows(path)] == [1, 2][: 2 * bool(before)]
        log = Log(path)
        log.append({"t": 3})
        log.close()
        assert [row["t"] for row in read_rows(path)][-1] == 3


@pytest.mark.parametrize("line", [b"[1]", b"1", b"null", b'"text"'])
def test_a_line_without_an_object_is_named(line: bytes, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_bytes(b'{"t": 1}\n' + line + b"\n")
    with pytest.raises(DataError, match=r"no JSON object \(.*log.jsonl:2\)"):
        list(read_rows(tmp_path / "log.jsonl"))


def test_a_full_disk_leaves_no_half_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(tmp_path / "log.jsonl")
    log.append({"n": 1})
    before = (tmp_path / "log.jsonl").read_bytes()

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            log.append({"n": 2})
    log.close()
    assert (tmp_path / "log.jsonl").read_bytes() == before


def test_rows_of_many_threads_share_a_sync_and_are_on_disk_when_append_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced, syncs, fsync = tmp_path / "log.jsonl", threading.Event(), [0], os.fsync

    def slow(fd: int) -> None:
        syncs[0] += 1
        if syncs[0] == 1:
            synced.wait(60)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", slow)
    log = Log(path)

    def append(number: int) -> bool:
        start, length = log.append({"n": number})
        return json.loads(path.read_bytes()[start : start + length]) == {"n": number}

    with ThreadPoolExecutor(16) as pool:
        jobs = [pool.submit(append, number) for number in range(16)]
        deadline = time.monotonic() + 60
        while len(log._batch.lines) < 15 and time.monotonic() < deadline:
            time.sleep(0.001)
        synced.set()
        assert all(job.result() for job in jobs)
    log.close()
    assert syncs[0] == 2
    assert sorted(row["n"] for row in read_rows(path)) == list(range(16))


def test_every_thread_of_a_batch_hears_of_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, begun = Log(tmp_path / "log.jsonl"), threading.Event()
    log.append({"n": 0})

    def full(fd: int) -> None:
        deadline = time.monotonic() + 60
        while not begun.is_set() and len(log._batch.lines) < 3 and time.monotonic() < deadline:
            time.sleep(0.001)
        begun.set()
        raise OSError(errno.ENOSPC, "No space left on device")

    with ThreadPoolExecutor(4) as pool, monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        jobs = [pool.submit(log.append, {"n": number}) for number in (1, 2, 3, 4)]
        assert [type(job.exception(10)) for job in jobs] == [OSError] * 4
    log.append({"n": 5})
    log.close()
    assert [row["n"] for row in read_rows(tmp_path / "log.jsonl")] == [0, 5]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        with pytest.raises(OSError, match="full"):
            write_text(path, "half")
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_two_processes_on_one_run_folder(tmp_path: Path) -> None:
    for _ in range(2):  # the second names the process once, too
        holder = rf"^another syneg-dspy \(process {os.getpid()} on {platform.node()}\) works in this run folder"
        with RunLock(tmp_path), pytest.raises(DataError, match=holder):
            RunLock(tmp_path)


def test_a_file_system_without_locks_is_used_unguarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(file: object, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with RunLock(tmp_path / "run"):
        store = EmbeddingStore(tmp_path / "space")
        store.add(["a"], np.ones((1, 2), np.float32))
        assert store.missing(["a", "b"]) == [1]


def test_a_mistyped_name_leaves_no_folder(tmp_path: Path) -> None:
    def fails(name: str, *more: str) -> None:
        with RunLock(tmp_path / name):
            for file in ("bad_rows.jsonl", "config.toml", "events.jsonl", "manifest.json", *more):
                (tmp_path / name / file).touch()
            raise DataError("no model of this name")

    for name, more in (("typo", ()), ("worked", ("mined.jsonl",))):
        with pytest.raises(DataError):
            fails(name, *more)
    assert [path.name for path in tmp_path.iterdir()] == ["worked"]


def test_embeddings_come_back_and_are_not_asked_for_twice(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path)
    texts = ["a", "b", "a", "c"]
    assert store.missing(texts) == [0, 1, 3]
    vectors = np.arange(9, dtype=np.float32).reshape(3, 3)
    store.add(["a", "b", "c"], vectors)
    again = EmbeddingStore(tmp_path)
    assert again.missing([*texts, "d"]) == [4]
    assert again.take(["c", "a"]).tolist() == [[6, 7, 8], [0, 1, 2]]


def test_a_folder_that_is_slow_to_list_is_listed_rarely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[Path] = []
    plain, clock = os.scandir, itertools.count()
    monkeypatch.setattr("os.scandir", lambda folder: [listed.append(folder), plain(folder)][1])
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))  # each look at the clock takes a second
    store, other = EmbeddingStore(tmp_path / "space"), EmbeddingStore(tmp_path / "space")
    for number in range(60):
        assert store.missing([f"text {number}"]) == [0]
        store.add([f"text {number}"], np.ones((1, 4), np.float32))
    assert 1 <= len(listed) <= 4
    assert other.missing([f"text {number}" for number in range(60)]) == []


def test_a_shard_of_another_process_is_found_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 1.0)  # listing takes no time
    store, other = EmbeddingStore(tmp_path / "space"), EmbeddingStore(tmp_path / "space")
    for number in range(5):
        assert store.missing([f"text {number}"]) == [0]
        other.add([f"text {number}"], np.ones((1, 4), np.float32))
        assert store.missing([f"text {number}"]) == []


def test_a_shard_cut_by_a_crash_is_ignored(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path)
    store.add(["a"], np.ones((1, 3)))
    store.add(["b"], np.ones((1, 3)))
    keys = sorted(tmp_path.glob("*.keys"))
    keys[0].write_bytes(keys[0].read_bytes()[:7])
    assert len(EmbeddingStore(tmp_path).missing(["a", "b"])) == 1
