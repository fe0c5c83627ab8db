"""The command line in processes of their own that begin at once: they are forked from a server that has imported what is
slow to import (Python's forkserver), which a fresh interpreter takes 5-10 s for.

    started = Started(["mine", "--run", "r"], tmp_path)
    started.kill()          or  started.wait() → 0, started.stdout, started.stderr

With `rank` it is one process of a training on several, as torchrun starts them (`python -m syneg.training FOLDER …`).
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Sequence
from multiprocessing import forkserver
from pathlib import Path
from unittest.mock import patch

_SLOW = ["dspy", "litellm", "torch", "sentence_transformers", "datasets", "syneg.run.pipeline", "syneg.run.workspace",
         "syneg.run.experiment", "syneg.run.compile", "syneg.training.trainer", "syneg.cli.main"]  # fmt: skip
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(_SLOW)


class Started:
    """One command, the leader of a process group of its own."""

    def __init__(
        self, args: Sequence[str], cwd: Path, *, file_limit: int = 0, rank: dict[str, str] | None = None
    ) -> None:
        """`file_limit` is the most bytes that a file may have, in place of a full disk; `rank` is what torchrun sets."""
        self._texts = [cwd / f".{name}-{os.urandom(4).hex()}" for name in ("out", "err")]
        paths = [str(path) for path in self._texts]
        env = {**os.environ, **(rank or {})}
        # the server would put the working directory first, where `syneg` is the checkout and not what is installed
        with patch.dict(os.environ, PYTHONSAFEPATH="1"):
            forkserver.ensure_running()
        self._process = _processes.Process(target=_run, args=([*args], str(cwd), env, paths, file_limit))
        self._process.start()

    @property
    def running(self) -> bool:
        return self._process.is_alive()

    def send(self, number: int) -> None:
        """Send a signal to the process alone."""
        os.kill(self._process.pid or 0, number)

    def kill(self) -> None:
        """Kill the process and whatever it has started."""
        os.killpg(self._process.pid or 0, signal.SIGKILL)
        self._process.join()

    def wait(self, timeout: float = 120) -> int:
        """Its exit code."""
        self._process.join(timeout)
        assert self._process.exitcode is not None, "it does not end"
        return self._process.exitcode

    @property
    def stdout(self) -> str:
        return self._texts[0].read_text()

    @property
    def stderr(self) -> str:
        return self._texts[1].read_text()


def ranks(count: int) -> list[dict[str, str]]:
    """What torchrun puts into the environment of each of `count` processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
             "OMP_NUM_THREADS": "1"}  # fmt: skip
    return [{**world, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


def _run(args: list[str], cwd: str, env: dict[str, str], paths: list[str], file_limit: int) -> None:
    gc.freeze()  # what the server has imported is no garbage
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for number, path in enumerate(paths, 1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
    # as in a terminal; a job in the background may be started with these ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if file_limit:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as in an interpreter that Python starts
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    if "RANK" in env:
        from syneg.training.__main__ import main as train

        train([Path(name) for name in args])
        return
    sys.argv = ["syneg-dspy", *args]
    from syneg.cli.main import main

    main()
