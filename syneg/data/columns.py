"""Recognise the columns of a table by known names, or by the names in `--columns`.

    columns = ColumnNames("positive=reply")
    columns.of(("Question", "reply", "url"), PAIRS)     → {"query": ["Question"], "positive": ["reply"]}
    columns.unused(("Question", "reply", "url"), PAIRS) → ["url"]

Case does not matter, and `-` and spaces count as `_`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from syneg.core.errors import ConfigError, DataError, nearest

from .cells import is_missing
from .read_log import ReadLog
from .tables import Row

KNOWN_NAMES: dict[str, tuple[str, ...]] = {
    "query": ("query", "anchor", "question", "query_text", "search_query", "q"),
    "positive": (
        "positive", "pos", "positives", "positive_ctxs", "answer", "answers", "passage", "document", "positive_text",
        "positive_passage", "positive_passages", "doc_text", "passage_text", "document_text", "context", "response",
        "text",
    ),
    "negative": ("negative", "neg", "negatives", "hard_negative", "hard_negatives", "hard_negative_ctxs",
                 "negative_passages", "negative_text"),
    "query_id": ("query_id", "qid", "queryid", "question_id", "anchor_id", "topic_id"),
    "doc_id": ("doc_id", "docid", "corpus_id", "pid", "passage_id", "document_id", "docno", "positive_id"),
    "split": ("split",),
    "relevance": ("relevance", "grade", "label", "rel"),
    "title": ("title",),
    "text": ("text", "passage", "content", "contents", "body", "document", "positive", "passage_text", "document_text",
             "query", "query_text", "question"),
    "score": ("score", "relevance", "grade", "label", "rel"),
}  # fmt: skip
_NUMBERED = re.compile(r"(?:hard_)?neg(?:ative)?s?_?\d+")
PAIRS = ("query", "positive", "negative", "query_id", "doc_id", "split", "relevance")
CORPUS = ("doc_id", "title", "text")
QUERIES = ("query_id", "query")
QRELS = ("query_id", "doc_id", "score")


class ColumnNames:
    """Column names by role. `named` is the setting collection.columns, "role=column,role=column".

    Raises ConfigError for an unknown role or a part without "=".
    """

    def __init__(self, named: str = "") -> None:
        self._named: dict[str, str] = {}
        for part in filter(None, (part.strip() for part in named.split(","))):
            role, sign, column = (piece.strip() for piece in part.partition("="))
            if not sign:
                raise ConfigError(f"collection.columns: {part!r} has no '='", todo="write query=NAME,positive=NAME")
            if role not in KNOWN_NAMES:
                raise ConfigError(f"collection.columns: unknown {role!r}", todo=nearest(role, KNOWN_NAMES))
            self._named[role] = column
        self._kept: dict[tuple[Any, ...], dict[str, list[str]]] = {}
        self._met: set[str] = set()
        self._seen: dict[str, None] = {}  # columns of all tables

    def of(self, names: Iterable[Any], roles: Iterable[str]) -> dict[str, list[str]]:
        """The columns of each role found among `names`: perhaps several for negatives, else at most one."""
        key = (tuple(names), tuple(roles))
        if key not in self._kept:
            self._kept[key] = self._resolve([str(name) for name in key[0]], key[1])
        return self._kept[key]

    def _resolve(self, names: list[str], roles: Iterable[str]) -> dict[str, list[str]]:
        self._seen.update(dict.fromkeys(names))
        plain = {_plain(name): name for name in reversed(names)}
        columns: dict[str, list[str]] = {}
        taken: set[str] = set()
        for role in roles:
            if role in self._named:
                wanted = self._named[role]
                chosen = [wanted] if wanted in names else [plain[_plain(wanted)]] if _plain(wanted) in plain else []
                self._met.update({role} if chosen else ())
            else:
                chosen = [plain[known] for known in _known(role) if known in plain and plain[known] not in taken][:1]
                if role == "negative":
                    chosen += [name for name in names if _NUMBERED.fullmatch(_plain(name)) and name not in chosen]
            if chosen:
                columns[role] = chosen
                taken.update(chosen)
        return columns

    def unused(self, names: Iterable[Any], roles: Iterable[str]) -> list[str]:
        """The columns that have none of the roles."""
        names = [str(name) for name in names]
        used = {name for chosen in self.of(tuple(names), tuple(roles)).values() for name in chosen}
        return [name for name in names if name not in used]

    def noted(self, rows: Iterable[Row], roles: Iterable[str], log: ReadLog) -> Iterator[Row]:
        """Yield the rows. Afterwards, note for each file the columns that hold something but have no role."""
        unused: dict[str, dict[str, None]] = {}
        for where, row in rows:
            left = [name for name in self.unused(row, roles) if name and not is_missing(row.get(name))]
            if left:
                unused.setdefault(where.rpartition(":")[0], {}).update(dict.fromkeys(left))
            yield where, row
        log.notes.extend(f"columns of {file} not used: {', '.join(names)}" for file, names in unused.items())

    def check(self) -> None:
        """Raise ConfigError for a column in collection.columns that no table had."""
        lost = {role: name for role, name in self._named.items() if role not in self._met}
        if lost:
            named = ", ".join(f"{name!r} ({role})" for role, name in lost.items())
            first = next(iter(lost.values()))
            raise ConfigError(f"collection.columns: no table has the column {named}", todo=nearest(first, self._seen))


def _known(role: str) -> tuple[str, ...]:
    ids = ("_id", "id") if role in ("doc_id", "query_id") else ()
    return (*KNOWN_NAMES[role], *ids)


def _plain(name: str) -> str:
    return re.sub(r"[-\s]+", "_", name.strip().casefold())


def no_column(missing: Iterable[str], names: Iterable[Any], where: str) -> DataError:
    """The error for a table without the columns `missing`; it lists the table's `names`."""
    missing = list(missing)
    shown = ", ".join(repr(str(name)[:40]) for name in list(names)[:12]) or "none"
    return DataError(
        f"no column {' and '.join(map(repr, missing))}; the columns are {shown}",
        where=where,
        todo=f"name {'them' if len(missing) > 1 else 'it'}: --columns {','.join(f'{name}=NAME' for name in missing)}",
    )
