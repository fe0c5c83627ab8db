"""Calls a second of five ways to generate, with the same server on this machine, program, prompts and parallel calls.

    python benchmarks/lm_overhead.py --calls 640 --workers 32 --latency 0.1
    python benchmarks/lm_overhead.py --ray 2                              also over litellm in two Ray workers

The ways are a plain litellm loop in threads (the rendered prompts, no parsing), DSPy's program in threads,
dspy.Parallel, and the whole stack of a run (DSPy, ledger synced to disk, budget, flow) over litellm (the default) and
over DSPy's native client (lm.engine=native). A plain DSPy loop, one call after the other, is measured over fewer calls.
Printed are calls a second, their share of what the latency allows (workers / latency), the milliseconds of a core that
a call takes in this process, and the ratio to the litellm loop within a turn.
"""

from __future__ import annotations

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ.setdefault("OPENAI_API_KEY", "none")

import itertools
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import dspy
import litellm
from made import answering, corpus
from turns import Figures, save, table

from syneg.core.config import ExecutorConfig, LMConfig
from syneg.llm.budget import Budget
from syneg.llm.calls import in_threads, purpose
from syneg.llm.engine import Terms
from syneg.llm.ledger import Ledger
from syneg.llm.lms import LanguageModel
from syneg.negatives.generation import answers_of
from syneg.programs import load_program
from syneg.run.cluster import Cluster

Work = Callable[[list[dict[str, Any]], int], None]
"""Write a negative for each pair, with so many calls under way."""

BASE, LOOP = "litellm", "DSPy loop, one by one"


class Pairs:
    """New pairs each time, so that the ledger has no answers for them."""

    def __init__(self) -> None:
        self._texts = list(corpus(1000).values())
        self._numbers = itertools.count()

    def take(self, count: int) -> list[dict[str, Any]]:
        """Inputs of a program for the next `count` pairs."""
        texts, numbers = self._texts, itertools.islice(self._numbers, count)
        return [{"query": f"n{n} {texts[n % 1000][:60]}", "positive": texts[(n + 1) % 1000]} for n in numbers]


def litellm_loop(url: str) -> Work:
    messages = dspy.ChatAdapter().format(
        load_program("single_prompt").write.signature, [], {"task": "", "query": "Q", "positive": "P"}
    )
    system, shown = (str(message["content"]) for message in messages) if isinstance(messages, list) else ("", "Q P")

    def ask(pair: dict[str, Any]) -> object:
        user = shown.replace("Q", pair["query"], 1).replace("P", pair["positive"], 1)
        texts = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        return litellm.completion(model="openai/made", api_base=url, messages=texts, max_tokens=300)

    def work(pairs: list[dict[str, Any]], workers: int) -> None:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(ask, pairs))

    return work


def dspy_threads(lm: dspy.LM) -> Work:
    program = load_program("single_prompt")

    def ask(pair: dict[str, Any]) -> object:
        with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
            return program(**pair)

    def work(pairs: list[dict[str, Any]], workers: int) -> None:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(ask, pairs))

    return work


def dspy_parallel(lm: dspy.LM) -> Work:
    program = load_program("single_prompt")

    def work(pairs: list[dict[str, Any]], workers: int) -> None:
        with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
            jobs = [(program, dspy.Example(**pair).with_inputs("query", "positive")) for pair in pairs]
            dspy.Parallel(num_threads=workers, disable_progress_bar=True)(jobs)

    return work


def ours(writer: LanguageModel) -> Work:
    program = load_program("single_prompt")

    def work(pairs: list[dict[str, Any]], workers: int) -> None:
        def write(place: int) -> int:
            ask = {**pairs[place], "attributes": ({},)}
            with dspy.context(lm=writer.lm, adapter=writer.adapter), purpose(f"q{place}") as current:
                (negative,) = answers_of(program, ask, current, writer.identity)
            assert negative.text, negative.reasoning
            return 1

        assert sum(done for _, done in in_threads(write, len(pairs), workers)) == len(pairs)

    return work


def measure(work: Work, pairs: list[dict[str, Any]], workers: int, latency: float) -> Figures:
    cpu, start = time.process_time(), time.monotonic()
    work(pairs, workers)
    rate = len(pairs) / (time.monotonic() - start)
    return {
        "calls_a_s": rate, "of_ideal": rate * latency / workers,
        "core_ms_a_call": 1000 * (time.process_time() - cpu) / len(pairs),
    }  # fmt: skip


@click.command()
@click.option("--calls", default=640, show_default=True)
@click.option("--workers", default=32, show_default=True)
@click.option("--latency", default=0.1, show_default=True, help="seconds of the server")
@click.option("--turns", default=3, show_default=True)
@click.option("--ray", "processes", default=0, help="also over litellm in so many Ray workers on this machine")
@click.option("--quick", is_flag=True, help="few calls, one turn")
@click.option("--json", "path", type=click.Path(path_type=Path))
def main(calls: int, workers: int, latency: float, turns: int, processes: int, quick: bool, path: Path | None) -> None:
    if quick:
        calls, workers, turns = 64, 16, 1
    litellm.suppress_debug_info = True
    with ExitStack() as stack:
        url = stack.enter_context(answering(latency))
        ways = opened(stack, url, workers, processes)
        pairs = Pairs()
        for work in ways.values():
            work(pairs.take(workers), workers)  # connections and lazy imports
        measured: dict[str, list[Figures]] = {name: [] for name in (*ways, LOOP)}
        for turn in range(turns):
            for name in list(ways)[:: 1 if turn % 2 == 0 else -1]:
                measured[name].append(measure(ways[name], pairs.take(calls), workers, latency))
            one_by_one = measure(ways["DSPy in threads"], pairs.take(max(8, calls // workers)), 1, latency)
            measured[LOOP].append({**one_by_one, "of_ideal": one_by_one["calls_a_s"] * latency / workers})
    print(f"{calls} calls, {workers} under way, {latency} s each: {workers / latency:.0f} a second are ideal")
    for name, rows in measured.items():
        print(table({BASE: measured[BASE], name: rows}, BASE) + "\n" if name != BASE else "", end="")
    save(path, "lm_overhead", {"calls": calls, "workers": workers, "latency": latency}, measured)


def opened(stack: ExitStack, url: str, workers: int, processes: int) -> dict[str, Work]:
    """The ways by name; what they hold open is closed with `stack`."""
    ledger = Ledger(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "calls.jsonl")
    stack.callback(ledger.close)
    settings = {"model": "openai/made", "api_base": url, "concurrency": workers, "max_rpm": 10**7}
    terms = Terms(budget=Budget(calls=10**6, tokens=10**9))
    plain = dspy.LM("openai/made", api_base=url, cache=False, engine="litellm", max_tokens=300)
    ways = {BASE: litellm_loop(url), "DSPy in threads": dspy_threads(plain), "dspy.Parallel": dspy_parallel(plain)}
    for engine in ("litellm", "native"):
        writer = LanguageModel.open(LMConfig(**settings, engine=engine), ledger, terms=terms)
        stack.callback(writer.close)
        ways["syneg-dspy" if engine == "litellm" else f"syneg-dspy, {engine}"] = ours(writer)
    if processes:
        cluster = Cluster(ExecutorConfig(use="ray", workers=processes))
        stack.callback(cluster.close)
        each = LMConfig(**{**settings, "concurrency": -(-workers // processes)})
        writer = LanguageModel.open(each, ledger, connect=cluster.lm, terms=terms)
        stack.callback(writer.close)
        ways[f"syneg-dspy, {processes} Ray workers"] = ours(writer)
    return ways


if __name__ == "__main__":
    main()
