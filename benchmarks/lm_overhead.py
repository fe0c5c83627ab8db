"""Calls a second of five ways to generate, with the same server on this machine, program, prompts and parallel calls.

    python benchmarks/lm_overhead.py --latency 0.1,0.5,2        an LM that takes 0.1, 0.5 and 2 seconds for an answer
    python benchmarks/lm_overhead.py --ray 2                    also over litellm in two Ray workers

The ways are a plain litellm loop in threads (the rendered prompts, no parsing), DSPy's program in threads,
dspy.Parallel, and the whole stack of a run (DSPy, ledger synced to disk, budget, flow) over litellm (the default) and
over DSPy's native client (lm.engine=native). A plain DSPy loop, one call after the other, is measured over fewer calls.

For each latency a table shows calls a second, their share of what the latency allows (workers / latency), the
milliseconds of a core that a call takes in this process, and the ratio of calls to the litellm loop within a turn:
medians over the turns, with the least and the most in brackets. A slow server gets fewer calls, so that an ideal client
needs ten seconds at most.
"""

from __future__ import annotations

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ.setdefault("OPENAI_API_KEY", "none")

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import dspy
import litellm
from made import answering, corpus
from options import filled
from turns import Figures, save, spread

from syneg.core.config import ExecutorConfig, LMConfig
from syneg.core.threads import in_order
from syneg.llm.budget import Budget
from syneg.llm.calls import purpose
from syneg.llm.engine import Terms
from syneg.llm.ledger import Ledger
from syneg.llm.lms import LanguageModel
from syneg.negatives.generation import answers_of
from syneg.programs import load_program
from syneg.run.cluster import Cluster

Work = Callable[[list[dict[str, Any]], int], None]
"""Write a negative for each pair, with so many calls under way."""

BASE, LOOP = "litellm", "DSPy loop, one by one"
LONGEST_S = 10.0  # of an ideal client in one turn


class Pairs:
    """New pairs each time, so that the ledger has no answers for them."""

    def __init__(self) -> None:
        self._texts = [text for _, text in corpus(1000)]
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

        assert sum(in_order(write, range(len(pairs)), workers)) == len(pairs)

    return work


def measure(work: Work, pairs: list[dict[str, Any]], workers: int, latency: float) -> Figures:
    cpu, start = time.process_time(), time.monotonic()
    work(pairs, workers)
    rate = len(pairs) / (time.monotonic() - start)
    return {
        "calls_a_s": rate, "of_ideal": rate * latency / workers,
        "core_ms_a_call": 1000 * (time.process_time() - cpu) / len(pairs),
    }  # fmt: skip


def _latencies(_: click.Context, __: click.Parameter, text: str) -> list[float]:
    return [float(seconds) for seconds in text.split(",")]


@dataclass(frozen=True)
class Options:
    """What the flags say."""

    calls: int
    workers: int
    latencies: list[float]
    turns: int
    processes: int
    quick: bool
    path: Path | None


@click.command()
@click.option("--calls", default=320, show_default=True, help="most calls of a way in a turn")
@click.option("--workers", default=32, show_default=True, help="calls under way")
@click.option(
    "--latency",
    "latencies",
    default="0.1",
    show_default=True,
    callback=_latencies,
    help="seconds of the server, several by commas",
)
@click.option("--turns", default=3, show_default=True)
@click.option("--ray", "processes", default=0, help="also over litellm in so many Ray workers on this machine")
@click.option("--quick", is_flag=True, help="few calls, one turn")
@click.option("--json", "path", type=click.Path(path_type=Path))
@filled(Options)
def main(options: Options) -> None:
    if options.quick:
        options = replace(options, calls=64, workers=16, turns=1)
    litellm.suppress_debug_info = True
    everything: dict[str, list[Figures]] = {}
    for latency in options.latencies:
        count = calls_for(latency, options.workers, options.calls)
        measured = compared(latency, options.workers, count, options.turns, options.processes)
        ideal = f"{options.workers / latency:.0f} a second are ideal"
        print(f"\n{count} calls, {options.workers} under way, {latency:g} s each: {ideal}")
        print(shown(measured), flush=True)
        everything |= {f"{name} at {latency:g} s": rows for name, rows in measured.items()}
    asked = {"calls": options.calls, "workers": options.workers, "latencies": options.latencies}
    save(options.path, "lm_overhead", asked, everything)


def calls_for(latency: float, workers: int, most: int) -> int:
    """Whole waves of `workers` calls: at most `most` calls, of which an ideal client makes the last within 10 s."""
    return max(1, min(most // workers, round(LONGEST_S / latency))) * workers


def compared(latency: float, workers: int, calls: int, turns: int, processes: int) -> dict[str, list[Figures]]:
    """Figures of each way and turn, against a new server."""
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
            few = max(4, min(calls // workers, round(LONGEST_S / latency)))
            one_by_one = measure(ways["DSPy in threads"], pairs.take(few), 1, latency)
            measured[LOOP].append({**one_by_one, "of_ideal": one_by_one["calls_a_s"] * latency / workers})
    return measured


def shown(measured: dict[str, list[Figures]]) -> str:
    """One line for each way."""
    lines = [f"{'way':32}{'calls/s':>9}{'of ideal':>22}{'core ms a call':>20}{'calls to litellm':>22}"]
    for name, rows in measured.items():
        ratios = [row["calls_a_s"] / base["calls_a_s"] for row, base in zip(rows, measured[BASE], strict=True)]
        rate = statistics.median(row["calls_a_s"] for row in rows)
        share, core = ([row[key] for row in rows] for key in ("of_ideal", "core_ms_a_call"))
        lines.append(f"{name:32}{rate:9.1f}{spread(share):>22}{spread(core, 1):>20}{spread(ratios):>22}")
    return "\n".join(lines)


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
