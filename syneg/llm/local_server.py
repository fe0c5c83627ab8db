"""Run the embedded LLM: a child process serves a GGUF file on loopback with OpenAI's protocol (llama.cpp).

    with LocalServer(Path("qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"), slots=4) as server:
        server.url → "http://127.0.0.1:43817"

It is a separate process because torch and llama.cpp need opposite OpenMP settings: spinning threads slow torch 10-100
times on shared cores, and `OMP_WAIT_POLICY=PASSIVE` costs the LLM 40 % of its speed. The child ends when its standard
input closes, so it always ends with its parent. llama.cpp enforces JSON schemas while decoding.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path

from syneg.core.errors import BackendError


def cores() -> int:
    """The number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class LocalServer:
    """Starts the child when constructed. `slots` calls run in parallel, each with `context` tokens.

    Raises BackendError if the child does not start.
    """

    def __init__(self, gguf: Path, *, slots: int, context: int = 2048, log: Path | None = None) -> None:
        if importlib.util.find_spec("xllamacpp") is None:
            raise BackendError("the embedded LLM is not installed", todo="pip install 'syneg-dspy[local]'")
        command = [
            sys.executable,
            "-m",
            "syneg.llm.local_server",
            str(gguf),
            "--slots",
            str(slots),
            "--context",
            str(context),
        ]
        environment = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS")}
        environment["GOMP_SPINCOUNT"] = "1000"
        self._slots = slots
        self._states = tempfile.TemporaryDirectory(prefix="syneg-slots-")
        command += ["--states", f"{self._states.name}{os.sep}"]
        with log.open("ab") if log else open(os.devnull, "wb") as errors:  # noqa: PTH123 (devnull)
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                start_new_session=True,
            )
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            code = self._child.wait()
            self.stop()
            raise BackendError(
                f"the embedded LLM did not start (exit {code})",
                where=str(log or gguf),
                todo="see the log; is there enough memory?",
            )
        self.url: str = json.loads(line)["url"]

    @property
    def alive(self) -> bool:
        """Whether the child runs."""
        return self._child.poll() is None

    def share_prefix(self) -> None:
        """Copy the state of the fullest slot to all others, so that they need not read the common start of the prompts.

        The prompts of a program share instructions and demos. A 1.5 B model takes 10 s per slot to read them.
        """
        saved = {slot: self._slot(slot, "save", f"{slot}.bin") for slot in range(self._slots)}
        fullest = max(saved, key=lambda slot: saved[slot])
        if saved[fullest]:
            for slot in saved:
                if slot != fullest:
                    self._slot(slot, "restore", f"{fullest}.bin")

    def _slot(self, slot: int, action: str, filename: str) -> int:
        """Save or restore the state of a slot. Returns the number of saved tokens; 0 if the server fails."""
        request = urllib.request.Request(
            f"{self.url}/slots/{slot}?action={action}",
            json.dumps({"filename": filename}).encode(),
            {"content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(json.load(answer).get("n_saved", 0))
        except OSError:
            return 0  # without the copy the calls are only slower

    def stop(self) -> None:
        """End the child; safe to call twice."""
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe:
                pipe.close()
        self._states.cleanup()

    def __enter__(self) -> LocalServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def _serve() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("gguf")
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--states", default="")
    args = parser.parse_args()
    answers = os.dup(1)
    os.dup2(2, 1)  # prints of the library go to the log, so that the parent reads only our line
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = args.gguf
    params.n_ctx = args.context * args.slots  # llama.cpp divides the context among the slots
    params.n_parallel = args.slots
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = cores()
    params.verbosity = 0
    params.slot_save_path = args.states
    params.endpoint_slots = True
    params.cache_ram_mib = 256  # cache for prompts of a program's other steps; the default is 8 GiB
    params.sampling.min_p = 0.05
    params.sampling.top_k = 40
    params.sampling.penalty_repeat = 1.05
    server = xllamacpp.Server(params)
    os.write(answers, (json.dumps({"url": server.listening_address}) + "\n").encode())
    watch = threading.Thread(target=sys.stdin.buffer.read)
    watch.start()
    watch.join()
    os._exit(0)


if __name__ == "__main__":
    _serve()
