"""Recognise the columns of a table by known names, or by the names in `--columns`.

    columns = ColumnNames("positive=reply")
    columns.of(("Question", "reply", "url"), PAIRS)     → {"query": ["Question"], "positive": ["reply"]}
    columns.unused(("Question", "reply", "url"), PAIRS) → ["url"]

Case does not matter, and `-` and spaces count as `_`. A role may be named several times, once for each table. A table
without these columns keeps the known names of `_SHARED` roles: `doc_id=answer_id` for pairs leaves the `_id` of their
corpus.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from syneg.core.errors import ConfigError, DataError, nearest

from .cells import is_missing
from .read_log import ReadLog
from .tables import Row

KNOWN_NAMES: dict[str, tuple[str, ...]] = {
    "query": ("query", "anchor", "question", "query_text", "search_query", "q"),
    "positive": (
        "positive", "pos", "positives", "positive_ctxs", "passage", "positive_text", "positive_passage",
        "positive_passages", "doc_text", "passage_text", "document_text", "context",
        "answer", "answers", "document", "response", "text",  # beside a passage, an answer is a few words of it
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
_WORDS = 4  # most words in the name of a column
_SHARED = ("query_id", "doc_id", "title", "text")  # roles that tables of several kinds have


class ColumnNames:
    """Column names by role. `named` is the setting collection.columns, "role=column,role=column".

    Raises ConfigError for an unknown role or a part without "=".
    """

    def __init__(self, named: str = "") -> None:
        self._named: dict[str, list[str]] = {}
        for part in filter(None, (part.strip() for part in named.split(","))):
            role, sign, column = (piece.strip() for piece in part.partition("="))
            if not sign:
                raise ConfigError(f"collection.columns: {part!r} has no '='", todo="write query=NAME,positive=NAME")
            if role not in KNOWN_NAMES:
                raise ConfigError(f"collection.columns: unknown {role!r}", todo=nearest(role, KNOWN_NAMES))
            self._named.setdefault(role, []).append(column)
        self._kept: dict[tuple[Any, ...], dict[str, list[str]]] = {}
        self._met: set[tuple[str, str]] = set()  # role and named column
        self._served: set[tuple[str, Iterable[str]]] = set()  # role, and the roles of a table with its named column
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
            chosen = self._by_name(role, names, plain)
            if chosen:
                self._served.add((role, roles))
            elif role not in self._named or (role in _SHARED and (role, roles) not in self._served):
                chosen = [plain[known] for known in _known(role) if known in plain and plain[known] not in taken][:1]
                if role == "negative":
                    chosen += [name for name in names if _NUMBERED.fullmatch(_plain(name)) and name not in chosen]
            if chosen:
                columns[role] = chosen
                taken.update(chosen)
        return columns

    def _by_name(self, role: str, names: list[str], plain: Mapping[str, str]) -> list[str]:
        """The columns of a table that collection.columns names for a role: perhaps several for negatives."""
        chosen = []
        for wanted in self._named.get(role, ()):
            found = wanted if wanted in names else plain.get(_plain(wanted))
            if found is not None:
                self._met.add((role, wanted))
                chosen.append(found)
        return chosen if role == "negative" else chosen[:1]

    def unused(self, names: Iterable[Any], roles: Iterable[str]) -> list[str]:
        """The columns that have none of the roles."""
        names = [str(name) for name in names]
        used = {name for chosen in self.of(tuple(names), tuple(roles)).values() for name in chosen}
        return [name for name in names if name not in used]

    def noted(
        self, rows: Iterable[Row], roles: Iterable[str], log: ReadLog, need: Iterable[tuple[str, ...]] = ()
    ) -> Iterator[Row]:
        """Yield the rows. Afterwards, note for each file the columns that hold something but have no role.

        Raises DataError if no row has a column of one of the groups of roles in `need`; the last one is told.
        """
        unused: dict[str, dict[str, None]] = {}
        held: set[str] = set()
        first: Row | None = None
        for where, row in rows:
            first = first or (where, row)
            held.update(self.of(row, roles))
            left = [name for name in self.unused(row, roles) if name and not is_missing(row.get(name))]
            if left:
                unused.setdefault(where.rpartition(":")[0], {}).update(dict.fromkeys(left))
            yield where, row
        if first and (missing := [group[-1] for group in need if held.isdisjoint(group)]):
            raise no_column(missing, first[1], first[0])
        if first and unused and "title" in held and "text" not in held:
            said = "has no column 'text': its titles are the passages; name another one with --columns text=NAME"
            log.notes.append(f"{first[0].rpartition(':')[0]} {said}")
        log.notes.extend(f"columns of {file} not used: {', '.join(names)}" for file, names in unused.items())

    def check(self) -> None:
        """Raise ConfigError for a column in collection.columns that no table had."""
        asked = ((role, name) for role, names in self._named.items() for name in names)
        lost = [(role, name) for role, name in asked if (role, name) not in self._met]
        if lost:
            named = ", ".join(f"{name!r} ({role})" for role, name in lost)
            todo = nearest(lost[0][1], self._seen)
            raise ConfigError(f"collection.columns: no table has the column {named}", todo=todo)


def _known(role: str) -> tuple[str, ...]:
    ids = ("_id", "id") if role in ("doc_id", "query_id") else ()
    return (*KNOWN_NAMES[role], *ids)


def _plain(name: str) -> str:
    return re.sub(r"[-\s]+", "_", name.strip().casefold())


def no_column(missing: Iterable[str], names: Iterable[Any], where: str) -> DataError:
    """The error for a table without the columns `missing`; it lists the table's `names`."""
    missing = list(missing)
    names = [*map(str, names)]
    shown = ", ".join(repr(name[:40]) for name in names[:12]) or "none"
    written = any(len(name.split()) > _WORDS for name in names)  # a first row, and no header
    return DataError(
        f"no column {' and '.join(map(repr, missing))}; the columns are {shown}",
        where=where,
        todo=f"name {'them' if len(missing) > 1 else 'it'}: --columns {','.join(f'{name}=NAME' for name in missing)}"
        + (", or write a header above the first line" if written else ""),
    )
