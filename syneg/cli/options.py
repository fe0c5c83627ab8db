"""Flags of the stages. Each flag sets one setting, and takes its type, default and help from that setting.

    Flag("--pairs", "generate.pairs")  →  --pairs INTEGER  Train pairs that get synthetic negatives; 0 = all.  [40]

A stage offers the flags of the sections that it reads (`syneg.run.pipeline.STAGES`); --help groups them by section.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click

from syneg.core.config import Config
from syneg.core.presets import PRESETS
from syneg.core.settings import NO_KEYS, asks_for_key

from .completion import COMPLETE


@dataclass(frozen=True)
class Flag:
    """A flag for the setting `key`. --help adds `note` to the description, and shows `default` for its default."""

    name: str
    key: str
    note: str = ""
    default: str = ""
    hidden: bool = False

    @property
    def parameter(self) -> str:
        """Return the flag's name as a Python argument: "write_queries" for --write-queries."""
        return self.name.removeprefix("--").replace("-", "_")

    @property
    def section(self) -> str:
        """Return the section of the setting: "train" for train.epochs, "" for a top-level setting."""
        return self.key.rpartition(".")[0]


FLAGS = (
    Flag("--dataset", "collection.dataset"),
    Flag("--corpus", "collection.corpus"),
    Flag("--queries", "queries.examples", note="For --corpus alone."),
    Flag("--write-queries", "queries.passages", note="For --corpus alone."),
    Flag("--columns", "collection.columns"),
    Flag("--task", "collection.task"),
    Flag("--encoder", "encoder.model"),
    Flag("--trust-remote-code", "encoder.trust_remote_code"),
    Flag("--executor", "executor.use", note="Also --ray-address."),
    Flag("--ray-address", "executor.address", hidden=True),
    Flag("--replay", "executor.replay"),
    Flag("--lm", "lm.model"),
    Flag("--api-base", "lm.api_base"),
    Flag("--concurrency", "lm.concurrency"),
    Flag("--max-rpm", "lm.max_rpm", note="Also --max-tpm for tokens."),
    Flag("--max-tpm", "lm.max_tpm", hidden=True),
    Flag("--program", "generate.program", default="by strength of the LM"),
    Flag("--given", "generate.given"),
    Flag("--pairs", "generate.pairs"),
    Flag("--per-pair", "generate.per_pair"),
    Flag("--plan", "generate.plan"),
    Flag("--judge", "judge.use"),
    Flag("--judge-lm", "judge.model"),
    Flag("--reader", "reader.use"),
    Flag("--reader-lm", "reader.model"),
    Flag("--strong-reader-lm", "reader.strong"),
    Flag("--optimizer", "compile.optimizer"),
    Flag("--target", "compile.target"),
    Flag("--compile-budget", "compile.calls"),
    Flag("--reflection-lm", "reflection.model"),
    Flag(
        "--budget-usd", "budget.usd",
        note="Also --budget-calls, --budget-tokens, --budget-minutes.", default="no limit",
    ),
    Flag("--budget-calls", "budget.calls", hidden=True),
    Flag("--budget-tokens", "budget.tokens", hidden=True),
    Flag("--budget-minutes", "budget.minutes", hidden=True),
    Flag("--negatives", "mix.negatives"),
    Flag("--ratio", "mix.ratio"),
    Flag(
        "--arms", "train.arms",
        note="Several: hybrid@ratio=0.7@weight=0.3.", default="mined,hybrid, and verified with a reader",
    ),
    Flag("--train-pairs", "train.pairs"),
    Flag("--seeds", "train.seeds", default="1"),
    Flag("--seed", "seed"),
)  # fmt: skip
KEYS = {flag.parameter: flag.key for flag in FLAGS}
_GROUPS = {
    "collection": "Data", "queries": "Data", "encoder": "Encoder", "mine": "Encoder",
    "lm": "LM", "generate": "Writing",
    "reader": "Reading", "judge": "Writing", "compile": "Compiling", "reflection": "Compiling", "budget": "Limits",
    "mix": "Training", "train": "Training", "executor": "Run", "": "Run",
}  # fmt: skip


class Option(click.Option):
    """A click option with `group`, the heading that --help lists it under."""

    def __init__(self, *args: Any, group: str = "Run", **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.group = group


class Named(click.Path):
    """A path that must be named: an empty one, as from a variable that is not set, would be the working folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("it is empty", param, ctx)
        return super().convert(value, param, ctx)


class GroupedCommand(click.Command):
    """A command whose --help lists its options under the headings of their groups."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if asks_for_key(error.option_name):
                raise click.UsageError(f"No such option {error.option_name!r}: {NO_KEYS}.", ctx) from error
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                rows.setdefault(getattr(parameter, "group", "Run"), []).append(record)
        for group in dict.fromkeys((*_GROUPS.values(), *rows)):
            if group in rows:
                with formatter.section(group):
                    formatter.write_dl(rows[group])


def described(key: str) -> tuple[str, Any, Any]:
    """Return description, default and type of the setting `key`, as its field declares them."""
    section, _, name = key.rpartition(".")
    model = Config.model_fields[section].annotation if section else Config
    info = model.model_fields[name]  # type: ignore[union-attr]
    return info.description or "", info.default, info.annotation


def setting_options(sections: Iterable[str]) -> list[Option]:
    """Return the options for the settings of `sections` and for the top-level settings."""
    wanted = {*sections, ""}
    return [_option(flag) for flag in FLAGS if flag.section in wanted]


def _option(flag: Flag) -> Option:
    text, default, kind = described(flag.key)
    shown = flag.default or ("" if default is None else str(default))
    parts = [text, flag.note, f"[{shown}]" if shown and kind is not bool else ""]
    settings: dict[str, Any] = {
        "help": "  ".join(part for part in parts if part), "hidden": flag.hidden, "group": _GROUPS[flag.section]
    }  # fmt: skip
    if kind is bool:
        settings |= {"is_flag": True, "default": None}
    elif flag.name == "--seeds":
        settings |= {"type": click.IntRange(min=1), "metavar": "N", "help": f"Number of seeds per arm.  [{shown}]"}
    elif get_origin(kind) is Literal:
        settings["type"] = click.Choice(get_args(kind))
    elif kind in (int, float):
        settings["type"] = kind
    if flag.name in COMPLETE:
        settings["shell_complete"] = COMPLETE[flag.name]
    return Option([flag.name, flag.parameter], **settings)


def run_options() -> list[Option]:
    """Return the options that every stage has: run folder, sources of settings, and output."""
    folder = Named(path_type=Path, file_okay=False)
    return [
        Option(["--fast"], is_flag=True, group="Training", help=(
            "Train only the upper half of the encoder; the lower half is frozen and its output cached."
        )),
        Option(["--preset"], type=click.Choice(PRESETS), help=(
            "Named settings; syneg-paper wants one of the paper's --dataset."
        )),
        Option(["--run", "folder"], type=folder, help=(
            "Run folder; without other flags its own settings are used.  [runs/DATASET]"
        )),
        Option(["--config", "config_path"], type=Named(path_type=Path), help="Settings as TOML."),
        Option(["--set", "overrides"], multiple=True, metavar="KEY=VALUE", help=(
            "Any setting, as in train.epochs=2; repeatable."
        )),
        Option(["--dry-run"], is_flag=True, help="Print calls, tokens, dollars and minutes; call no LM."),
        Option(["--json", "as_json"], is_flag=True, help="Print the result as JSON on stdout."),
        Option(["-v", "--verbose"], is_flag=True, help="Print a line for each call of an LM."),
        Option(["--quiet"], is_flag=True, help="Print no progress on stderr."),
        Option(["--debug"], is_flag=True, help="Print tracebacks of errors."),
    ]  # fmt: skip


def stage_command(name: str, text: str, sections: Iterable[str], callback: Callable[..., None]) -> GroupedCommand:
    """Build a stage's command with the flags of `sections` and the options of every stage; `text` is its help."""
    options: list[click.Parameter] = [*setting_options(sections), *run_options()]
    return GroupedCommand(name, callback=callback, params=options, help=text)
