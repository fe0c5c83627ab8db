"""Tokens a second of the embedded LLM: through the whole stack, and by the bare runtime with the same requests.

    python benchmarks/embedded_lm.py --pairs 12 --slots 1,4 --turns 3

The bare runtime is the llama.cpp server of xllamacpp, called over plain HTTP. The requests are those of `single_prompt`
for pairs of python-docs, at temperature 0, so that both ways write the same text. Each turn starts a new server, and
the order of the ways changes from turn to turn. The import of litellm (5 s, once in a run) is not timed. For each
number of slots (prompts that the server works on at once) a table shows the medians over turns, and the ratio to the
bare runtime within a turn with its least and most.
"""

from __future__ import annotations

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import json
import tempfile
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import dspy
import litellm
from turns import Figures, save, sizes, table

from syneg.core.config import CollectionConfig, Config, GenerateConfig, LMConfig
from syneg.core.errors import DeferredError
from syneg.core.fetch import asset_named, fetch
from syneg.core.records import HardNegative
from syneg.core.threads import in_order
from syneg.data.collection import load_collection
from syneg.data.tasks import Task
from syneg.llm.batch_files import Pending
from syneg.llm.calls import purpose
from syneg.llm.engine import Terms
from syneg.llm.ledger import Ledger
from syneg.llm.lms import LanguageModel
from syneg.llm.local_server import LocalServer
from syneg.negatives.assignment import Assignment
from syneg.negatives.generation import answers_of
from syneg.programs import load_program


class Asking:
    """Generates for some pairs of python-docs, with one attempt each."""

    def __init__(self, model: str, pairs: int) -> None:
        self.collection = load_collection(CollectionConfig(), seed=0)
        self.pairs = self.collection.pairs("train")[:pairs]
        self.model = model

    def config(self, slots: int) -> LMConfig:
        return LMConfig(model=self.model, concurrency=slots, temperature=0.0, max_tokens=160)

    def ask(self, writer: LanguageModel) -> None:
        settings = GenerateConfig(attempts=1, passage_words=100)
        config, task = Config(generate=settings), Task("Given a question, find the passage that answers it.")
        program = load_program("single_prompt")

        def work(place: int) -> list[HardNegative]:
            ask, query_id = assignment.ask(place), self.pairs[place].query_id
            with dspy.context(lm=writer.lm, adapter=writer.adapter), purpose(query_id) as current:
                return answers_of(program, ask, current, writer.identity)

        assignment = Assignment(self.pairs, {}, task, config, "single_prompt", program)
        in_order(work, range(len(self.pairs)), writer.engine.config.concurrency)

    def requests(self, folder: Path) -> list[dict[str, Any]]:
        """The requests of the stack, as bodies for the bare server."""
        ledger = Ledger(folder / "none.jsonl")
        pending = Pending(folder)
        writer = LanguageModel.open(self.config(1), ledger, terms=Terms(pending=pending))
        try:
            self.ask(writer)
        except DeferredError:
            pass
        finally:
            ledger.close()
        pending.export(folder / "requests.jsonl")
        return [json.loads(line)["body"] for line in (folder / "requests.jsonl").read_text().splitlines()]


def bare(asking: Asking, bodies: list[dict[str, Any]], slots: int, folder: Path) -> Figures:
    """Send the requests to the bare server."""
    gguf = fetch(asking.model) / next(iter(asset_named(asking.model).files))
    with LocalServer(gguf, slots=slots) as server:

        def post(body: dict[str, Any]) -> int:
            request = urllib.request.Request(
                f"{server.url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=600) as answer:
                return int(json.load(answer)["usage"]["completion_tokens"])

        start = time.monotonic()
        with ThreadPoolExecutor(slots) as pool:
            tokens = sum(pool.map(post, bodies))
        return figures(tokens, time.monotonic() - start)


def stack(asking: Asking, bodies: list[dict[str, Any]], slots: int, folder: Path) -> Figures:
    """Generate through DSPy, litellm, flow and ledger."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        ledger = Ledger(Path(own) / "calls.jsonl")
        writer = LanguageModel.open(asking.config(slots), ledger)
        writer.engine.endpoint.connected()  # the server, as for the other way, outside the clock
        start = time.monotonic()
        asking.ask(writer)
        seconds = time.monotonic() - start
        writer.close()
        ledger.close()
        rows = [json.loads(line) for line in (Path(own) / "calls.jsonl").read_text().splitlines()]
    return figures(sum(row.get("output_tokens", 0) for row in rows), seconds)


def figures(tokens: int, seconds: float) -> Figures:
    return {"tokens_a_s": tokens / seconds, "tokens": tokens, "seconds": seconds}


WAYS: list[Callable[..., Figures]] = [bare, stack]


@click.command()
@click.option("--model", default="local/qwen2.5-coder-1.5b", show_default=True)
@click.option("--pairs", default=12, show_default=True)
@click.option("--slots", default="1,4", show_default=True, callback=sizes)
@click.option("--turns", default=2, show_default=True)
@click.option("--quick", is_flag=True, help="the smallest model, two pairs, one turn")
@click.option("--json", "path", type=click.Path(path_type=Path))
def main(model: str, pairs: int, slots: list[int], turns: int, quick: bool, path: Path | None) -> None:
    if quick:
        model, pairs, slots, turns = "local/smollm2-135m", 2, [1], 1
    litellm.suppress_debug_info = True
    asking, everything = Asking(model, pairs), dict[str, list[Figures]]()
    with tempfile.TemporaryDirectory() as name:
        bodies = asking.requests(Path(name))
        for width in slots:
            measured: dict[str, list[Figures]] = {way.__name__: [] for way in WAYS}
            for turn in range(turns):
                for way in WAYS[:: 1 if turn % 2 == 0 else -1]:
                    measured[way.__name__].append(way(asking, bodies, width, Path(name)))
            print(f"\n{model}, {len(bodies)} requests, {width} slots, {turns} turns")
            print(table(measured, "bare"), flush=True)
            everything |= {f"{way}, {width} slots": rows for way, rows in measured.items()}
    save(path, "embedded_lm", {"model": model, "pairs": pairs, "slots": slots}, everything)


if __name__ == "__main__":
    main()
