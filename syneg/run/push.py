"""Push the results of a run to the Hugging Face hub: only on request, and private unless `public` is set.

    push(RunFolder(Path("runs/pairs")), "me/pairs", what=("model", "negatives"))
      → [Pushed("model", "me/pairs", 7, "https://huggingface.co/me/pairs"),
         Pushed("negatives", "me/pairs-negatives", 4, "https://huggingface.co/datasets/me/pairs-negatives")]

The model is the folder best/ with its card. The data set holds every set of written negatives with the figures of the
gates, the mined negatives, the verdict and the data card. Ledger, settings, logs and models of other arms stay here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from syneg.core.errors import BackendError, ConfigError, DataError, one_line

from .folder import RunFolder
from .manifest import check_files

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MODEL, NEGATIVES = "model", "negatives"
_NEGATIVES = (
    "README.md",
    "negatives*.jsonl",
    "near-misses.jsonl",
    "mined.jsonl",
    "verdict.json",
    "program.json",
    "program.md",
)
_NO_MODEL_FILES = ("job.json", "*.log", "checkpoints/*", ".*")


@dataclass(frozen=True)
class Pushed:
    """One upload: `what` (MODEL or NEGATIVES), the repository and its address, and the number of files."""

    what: str
    repo_id: str
    files: int
    url: str


def push(folder: RunFolder, repo_id: str, what: Sequence[str] = (MODEL,), *, public: bool = False) -> list[Pushed]:
    """Upload the best model, the negatives or both (`what`) to the repository `repo_id` (OWNER/NAME).

    If both are pushed, the data set is called `repo_id`-negatives. All checks run before the first upload. An existing
    repository stays public or private as it is. Raises ConfigError if there is no token or `repo_id` is malformed,
    DataError if the run is not finished or its negatives are damaged, BackendError if the hub refuses.
    """
    if repo_id.count("/") != 1 or not all(repo_id.split("/")):
        raise ConfigError(f"{repo_id!r} is no name on the hub", todo="give OWNER/NAME")
    names = {MODEL: repo_id, NEGATIVES: f"{repo_id}-negatives" if MODEL in what else repo_id}
    parts = [(kind, names[kind], *_files(folder, kind)) for kind in what]
    token = _token()
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    return [_pushed(api, part, public=public) for part in parts]


def _token() -> str:
    """Return the user's token, from HF_TOKEN or from `hf auth login`. Raises ConfigError if there is none."""
    from huggingface_hub import get_token

    token = get_token()
    if not token:
        raise ConfigError("no token for the Hugging Face hub", todo="export HF_TOKEN=…, or run `hf auth login`")
    return token


def _files(folder: RunFolder, kind: str) -> tuple[Path, list[str]]:
    """Return the folder to upload from and the names of its files. Raises DataError if the run is not finished, its
    verdict is of other settings, or a file of the negatives is not as it was written."""
    from .current import check_current

    check_current(folder)
    root = folder.best if kind == MODEL else folder.path
    names = sorted(set(_model_files(root) if kind == MODEL else _matching(root)))
    if not names or (kind == NEGATIVES and not any(name.startswith(("negatives", "mined")) for name in names)):
        none = "is no model" if kind == MODEL else "are no negatives"
        raise DataError(f"there {none} to push", where=str(root), todo="finish the run with `syneg-dspy run`")
    if kind == NEGATIVES:
        check_files(folder, [root / name for name in names])
    return root, names


def _model_files(root: Path) -> Iterator[str]:
    for path in root.rglob("*"):
        name = path.relative_to(root)
        if path.is_file() and not any(name.match(pattern) for pattern in _NO_MODEL_FILES):
            yield name.as_posix()


def _matching(root: Path) -> Iterator[str]:
    for pattern in _NEGATIVES:
        yield from (path.name for path in root.glob(pattern) if path.is_file())


def _pushed(api: HfApi, part: tuple[str, str, Path, list[str]], *, public: bool) -> Pushed:
    from huggingface_hub.errors import HfHubHTTPError

    kind, repo_id, root, names = part
    repo_type = "model" if kind == MODEL else "dataset"
    try:
        url = api.create_repo(repo_id, repo_type=repo_type, private=not public, exist_ok=True)
        message = "Add what a syneg-dspy run made"
        api.upload_folder(
            repo_id=repo_id, repo_type=repo_type, folder_path=root, allow_patterns=names, commit_message=message
        )
    except (HfHubHTTPError, OSError) as error:
        raise BackendError(
            f"the hub did not take {repo_id}: {one_line(error)}",
            todo="check the token's rights, the name and the network",
        ) from error
    return Pushed(kind, repo_id, len(names), str(url))
