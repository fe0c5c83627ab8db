"""Commands that are not stages: models, cache, settings, machine, LMs, prompts and negatives.

    $ syneg-dspy fetch local/minilm     $ syneg-dspy prompts multi_attribute     $ syneg-dspy inspect runs/python-docs

Commands import modules that load dspy or torch inside their functions, so that `--help` stays fast.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from syneg.core.assets import ASSETS
from syneg.core.counts import counted
from syneg.core.fetch import fetch as get
from syneg.core.fetch import fetch_with_progress, fetched
from syneg.core.progress import Progress
from syneg.retrieval.embedding_cache import cache_folder, prune, spaces

from .browse import entries, select
from .completion import programs
from .made import made

if TYPE_CHECKING:
    from syneg.core.config import Config


@click.command()
@click.option(
    "--max-gb", type=click.FloatRange(min=0), help="remove embeddings until this many GB are left; 0 removes all"
)
def cache(max_gb: float | None) -> None:
    """Show the embedding cache, encoder by encoder, or make it smaller.

    Embeddings that a running command uses are never removed. Runs themselves keep the cache under `encoder.cache_gb`.
    """
    for space in prune(max_gb * 1e9) if max_gb is not None else []:
        click.echo(f"removed {space.size / 1e9:8.3f} GB  {space.name}")
    kept = spaces()
    for space in sorted(kept, key=lambda space: -space.size):
        last = time.strftime("%Y-%m-%d", time.localtime(space.used))
        click.echo(f"{space.size / 1e9:8.3f} GB  last used {last}  {space.name}")
    click.echo(f"{sum(space.size for space in kept) / 1e9:8.3f} GB in {cache_folder()}")


@click.command()
@click.argument("names", nargs=-1)
@click.option(
    "--from",
    "own",
    type=click.Path(path_type=Path, exists=True),
    help="a file or folder that you already have",
)
@click.option("--source", type=click.Choice(["index", "hub"]), help="only this source")
def fetch(names: tuple[str, ...], own: Path | None, source: str | None) -> None:
    """Fetch embedded models (local/NAME) into the cache; without a name, list them."""
    if not names:
        for asset in ASSETS.values():
            size = sum(file.size for file in asset.files.values()) / 1e6
            state = "here" if fetched(asset.name) else "not fetched"
            click.echo(f"local/{asset.name:<20} {size:>6.0f} MB  {asset.licence}  {state:<11}  {asset.about}")
    for name in names:
        with Progress().stage("fetch", f"MB of {name}") as line:
            line.note = str(get(name, own=own, source=source, progress=line))


@click.command()
def settings() -> None:
    """Print every setting with its default, as Markdown."""
    from syneg.core.settings import settings_page

    click.echo(settings_page(), nl=False)


_LM_OPTIONS = (
    click.option("--lm", help="litellm model string, or local/NAME  [local/qwen2.5-coder-1.5b]"),
    click.option("--judge-lm", help="LM of the judge, if another"),
    click.option("--reflection-lm", help="LM of compiling, if another"),
    click.option("--api-base", help="address of your own LM server"),
    click.option("--config", "config_path", type=click.Path(path_type=Path), help="settings as TOML"),
    click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="any setting; repeatable"),
)


def _with_lm_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_LM_OPTIONS):
        command = option(command)
    return command


def _lm_settings(config_path: Path | None, overrides: tuple[str, ...], flags: dict[str, Any]) -> Config:
    from syneg.core.settings import load_config

    from .options import KEYS

    return load_config(config_path, overrides, {KEYS[key]: value for key, value in flags.items()})


@click.command()
@_with_lm_options
def doctor(config_path: Path | None, overrides: tuple[str, ...], **flags: Any) -> None:
    """Check this machine: versions, threads, memory, disk, keys, addresses of LMs."""
    from .doctor import examine, lm_findings

    findings = [*examine(), *lm_findings(_lm_settings(config_path, overrides, flags))]
    for finding in findings:
        click.echo(f"{finding.level:<5} {finding.name:<22} {finding.text}")
    bad = sum(finding.level == "bad" for finding in findings)
    click.echo(f"\n{counted(bad, 'problem')} to fix before a run" if bad else "\nno problems found")
    sys.exit(1 if bad else 0)


@click.command()
@_with_lm_options
def backends(config_path: Path | None, overrides: tuple[str, ...], **flags: Any) -> None:
    """Send each LM of a run one typed test call: answer, schema, speed, price."""
    from .backends import lms_of, probe

    config = _lm_settings(config_path, overrides, flags)
    well = True
    for role, lm in lms_of(config).items():
        fetch_with_progress(lm.model, Progress())
        with tempfile.TemporaryDirectory() as folder:
            probed = probe(lm, Path(folder), role)
        click.echo("\n".join(probed.lines()))
        well = well and probed.answers and probed.schema != "broken"
    sys.exit(0 if well else 1)


@click.command()
@click.argument("program", shell_complete=programs)
@click.option("--lm", help="litellm model string, or local/NAME: decides layout and schema")
@click.option("--adapter", help="compact, json, chat or xml  [by LM]")
@click.option("--task", help="what relevant means: a known task, or your own words")
@click.option("--per-pair", type=int, help="negatives to ask for  [1]")
@click.option("--dataset", help="show the prompts for a train pair of this collection")
def prompts(program: str, adapter: str | None, **flags: Any) -> None:
    """Print exactly what PROGRAM sends, without calling an LM.

    PROGRAM is single_prompt, multi_attribute, reflective, requirement_break, neighbour_topic, neighbour_rewrite,
    no_attributes, no_reflection, module:Class, or a saved program.json. ‹Such marks› stand where answers of earlier
    calls go.
    """
    from syneg.core.settings import load_config
    from syneg.negatives.prompts import EXAMPLE, NEAR, near_passages, sent

    from .options import KEYS

    config = load_config(None, (), {**{KEYS[key]: value for key, value in flags.items()}, "lm.adapter": adapter})
    pair, near = EXAMPLE, list(NEAR)
    if flags["dataset"]:
        from syneg.data.collection import load_collection

        collection = load_collection(config.collection, config.seed)
        pair = collection.pairs("train")[0]
        near = near_passages(collection, pair)
    for text in sent(program, config, pair, near):
        click.echo(text)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--accepted/--rejected", default=None, help="only accepted, or only rejected, negatives  [both]")
@click.option("--gate", help="only negatives rejected by this gate, as in --gate margin, or for this reason")
@click.option(
    "--attribute", "where", multiple=True, metavar="KEY=VALUE", help="only negatives with this attribute; repeatable"
)
@click.option("--program", shell_complete=programs, help="only negatives by this program")
def inspect(folder: Path, accepted: bool | None, gate: str | None, where: tuple[str, ...], program: str | None) -> None:
    """Page through the negatives of a run FOLDER, with query, positive, mined neighbours and gate figures."""
    from syneg.core.settings import load_config
    from syneg.data.collection import load_collection

    if incomplete := next((part for part in where if "=" not in part), None):
        raise click.BadOptionUsage("where", f"--attribute {incomplete!r} has no '='; write --attribute KEY=VALUE")
    wanted = dict(part.partition("=")[::2] for part in where)
    rows = select(made(folder), accepted=accepted, reason=gate, where=wanted, program=program)
    if not rows:
        click.echo("no negative fits these filters", err=True)
        return
    config = load_config(folder / "config.toml")
    passages = load_collection(config.collection, config.seed).passages
    width = max(40, min(100, shutil.get_terminal_size((80, 24)).columns))
    click.echo_via_pager(f"{text}\n" for text in entries(folder, rows, passages, width))


TOOLS: tuple[click.Command, ...] = (cache, fetch, settings, doctor, backends, prompts, inspect)
