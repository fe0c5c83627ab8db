"""What a call costs on top of litellm: the same requests to one loopback server, in threads, by four ways, side by
side.

    python benchmarks/lm_overhead.py --calls 640 --workers 32 --latency 0.1

Printed are calls a second of a plain litellm loop, of DSPy over litellm, and of the whole stack (DSPy, ledger with a
sync to disk for each call, budget, flow) over litellm, over DSPy's native client (lm.engine=native) and, with --ray,
over litellm in worker processes, in turns, and their share of what the latency allows (workers / latency).
"""

from __future__ import annotations

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ.setdefault("OPENAI_API_KEY", "none")

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import dspy
import litellm
from made import answering

from syneg.core.config import ExecutorConfig, LMConfig
from syneg.llm.budget import Budget
from syneg.llm.engine import Terms
from syneg.llm.ledger import Ledger
from syneg.llm.lms import LanguageModel
from syneg.run.cluster import Cluster


def rate(ask: Callable[[int], object], calls: int, workers: int) -> float:
    """Calls a second."""
    start = time.monotonic()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(ask, range(calls)))
    return calls / (time.monotonic() - start)


@click.command()
@click.option("--calls", default=640, show_default=True)
@click.option("--workers", default=32, show_default=True)
@click.option("--latency", default=0.1, show_default=True, help="seconds of the server")
@click.option("--turns", default=3, show_default=True)
@click.option("--ray", "processes", default=0, help="also over litellm in so many Ray workers on this machine")
@click.option("--quick", is_flag=True, help="few calls, one turn")
def main(calls: int, workers: int, latency: float, turns: int, processes: int, quick: bool) -> None:
    if quick:
        calls, workers, turns = 64, 16, 1
    with answering(latency) as url:
        measure(url, calls, workers, turns, processes, workers / latency)


def measure(url: str, calls: int, workers: int, turns: int, processes: int, ideal: float) -> None:
    litellm.suppress_debug_info = True
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "calls.jsonl")
        settings = {"model": "openai/fake", "api_base": url, "concurrency": workers, "max_rpm": 10**6}
        terms = Terms(budget=Budget(calls=10**6, tokens=10**9))
        writers = {
            engine: LanguageModel.open(LMConfig(**settings, engine=engine), ledger, terms=terms)
            for engine in ("litellm", "native")
        }
        cluster = Cluster(ExecutorConfig(use="ray", workers=processes)) if processes else None
        if cluster:
            each = LMConfig(**{**settings, "concurrency": -(-workers // processes)})
            writers["Ray"] = LanguageModel.open(each, ledger, connect=cluster.lm, terms=terms)
        plain = dspy.LM("openai/fake", api_base=url, cache=False, engine="litellm")
        turn = [0]

        def bare(i: int) -> object:
            messages = [{"role": "user", "content": f"{turn[0]}.{i}"}]
            return litellm.completion(model="openai/fake", api_base=url, messages=messages)

        ways: dict[str, Callable[[int], object]] = {
            "litellm": bare, "DSPy": lambda i: plain(f"{turn[0]}.{i}"), "syneg-dspy": lambda i: writers["litellm"].lm(f"{turn[0]}.{i}"),
            "native client": lambda i: writers["native"].lm(f"{turn[0]}!{i}"),
        }  # fmt: skip
        if cluster:
            ways["Ray"] = lambda i: writers["Ray"].lm(f"{turn[0]}?{i}")
        found: dict[str, list[float]] = {name: [] for name in ways}
        for ask in ways.values():
            rate(ask, workers, workers)  # connections and lazy imports
        for turn[0] in range(1, turns + 1):
            for name, ask in ways.items():
                found[name].append(rate(ask, calls, workers))
        for writer in writers.values():
            writer.close()
        if cluster:
            cluster.close()
        ledger.close()
    least = sum(found["litellm"])
    print(f"{'':14s} {'calls/s':>8s} {'of ideal':>9s} {'of litellm':>11s}")
    for name, rates in found.items():
        mean = sum(rates) / len(rates)
        print(f"{name:14s} {mean:8.0f} {mean / ideal:9.2f} {sum(rates) / least:11.2f}")


if __name__ == "__main__":
    main()
