"""Read data and suggest settings for it, as a TOML file with comments.

    suggestion(["pairs.csv", "docs.jsonl"])
      → # Seen: 960 passages (English, median 62 words, 1 in 20 over 180), 40 queries.
        # Splits: train 24, dev 6, test 10.
        # test has 10 queries: it cannot show a difference under about 0.18 nDCG@10.
        [collection]
        dataset = "pairs.csv"
        corpus = "docs.jsonl"
        …

Only settings that follow from the data are set; all others keep their defaults (docs/settings.md).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from syneg.core.config import CollectionConfig, Config
from syneg.core.counts import counted
from syneg.core.errors import DataError
from syneg.core.text import word_count
from syneg.core.toml import toml_value
from syneg.data.collection import Collection, load_collection
from syneg.data.columns import CORPUS, PAIRS, ColumnNames
from syneg.data.language import language_of
from syneg.data.pairs import PairsReader
from syneg.data.read_log import ReadLog
from syneg.data.remarks import encoder_remark, remarks
from syneg.data.sources import no_file
from syneg.data.tables import names_a_file, read_table
from syneg.data.tasks import TASKS

_FEW_PAIRS, _MANY_PAIRS = 100, 2000
_LONG_WORDS = 180  # about 256 tokens, where local/minilm cuts a passage
_MULTILINGUAL = "intfloat/multilingual-e5-small"
_QUESTION = ("what", "how", "why", "when", "where", "who", "which", "is", "are", "can", "does", "do", "was")


@dataclass(frozen=True)
class _Files:
    """The files by what they hold; "" for none. `columns` are the recognised columns of the pairs, role → names."""

    dataset: str = ""
    corpus: str = ""
    examples: str = ""
    columns: Mapping[str, Sequence[str]] | None = None


def suggestion(files: Sequence[str], given: CollectionConfig | None = None, typed: Sequence[str] = ()) -> str:
    """Return the text of a config.toml for `files`.

    These may be a folder, the id of a data set, a file of pairs (and a file of passages), or a file of passages alone
    (and a file of a few queries). They are read with the settings `given` (columns, encoding and so on), which the
    text repeats. `typed` are the flags of the command, for its first line. Raises DataError if a file cannot be read,
    or if the files do not go together.
    """
    given = given or CollectionConfig()
    sorted_files = _sorted(files, given)
    if sorted_files.dataset:
        settings = {"dataset": sorted_files.dataset, "corpus": sorted_files.corpus or None, "confirm": 0.0}
        lines = _for_collection(sorted_files, load_collection(given.model_copy(update=settings)), given)
    else:
        lines = _for_corpus(sorted_files, given)
    return "\n".join([*_head([*files, *typed]), *lines, ""])


def _head(arguments: Sequence[str]) -> Iterator[str]:
    yield f"# Suggested by: {shlex.join(['syneg-dspy', 'init', *arguments])}"
    yield "# Every setting that is not here keeps its default: syneg-dspy settings"


def _sorted(files: Sequence[str], given: CollectionConfig) -> _Files:
    kinds, columns = _kinds(files, given)
    if "examples" in kinds and "corpus" not in kinds:
        raise DataError(
            "a file of queries does not say which passages are searched",
            where=kinds["examples"],
            todo="give the passages, too",
        )
    if "examples" in kinds and "dataset" in kinds:
        raise DataError("pairs and queries do not go together", where=kinds["examples"], todo="leave out the queries")
    return _Files(**kinds, columns=columns)


def _kinds(files: Sequence[str], given: CollectionConfig) -> tuple[dict[str, str], Mapping[str, Sequence[str]] | None]:
    """Return what each file is, as kind → name, and the columns of the pairs.

    Raises ConfigError for a column of `given` that no file has, and DataError for two files of one kind.
    """
    names = ColumnNames(given.columns)
    found: list[tuple[str, str]] = []
    columns: Mapping[str, Sequence[str]] | None = None
    for name in files:
        path = Path(name).expanduser()
        if not path.exists() and names_a_file(name):
            raise no_file(name)
        if not path.is_file():
            found.append(("dataset", name))
            continue
        row = next((row for _, row in read_table(path, ReadLog(), given.encoding)), {})
        roles, texts = names.of(row, PAIRS), names.of(row, CORPUS)
        kind = _kind(roles, texts)
        found.append((kind, name))
        if kind == "dataset":
            columns = roles if "query" in roles else {}
    if all(Path(name).expanduser().is_file() for name in files):
        names.check()
    kinds: dict[str, str] = {}
    for kind, name in found:
        if kind in kinds:
            raise DataError(f"{kinds[kind]!r} and {name!r} are both {_WHAT[kind]}", todo="give one of them")
        kinds[kind] = name
    return kinds, columns


def _kind(roles: Iterable[str], texts: Iterable[str]) -> str:
    """Return what a file with these columns is, as a key of `_WHAT`."""
    if "query" in roles:
        return "dataset" if {"positive", "doc_id"} & set(roles) else "examples"
    return "corpus" if "text" in texts else "dataset"


_WHAT = {"dataset": "pairs or a data set", "corpus": "passages", "examples": "queries"}


def _for_collection(files: _Files, collection: Collection, given: CollectionConfig) -> Iterator[str]:
    sizes = {split: len(ids) for split, ids in collection.splits.items() if ids}
    positives = sum(len(collection.relevant(query_id)) for query_id in collection.queries)
    yield from _comment([
        f"Seen: {_passages(collection.passages.values())}, {counted(len(collection.queries), 'query')} with "
        f"{counted(positives, 'positive')}.",
        f"Splits: {', '.join(f'{split} {count}' for split, count in sizes.items())}.",
        *collection.problems[:3], *collection.notes, *remarks(collection), *_folds(collection),
    ])  # fmt: skip
    yield from ["", "[collection]", f"dataset = {_quoted(files.dataset)}"]
    if files.corpus:
        yield f"corpus = {_quoted(files.corpus)}"
    if files.columns:
        named = ",".join(
            f"{role}={names[0]}" for role, names in files.columns.items() if role in ("query", "positive", "doc_id")
        )
        yield from _comment(["the columns that were recognised"])
        yield f"columns = {_quoted(given.columns or named)}"
    elif given.columns:
        yield f"columns = {_quoted(given.columns)}"
    yield from _given(given)
    yield from _task(collection.queries.values(), given)
    yield from _encoder(collection.passages.values(), encoder_remark(collection, Config().encoder.model))
    train = sizes.get("train", 0)
    yield from ["", "[generate]"]
    if train > _MANY_PAIRS:
        yield from _comment([f"{train} train pairs: start small, and see what negatives cost with --dry-run; 0 = all"])
        yield f"pairs = {Config().generate.pairs}"
    else:
        yield from _comment([f"written negatives for all {train} train pairs; fewer are cheaper"])
        yield "pairs = 0"
    yield from _training(train)
    yield from _lm()


def _folds(collection: Collection) -> list[str]:
    if not collection.wants_folds:
        return []
    return [
        f"So the arms are trained in {Config().evaluate.folds} folds, and every query is tested once "
        "(evaluate.folds=0 turns this off)."
    ]


def _for_corpus(files: _Files, given: CollectionConfig) -> Iterator[str]:
    log = ReadLog()
    rows = read_table(Path(files.corpus).expanduser(), log, given.encoding)
    passages = [text for _, text in PairsReader("", None, rows, ColumnNames(given.columns), log).passages()]
    log.check(given.max_bad_rows)
    examples = list(read_table(Path(files.examples).expanduser(), log, given.encoding)) if files.examples else []
    queries = min(Config().queries.passages, len(passages))
    imitated = f", {counted(len(examples), 'query')} to imitate" if examples else ""
    yield from _comment([
        f"Seen: {_passages(passages)}, no pairs{imitated}.",
        f"An LM writes a query for {counted(queries, 'passage')}. All test queries are then synthetic, so the verdict "
        "cannot say how real ones fare.",
        *log.problems[:3],
    ])  # fmt: skip
    yield from ["", "[collection]", f"corpus = {_quoted(files.corpus)}"]
    if given.columns:
        yield f"columns = {_quoted(given.columns)}"
    yield from _given(given)
    yield from _task((), given)
    yield from ["", "[queries]", f"passages = {queries}"]
    if files.examples:
        yield f"examples = {_quoted(files.examples)}"
    else:
        yield from _comment(['a few real queries say how users ask: examples = "queries.csv"'])
    language = language_of(passages)
    yield from _encoder(passages, f"The passages are {language}." if language not in ("", "English") else "")
    yield from _lm()


def _passages(texts: Iterable[str]) -> str:
    texts = list(texts)
    words = [word_count(text) for text in islice(texts, 0, None, max(1, len(texts) // 2000))] or [0]
    language = language_of(texts)
    median, long = (round(float(x)) for x in np.percentile(words, [50, 95]))
    words_of = f"{f'{language}, ' if language else ''}median {median} words, 1 in 20 over {long}"
    return f"{counted(len(texts), 'passage')} ({words_of})"


def _given(settings: CollectionConfig) -> Iterator[str]:
    """Yield the lines of the settings that are not at their default, save those with a line of their own."""
    for key, value in settings.model_dump(exclude_defaults=True).items():
        if key not in ("dataset", "corpus", "columns", "task") and value is not None:
            yield f"{key} = {toml_value(value)}"


def _task(queries: Iterable[str], given: CollectionConfig) -> Iterator[str]:
    """Yield the setting `task`: the one given, question answering if most queries are questions, or a line to fill."""
    if given.task:
        yield f"task = {_quoted(given.task)}"
        return
    yield from _comment([f"what relevant means decides what a negative is: {', '.join(TASKS)}, or your own words"])
    texts = [text.strip().casefold() for text in queries]
    asked = sum(
        text.endswith(("?", "？")) or text.startswith(tuple(f"{word} " for word in _QUESTION)) for text in texts
    )
    if texts and asked > len(texts) / 2:
        yield f"task = {_quoted('question answering')}"
    else:
        yield f"# task = {_quoted('A passage is relevant when …')}"


def _encoder(texts: Iterable[str], other_language: str) -> Iterator[str]:
    yield from ["", "[encoder]"]
    if other_language:
        yield from _comment([other_language])
        yield f"model = {_quoted(_MULTILINGUAL)}"
        return
    words = np.array([word_count(text) for text in islice(texts, 2000)] or [0])
    if (share := float((words > _LONG_WORDS).mean())) > 0.05:
        yield from _comment([
            f"about {share:.0%} of the passages have over {_LONG_WORDS} words, which local/minilm cuts; "
            "BAAI/bge-small-en-v1.5 reads twice as much"
        ])  # fmt: skip
    yield f"model = {_quoted(Config().encoder.model)}"


def _training(train: int) -> Iterator[str]:
    if train < _FEW_PAIRS:
        yield from [
            "",
            "[train]",
            *_comment([f"{train} train pairs are few rows: more passes over them"]),
            "epochs = 4.0",
        ]


def _lm() -> Iterator[str]:
    yield from [
        "",
        "[lm]",
        *_comment(['any litellm model, its key from the environment: model = "openai/gpt-4o-mini"']),
    ]
    yield f"model = {_quoted(Config().lm.model)}"


def _comment(lines: Sequence[str]) -> list[str]:
    return [f"# {' '.join(line.split())}" for line in lines]


def _quoted(text: Any) -> str:
    return json.dumps(str(text), ensure_ascii=False)
