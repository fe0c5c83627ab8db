"""The flags that all stages share, and the setting that each stands for.

--pairs 48  →  KEYS["pairs"] = "generate.pairs" = 48
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

KEYS = {
    "dataset": "collection.dataset", "corpus": "collection.corpus", "task": "collection.task", "seed": "seed",
    "encoder": "encoder.model", "lm": "lm.model", "api_base": "lm.api_base", "program": "generate.program",
    "pairs": "generate.pairs", "per_pair": "generate.per_pair", "concurrency": "lm.concurrency", "judge": "judge.use",
    "judge_lm": "judge.model", "plan": "generate.plan", "given": "generate.given", "optimizer": "compile.optimizer", "compile_budget": "compile.calls", "reflection_lm": "compile.reflection",
    "budget_calls": "budget.calls", "budget_tokens": "budget.tokens", "budget_usd": "budget.usd", "budget_minutes": "budget.minutes",
    "executor": "executor.use", "ray_address": "executor.address", "max_rpm": "lm.max_rpm", "max_tpm": "lm.max_tpm", "ratio": "mix.ratio", "negatives": "mix.negatives",
}  # fmt: skip


def options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the flags of a stage."""
    for option in reversed((
        click.option("--dataset", help="python-docs, an ir_datasets id, a BEIR folder, or a CSV/JSONL of pairs  [python-docs]"),
        click.option("--corpus", help="corpus file (JSONL, CSV) that goes with a file of pairs"),
        click.option("--task", help="what relevant means: a known task, or your own words"),
        click.option("--encoder", help="sentence-transformers model, or local/minilm  [local/minilm]"),
        click.option("--lm", help="litellm model string, or local/NAME  [local/qwen2.5-coder-1.5b]"),
        click.option("--api-base", help="address of your own LM server"),
        click.option("--program", help="a name (see `prompts --help`), module:Class, or program.json  [by strength of LM]"),
        click.option("--given", metavar="FILE", help="take negatives from a JSONL (query_id, text) in place of writing any"),
        click.option("--pairs", type=int, help="train pairs that get synthetic negatives, 0 = all  [40]"),
        click.option("--per-pair", type=int, help="synthetic negatives for each of them  [1]"),
        click.option("--concurrency", type=int, help="LM calls at once  [4]"),
        click.option("--executor", type=click.Choice(["threads", "ray"]), help="make LM calls and embeddings here, or on Ray; also "
                     "--ray-address  [threads]"),
        click.option("--ray-address", hidden=True),
        click.option("--max-rpm", type=int, metavar="N", help="calls a minute at most, and --max-tpm for tokens  [no limit]"),
        click.option("--max-tpm", type=int, hidden=True),
        click.option("--budget-usd", type=float, metavar="USD", help="stop before LM calls cost more; also --budget-calls, "
                     "--budget-tokens, --budget-minutes  [no limit]"),
        click.option("--budget-calls", type=int, hidden=True),
        click.option("--budget-tokens", type=int, hidden=True),
        click.option("--budget-minutes", type=float, hidden=True),
        click.option("--judge", type=click.Choice(["auto", "on", "off"]), help="let an LM that passes calibration judge  [auto]"),
        click.option("--judge-lm", help="another LM as judge  [that of --lm]"),
        click.option("--plan", is_flag=True, default=None, help="let the LM name the domains, from a sample of the corpus"),
        click.option("--optimizer", help="none, search, gepa, mipro, simba, copro or bootstrap: compile the program  [none]"),
        click.option("--compile-budget", type=int, metavar="CALLS", help="LM calls that compiling may make  [600]"),
        click.option("--reflection-lm", help="LM that proposes instructions  [that of --lm]"),
        click.option("--negatives", type=int, help="negatives per training instance  [3]"),
        click.option("--ratio", type=float, help="synthetic to retrieved inside an instance  [0.5]"),
        click.option("--arms", metavar="A,B,…", help="in-batch, bm25, mined, synthetic, dataset-mix, hybrid, each also with "
                     "settings of its own, as in hybrid@ratio=0.7@weight=0.3  [mined,hybrid]"),
        click.option("--seeds", metavar="N", type=click.IntRange(min=1), help="train each arm with so many seeds  [1]"),
        click.option("--fast", is_flag=True, help="train the upper half of the encoder only, with the rest kept"),
        click.option("--preset", help="quick, thorough, or syneg-paper with one of the paper's --dataset"),
        click.option("--seed", type=int, help="seed of splits, shuffles and sampling  [0]"),
        click.option("--run", "folder", type=click.Path(path_type=Path), help="run folder  [runs/DATASET]"),
        click.option("--config", "config_path", type=click.Path(path_type=Path), help="settings as TOML"),
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="any setting, as in train.epochs=2; repeatable"),
        click.option("--dry-run", is_flag=True, help="print calls, tokens, dollars and minutes, and call no LM"),
        click.option("--json", "as_json", is_flag=True, help="the result as JSON on stdout"),
        click.option("-v", "--verbose", is_flag=True, help="a line for each call of an LM"),
        click.option("--quiet", is_flag=True, help="no progress on stderr"),
        click.option("--debug", is_flag=True, help="tracebacks for errors"),
    )):  # fmt: skip
        command = option(command)
    return command
