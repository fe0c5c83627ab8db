"""Commands for finished run folders (export, push, report), and `init`, which suggests settings for new data.

$ syneg-dspy export runs/pairs --to flagembedding          $ syneg-dspy report runs/pairs runs/other
"""

from __future__ import annotations

from pathlib import Path

import click

from syneg.core.counts import counted
from syneg.core.errors import ConfigError
from syneg.core.storage import write_text
from syneg.run.folder import RunFolder
from syneg.run.push import MODEL, NEGATIVES
from syneg.run.push import push as send

from .colours import show
from .made import made

_FORMATS = ("sentence-transformers", "flagembedding", "tevatron", "pylate", "beir", "hf-dataset")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--to", required=True, type=click.Choice(_FORMATS), help="the trainer that reads it")
@click.option("--arm", default="", help="whose rows  [the best trained one on dev]")
@click.option("--seed", type=int, help="which of its trainings  [the best on dev]")
@click.option("--out", type=click.Path(path_type=Path), help="folder to write  [FOLDER/export/FORMAT]")
@click.option("--parquet", is_flag=True, help="Parquet in place of JSONL")
def export(folder: Path, to: str, arm: str, seed: int | None, out: Path | None, parquet: bool) -> None:
    """Write the training rows of a run FOLDER for another trainer.

    Query, positives and negatives are texts; provenance.ndjson beside them says where each is from. Texts carry no
    prompts: give the encoder's own to your trainer.
    """
    from syneg.run.export import export as write

    done = write(RunFolder(made(folder)), to, out, arm, seed, parquet)
    for note in done.notes:
        click.echo(note)
    click.echo(f"{counted(done.rows, 'row')} of {done.arm}, seed {done.seed}: {done.path}")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--to", "repo_id", required=True, metavar="OWNER/NAME", help="repository on the hub; it is made where there is none"
)
@click.option("--what", type=click.Choice(["model", "negatives", "both"]), default="model", show_default=True,
              help="best/, the data set of negatives, or both (the data set is then OWNER/NAME-negatives)")  # fmt: skip
@click.option("--public", is_flag=True, help="make a new repository public  [private]")
def push(folder: Path, repo_id: str, what: str, public: bool) -> None:
    """Push the best model or the negatives of a run FOLDER to the Hugging Face hub.

    Nothing is ever pushed without this command, and a new repository is private. The token is that of `hf auth login`
    or HF_TOKEN.
    """
    parts = (MODEL, NEGATIVES) if what == "both" else (what,)
    for sent in send(RunFolder(made(folder)), repo_id, parts, public=public):
        click.echo(f"{sent.what}: {counted(sent.files, 'file')} in {sent.url}")


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=Path("comparison.html"),
              help="page to write  [comparison.html]")  # fmt: skip
def report(folders: tuple[Path, ...], out: Path) -> None:
    """Compare finished run FOLDERS: a table here, and a page.

    Runs over the same collection are compared query by query.
    """
    from syneg.run.comparison import sides
    from syneg.verdict.comparison import comparison_page, comparison_table
    from syneg.verdict.markup import is_document

    if out.exists() and not is_document(out):
        raise ConfigError(f"{str(out)!r} is there already, and is no page of this command",
                          todo="give another name with --out")  # fmt: skip
    runs = sides([made(folder) for folder in folders])
    show(comparison_table(runs))
    write_text(out, comparison_page(runs))
    click.echo(f"\npage: {out}")


@click.command()
@click.argument("files", nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=Path("config.toml"),
              help="settings to write  [config.toml]")  # fmt: skip
@click.option("--columns", metavar="ROLE=NAME,…", help="your names for columns that are not recognised")
@click.option("--set", "overrides", multiple=True, metavar="collection.KEY=VALUE",
              help="another setting of the data, as in collection.encoding=cp1252; repeatable")  # fmt: skip
def init(files: tuple[str, ...], out: Path, columns: str | None, overrides: tuple[str, ...]) -> None:
    """Look at your data and suggest settings.

    FILES are a file of pairs, a file of passages or both, passages with a few queries, a folder, or an id of a public
    collection. The settings are commented TOML, for `syneg-dspy run --config`.
    """
    from syneg.core.settings import load_config
    from syneg.run.suggest import suggestion

    if out.exists():
        raise ConfigError(f"{str(out)!r} is there already", todo="give another name with --out")
    if other := next((item for item in overrides if not item.startswith("collection.")), None):
        raise ConfigError(f"{other.partition('=')[0]!r} is no setting of the data",
                          todo=f"give --set collection.KEY=VALUE here, and the others in {out}")  # fmt: skip
    given = load_config(None, overrides, {"collection.columns": columns}).collection
    typed = [*(["--columns", columns] if columns else []), *(part for item in overrides for part in ("--set", item))]
    text = suggestion(files, given, typed)
    write_text(out, text)
    for line in text.partition("\n\n")[0].splitlines()[2:]:
        click.echo(line.removeprefix("# "))
    click.echo(f"\nsettings: {out}; run them with: syneg-dspy run --config {out}")


FOLDERS: tuple[click.Command, ...] = (init, export, push, report)
