"""Choose the reader for a data set by its name.

open_reader(CollectionConfig(dataset="pairs.csv"))                                 → PairsReader
open_reader(CollectionConfig(dataset="beir/scifact"))                              → IrDatasets
open_reader(CollectionConfig(dataset="sentence-transformers/natural-questions"))   → HubPairs
"""

from __future__ import annotations

from pathlib import Path

from syneg.core.config import CollectionConfig
from syneg.core.errors import DataError

from .columns import ColumnNames
from .folders import FolderReader, has_qrels
from .pairs import PairsReader
from .public import open_public
from .readers import Reader
from .split_tables import is_saved, open_saved, open_split_folder, split_files
from .tables import look_at, names_a_file


def open_reader(config: CollectionConfig) -> Reader:
    """Open `config.dataset`: a folder, a file, or the name of a published collection.

    Raises DataError for a missing path, an unknown name, or a corpus without a file of pairs.
    """
    dataset, columns = config.dataset, ColumnNames(config.columns)
    path = Path(dataset).expanduser()
    has_pairs = path.is_file() or is_saved(path) or (path.is_dir() and split_files(path))
    if config.corpus is not None and not has_pairs:
        if names_a_file(dataset) and not path.exists():
            raise no_file(dataset)
        raise DataError(
            f"collection.corpus needs a file of pairs, and {dataset!r} is none", todo="leave out collection.corpus"
        )
    if path.is_dir():
        return _folder(path, config, columns)
    if path.is_file():
        corpus = _corpus(config)
        return PairsReader.from_files(path, corpus, columns, config.encoding)
    if names_a_file(dataset):
        raise no_file(dataset)
    try:
        return open_public(dataset, columns)
    except DataError as error:
        hint = look_at(dataset)
        if not hint.startswith("did you mean"):
            raise
        raise DataError(f"no file, folder or published collection {dataset!r} can be read", todo=hint) from error


def no_file(dataset: str) -> DataError:
    """Return the error for a path where nothing is."""
    return DataError(f"no such file or folder: {dataset!r}", todo=look_at(dataset))


def _corpus(config: CollectionConfig) -> Path | None:
    return Path(config.corpus).expanduser() if config.corpus else None


def _folder(path: Path, config: CollectionConfig, columns: ColumnNames) -> Reader:
    if is_saved(path):
        return open_saved(path, _corpus(config), columns, config.encoding)
    if not has_qrels(path) and split_files(path):
        return open_split_folder(path, _corpus(config), columns, config.encoding)
    return FolderReader(path, columns, config.encoding)
