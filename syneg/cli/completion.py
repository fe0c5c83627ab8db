"""Complete the values of --program and --arms in the shell, without loading dspy or torch.

    programs(…, "neigh")                → ["neighbour_topic", "neighbour_rewrite"]
    arms(…, "mined,hybrid@ra")          → ["mined,hybrid@ratio="]

If no name fits, the shell completes file names, because a program may be a saved program.json. bash splits words at @
and =, so only zsh and fish complete the settings of an arm.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

PROGRAM_NAMES = (
    "single_prompt", "multi_attribute", "reflective", "requirement_break", "neighbour_topic", "neighbour_rewrite",
    "no_attributes", "no_reflection",
)  # fmt: skip
BASES = ("mined", "verified", "grounded")  # of mix.base
Completed = list[str | CompletionItem]


def programs(ctx: click.Context, param: click.Parameter, incomplete: str) -> Completed:
    """Complete a program: names that start with `incomplete`, else files."""
    return [*_fitting(PROGRAM_NAMES, incomplete)] or [CompletionItem(incomplete, type="file")]


def arms(ctx: click.Context, param: click.Parameter, incomplete: str) -> Completed:
    """Complete --arms: an arm after a comma, a setting after "@", and what "program=" and "base=" may name."""
    from syneg.run.arms import SETTINGS
    from syneg.training.sampling import ARMS

    before, part = re.split(r"^(.*,(?![^\[]*\]))?", incomplete, maxsplit=1)[1:]
    before = before or ""
    arm, at, setting = part.rpartition("@")
    if not at:
        return [f"{before}{name}" for name in _fitting(ARMS, part)]
    key, sign, value = setting.partition("=")
    if sign:
        names = {"program": PROGRAM_NAMES, "base": BASES}.get(key, ())
        return [f"{before}{arm}@{key}={name}" for name in _fitting(names, value)]
    return [f"{before}{arm}@{name}=" for name in _fitting(SETTINGS, key)]


COMPLETE: dict[str, Callable[[click.Context, click.Parameter, str], Completed]] = {
    "--program": programs,
    "--arms": arms,
}
"""Flag → the function that completes its value."""


def _fitting(names: Iterable[str], beginning: str) -> list[str]:
    return [name for name in names if name.startswith(beginning)]
