"""The command line. It prints results, and imports heavy libraries only when a command needs them.

    $ syneg-dspy run --dataset python-docs          the whole path, to a verdict
    $ syneg-dspy mine|generate|train|evaluate …     the stages up to that one; finished stages are skipped

Exit codes: 0 success, 1 error (one line on stderr), 2 wrong usage or settings, 3 stopped by a budget, 130 interrupted
by Ctrl-C, 143 by SIGTERM. After 3, 130 and 143, the same command resumes the run. 141: nobody reads what it prints, as
after `| head -1`; a run whose progress nobody reads goes on.
"""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import sys
import warnings
from contextlib import redirect_stdout, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from syneg.core.counts import counted
from syneg.core.errors import ConfigError, SynegError, nearest
from syneg.core.failing import on_failure
from syneg.core.progress import Progress
from syneg.core.storage import cache_home, disk_error
from syneg.core.streams import draw, unread
from syneg.llm.open_calls import open_now
from syneg.run.folder import RunFolder, default_folder
from syneg.run.parts import Batch
from syneg.run.pipeline import STAGES, Run, Stage

from .colours import show
from .folders import FOLDERS
from .tools import TOOLS

if TYPE_CHECKING:
    from syneg.core.config import Config


_UNREAD = 141  # 128 and the number of SIGPIPE
_ABLATE = "Compare the arms of an ablation: ratio, temperature, program, loss, calls, mix or margin."


class Commands(click.Group):
    """List the stages in the order in which they run, then the other commands. A stage's command is built on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        path = ["run", *(stage.command for stage in STAGES.values() if stage.command != "run")]
        return [*path, "ablate", *sorted(self.commands)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "ablate":
            return _ablation()
        stage = next((stage for stage in STAGES.values() if stage.command == cmd_name), None)
        return super().get_command(ctx, cmd_name) if stage is None else _command(stage)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            ctx.fail(f"no such command {args[0]!r}; {nearest(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)

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
    """Build the command of one row of `STAGES`."""
    from .options import Option, stage_command

    command = stage_command(stage.command, stage.help, stage.sections, partial(_run_stage, stage))
    if stage.name in ("generate", "read"):
        kind = (click.Choice(["export", "import"]), click.Path(path_type=Path))
        command.params.append(
            Option(["--batch"], type=kind, multiple=True, metavar="export|import FILE", group="LM",
                   help=(
                       "Write the requests as an OpenAI batch file instead of calling, or continue from its results "
                       "and errors; repeatable."
                   ))
        )  # fmt: skip
    return command


def _ablation() -> click.Command:
    from .options import stage_command

    command = stage_command("ablate", _ABLATE, STAGES["verdict"].sections, _ablate)
    command.params.insert(0, click.Argument(["name"], shell_complete=_ablations))
    return command


def _ablations(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from syneg.run.arms import ABLATIONS

    return [name for name in ABLATIONS if name.startswith(incomplete)]


def _ablate(name: str, **flags: Any) -> None:
    from syneg.run.arms import ablation

    _run_stage(STAGES["verdict"], **{**flags, "arms": ",".join(ablation(name))})


def _run_stage(stage: Stage, **flags: Any) -> None:
    from syneg.run.lm_checks import check_keys

    folder, config = _settings(flags)
    if not flags["dry_run"] and not flags.get("batch") and not _has_answers(folder):
        check_keys(config, stage.asks(config))
    batch = flags.get("batch") or ()
    files = {way: tuple(path for other, path in batch if other == way) for way in ("import", "export")}
    if len(files["export"]) > 1:
        raise ConfigError("--batch export is given twice", todo="name one file; several can be imported at once")
    by_files = Batch(files["import"], next(iter(files["export"]), None)) if batch else None
    progress = Progress(quiet=flags["quiet"], verbose=flags["verbose"])
    run = Run(folder, config, progress, None if flags["dry_run"] else by_files)
    with redirect_stdout(sys.stderr):  # a user's program may print, as dspy.Refine does; stdout holds the result alone
        result = run.estimate(stage.name) if flags["dry_run"] else run.until(stage.name)
    if flags["as_json"]:
        click.echo(json.dumps(result, ensure_ascii=False, sort_keys=True))
        return
    show(result["table"] if flags["dry_run"] else stage.show(run.folder, result))
    if shares := progress.shares():
        progress.say(shares)


def _has_answers(folder: Path) -> bool:
    """Whether an LM has answered in this run folder. A finished run can then be shown again without a key."""
    ledger = RunFolder(folder).ledger
    return ledger.is_file() and ledger.stat().st_size > 0


def _settings(flags: dict[str, Any]) -> tuple[Path, Config]:
    """Return the run folder and its settings. Flags override the settings saved in the folder.

    Raises ConfigError if the folder belongs to another collection.
    """
    from syneg.core.settings import load_config
    from syneg.run.checks import check_folder

    from .options import KEYS

    settings = {key: flags.get(parameter) for parameter, key in KEYS.items()}
    if flags.get("arms"):
        from syneg.run.arms import split_arms

        settings["train.arms"] = split_arms(flags["arms"])
    if flags.get("seeds"):
        settings["train.seeds"] = tuple(range(flags["seeds"]))
    given = (flags["config_path"], flags["overrides"], settings, flags["preset"] or _demo(flags))
    fast = flags["fast"]
    folder = flags["folder"] or default_folder(load_config(*given, fast=fast).source)
    own = RunFolder(folder).config
    base = None if flags["config_path"] or not own.is_file() else own
    config = load_config(*given, base=base, fast=fast)
    check_folder(folder, config)
    return folder, config


def _demo(flags: dict[str, Any]) -> str | None:
    """Return "demo" if no flag, file or run folder names a collection, else None."""
    in_folder = flags["folder"] is not None and (flags["folder"] / "config.toml").is_file()
    in_settings = any(
        override.startswith(("collection.dataset", "collection.corpus")) for override in flags["overrides"]
    )
    named = flags["dataset"] or flags.get("corpus") or flags["config_path"] or in_folder or in_settings
    return None if named else "demo"


for _tool in (*TOOLS, *FOLDERS):
    cli.add_command(_tool)


class _Terminated(KeyboardInterrupt):
    """SIGTERM of schedulers and containers, or SIGHUP of a closed terminal: it ends a run as Ctrl-C does."""


def _terminated(number: int, frame: Any) -> None:
    raise _Terminated(number)


def _interrupted(error: BaseException) -> tuple[str, int]:
    """The last message of a command that a signal ended, and its exit code: 128 and the number of the signal."""
    ended = next((cause for cause in (error, error.__cause__) if isinstance(cause, _Terminated)), None)
    what, number = ("Terminated", int(ended.args[0])) if ended else ("Interrupted", signal.SIGINT)
    lost = f"{counted(calls, 'open LM call')} given up" if (calls := open_now()) else "Nothing is lost"
    return f"\n{what}. {lost}; resume with: {shlex.join(['syneg-dspy', *sys.argv[1:]])}", 128 + number


def main() -> None:
    """Run the command line; print an error as one line on stderr and exit with its code. --debug raises it instead."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for name in ("TQDM_DISABLE", "HF_HUB_DISABLE_TELEMETRY"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    debug = "--debug" in sys.argv
    if not debug:
        warnings.simplefilter("ignore")
    signal.signal(signal.SIGTERM, _terminated)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup ignores it
        signal.signal(signal.SIGHUP, _terminated)
    try:
        with on_failure(partial(_leave_by_disk, debug=debug)):
            cli(standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        if isinstance(error, click.UsageError) and error.ctx is not None:
            draw(f"{error.ctx.get_usage()}\nTry '{error.ctx.command_path} --help' for help.\n\n")
        _leave(f"error: {error.format_message()}", error.exit_code, debug)
    except (KeyboardInterrupt, click.Abort) as error:
        _leave(*_interrupted(error), debug)
    except SynegError as error:
        _leave(f"error: {error}", error.exit_code, debug)
    except SystemExit:  # click's own answer to a broken pipe
        if unread(sys.stdout):
            os._exit(_UNREAD)
        raise


def _leave_by_disk(error: BaseException, debug: bool) -> None:
    """End the process with one line for an error of the disk, whatever library raised it. Others go on."""
    told_elsewhere = SynegError, click.ClickException, click.Abort, click.exceptions.Exit
    if isinstance(error, told_elsewhere) or not isinstance(error, Exception):
        return
    of_disk = disk_error(error) or (error if isinstance(error, OSError) else None)
    if of_disk is None or debug:
        return
    where = f" ({of_disk.filename})" if of_disk.filename else ""
    _leave(f"error: {of_disk.strerror or of_disk}{where}; {_remedy(of_disk, *sys.argv[1:2])}", 1, debug)


def _remedy(error: OSError, command: str = "") -> str:
    """Say what the user can do about an error of the operating system, with the option that `command` has."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room on the disk; what was written is kept, so run the same command again"
    unwritable = (errno.EACCES, errno.EPERM, errno.EROFS)
    path = Path(error.filename or "")
    if error.errno in (*unwritable, errno.ENOTDIR) and cache_home() in (path, *path.parents):
        return "the cache cannot be written; set SYNEG_HOME to a folder of your own"
    if error.errno in unwritable:
        options = [name for option in getattr(cli.commands.get(command), "params", ()) for name in option.opts]
        place = "another place with --out" if "--out" in options else "a folder of your own with --run"
        return f"nothing can be written there; give {place}"
    if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP):
        return "check the path"
    return "what was written is kept; run the same command again"


def _leave(message: str, code: int, debug: bool) -> None:
    if debug:
        raise
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not end the message in a traceback
    for write in (partial(show, message, err=True), sys.stdout.flush, sys.stderr.flush):
        with suppress(OSError):  # nobody may read them any more
            write()
    os._exit(code)  # do not wait for threads that call an LM; rows already written are safe
