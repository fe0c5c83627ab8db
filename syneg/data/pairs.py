"""Read a table of your own pairs, with one query and one or several positives per row, with or without a corpus.

    question;answer;negative                          (pairs.csv)
    how do I close a socket;Call close() …;Call open() …
      → query "q-8d0e…", passages "p-51f2…" (relevant) and "p-c0aa…" (its given negative)

- Rows with the same query id (or the same text, without ids) become one query with several positives.
- A positive is looked up in the corpus by its id, its text, or its text without the title.
- If one to three passages contain the positive, they become relevant in its place.
- A positive that is nowhere in the corpus is added to it.
- Passages that contain a positive, or that it contains, are never mined as negatives of its query.
- A missing id is made from the text.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from syneg.core.errors import DataError
from syneg.core.storage import JsonObject
from syneg.core.text import normalise

from .cells import BadCell, grade_cell, id_cell, known_id, made_id, text_cell, texts_cell
from .columns import CORPUS, PAIRS, ColumnNames, no_column
from .matching import PassageIndex
from .read_log import ReadLog
from .readers import Qrel, Text
from .tables import Row, read_table

_MOST_HOLDERS = 3  # a text inside more passages than this is a common phrase, so none of them becomes relevant


@dataclass
class _Pair:
    """One usable row. `doc_id` is "" if the row has several positives or names none."""

    where: str
    query_id: str
    positives: list[str]
    doc_id: str
    negatives: list[str]
    split: str
    relevance: float


@dataclass
class _Corpus:
    """Passages by id; `bodies` are the texts without the title, for passages with a title."""

    passages: dict[str, str] = field(default_factory=dict)
    bodies: dict[str, str] = field(default_factory=dict)

    def read(self, rows: Iterable[Row], columns: ColumnNames, log: ReadLog, *, need_ids: bool = False) -> None:
        """Add passages from rows. A row needs a text; its id and title are optional. Bad rows go to `log`."""
        for where, row in columns.noted(rows, CORPUS, log):
            names = columns.of(row, CORPUS)
            try:
                parts = {role: text_cell(row[names[role][0]], role) for role in ("title", "text") if role in names}
                text = " ".join(part for part in parts.values() if part)
                doc_id = id_cell(row[names["doc_id"][0]], "id") if "doc_id" in names else ""
            except BadCell as error:
                log.problem(where, str(error))
                continue
            if not text or (need_ids and not doc_id):
                log.problem(where, f"no text (id {doc_id!r})" if not text else "no id (_id or doc_id)")
                continue
            doc_id = doc_id or made_id("p", text)
            if self.passages.setdefault(doc_id, text) != text:
                log.problem(where, f"passage id {doc_id!r} occurs twice with different texts")
            elif parts.get("title") and parts.get("text"):
                self.bodies[doc_id] = parts["text"]


def _grade_advice(unused: list[str], names: Mapping[str, list[str]], columns: ColumnNames) -> str:
    """What to do about a score that is not used. It is as often the score of a search engine as a grade."""
    score = columns.of(unused, ("score",)).get("score")
    if not score or "relevance" in names:
        return ""
    return f"if {score[0]} grades the positive, give --columns relevance={score[0]}"


class PairsReader:
    """Reads rows of pairs and, unless `corpus` is None, rows of a corpus. With `pairs` None there is a corpus alone."""

    published = False

    def __init__(
        self, name: str, pairs: Iterable[Row] | None, corpus: Iterable[Row] | None, columns: ColumnNames, log: ReadLog
    ) -> None:
        self.name, self.log = name, log
        self._corpus = _Corpus()
        if corpus is not None:
            self._corpus.read(corpus, columns, log)
            if not self._corpus.passages and not log.problems:
                raise DataError("the corpus has no passages", todo="give a row with a text for each")
        self._has_corpus = corpus is not None
        self._queries: dict[str, str] = {}
        self._query_ids: dict[str, str] = {}
        self._qrels: list[Qrel] = []
        self._negatives: dict[str, dict[str, None]] = defaultdict(dict)
        self._never_mined: dict[str, set[str]] = defaultdict(set)
        self._join([] if pairs is None else list(self._good_rows(pairs, columns)))
        if pairs is not None:
            columns.check()

    @classmethod
    def from_files(cls, path: Path, corpus: Path | None, columns: ColumnNames, encoding: str) -> PairsReader:
        """Read a file of pairs and, unless `corpus` is None, a file of passages."""
        log = ReadLog()
        passages = None if corpus is None else read_table(corpus, log, encoding)
        return cls(path.name.split(".")[0], read_table(path, log, encoding), passages, columns, log)

    def passages(self) -> Iterator[Text]:
        return iter(self._corpus.passages.items())

    def queries(self) -> Iterator[Text]:
        return iter(self._queries.items())

    def qrels(self) -> Iterator[Qrel]:
        return iter(self._qrels)

    def negatives(self) -> Mapping[str, tuple[str, ...]]:
        return {query_id: tuple(doc_ids) for query_id, doc_ids in self._negatives.items()}

    def never_mined(self) -> Mapping[str, frozenset[str]]:
        return {query_id: frozenset(doc_ids) for query_id, doc_ids in self._never_mined.items()}

    # rows

    def _good_rows(self, rows: Iterable[Row], columns: ColumnNames) -> Iterator[_Pair]:
        seen = False
        first: tuple[str, JsonObject, set[str]] | None = None
        for where, row in columns.noted(rows, PAIRS, self.log):
            names = columns.of(row, PAIRS)
            missing = {"query", "positive"} - names.keys()
            if "doc_id" in names and self._has_corpus:
                missing -= {"positive"}
            if missing:
                first = first or (where, row, missing)
                self.log.problem(where, f"no {' and no '.join(sorted(missing, reverse=True))}")
                continue
            if not seen and (advice := _grade_advice(columns.unused(row, PAIRS), names, columns)):
                self.log.notes.append(advice)
            seen = True
            try:
                yield self._pair(where, row, names)
            except BadCell as error:
                self.log.problem(where, str(error))
        if first and not seen:
            where, row, missing = first
            raise no_column(sorted(missing, reverse=True), row, where)
        if not seen and not self.log.problems:
            raise DataError(f"{self.name!r} has no rows", todo="give a header, and a row for each pair")

    def _pair(self, where: str, row: JsonObject, names: Mapping[str, list[str]]) -> _Pair:
        def cell(role: str) -> Any:
            return row[names[role][0]] if role in names else None

        query = text_cell(cell("query"), "query")
        positives = texts_cell(cell("positive"), "positive")
        doc_id = id_cell(cell("doc_id"), "doc_id")
        known = known_id(doc_id, self._corpus.passages)
        if not positives and known in self._corpus.passages:
            positives = [self._corpus.passages[known]]
        if query and doc_id and not positives:
            raise BadCell(f"no passage has the id {doc_id!r}")
        if not query or not positives:
            raise BadCell(f"empty {'query' if not query else 'positive'}")
        negatives = [text for name in names.get("negative", ()) for text in texts_cell(row[name], name)]
        relevance = grade_cell(cell("relevance"), "relevance") if "relevance" in names else 1.0
        split = id_cell(cell("split"), "split")
        if "split" in names and not split:
            raise BadCell("empty split")
        query_id = self._query_id(query, id_cell(cell("query_id"), "query_id"))
        return _Pair(where, query_id, positives, known if len(positives) == 1 else "", negatives, split, relevance)

    def _query_id(self, query: str, given: str) -> str:
        query_id = given or self._query_ids.setdefault(normalise(query), made_id("q", query))
        if normalise(self._queries.setdefault(query_id, query)) != normalise(query):
            raise BadCell(f"query id {query_id!r} occurs twice with different texts")
        self._query_ids.setdefault(normalise(query), query_id)
        return query_id

    # join with the corpus

    def _join(self, pairs: list[_Pair]) -> None:
        index = PassageIndex(self._corpus.passages, self._corpus.bodies)
        known = {text for pair in pairs for text in pair.positives if index.same(text)}
        absent = list(dict.fromkeys(text for pair in pairs for text in pair.positives if text not in known))
        holders = index.containing(absent) if self._has_corpus else {}
        pieces = index.inside(absent) if self._has_corpus else {}
        for pair in pairs:
            for text in pair.positives:
                around = (holders.get(text, []), pieces.get(text, []))
                for doc_id in self._doc_ids(pair, text, index, *around):
                    self._qrels.append(Qrel(pair.split, pair.query_id, doc_id, pair.relevance, pair.where))
                self._never_mined[pair.query_id].update(*around)
        for pair in pairs:
            for text in pair.negatives:
                doc_id = index.same(text) or made_id("p", text)
                self._corpus.passages.setdefault(doc_id, text)
                index.add(doc_id, text)
                self._negatives[pair.query_id][doc_id] = None
        if self._has_corpus and absent:
            self._say(absent, holders, len({text for pair in pairs for text in pair.positives}))

    def _doc_ids(self, pair: _Pair, text: str, index: PassageIndex, holders: list[str], pieces: list[str]) -> list[str]:
        """Ids of the passages that become relevant for a positive; add the positive to the corpus if there is none."""
        doc_id = pair.doc_id
        if doc_id and doc_id in self._corpus.passages:
            same = normalise(text) in (
                normalise(self._corpus.passages[doc_id]),
                normalise(self._corpus.bodies.get(doc_id, "")),
            )
            if same or doc_id in holders or doc_id in pieces:
                return [doc_id]
            self.log.problem(pair.where, f"passage id {doc_id!r} occurs twice with different texts")
            return []
        same_id = index.same(text)
        if same_id is not None and (not doc_id or self._has_corpus):
            return [same_id]
        if holders and len(holders) <= _MOST_HOLDERS:
            return holders
        doc_id = doc_id or made_id("p", text)
        self._corpus.passages[doc_id] = text
        index.add(doc_id, text)
        return [doc_id]

    def _say(self, absent: list[str], holders: Mapping[str, list[str]], positives: int) -> None:
        taken = sum(0 < len(holders.get(text, ())) <= _MOST_HOLDERS for text in absent)
        added = len(absent) - taken
        parts = [
            f"{taken} are contained in passages, which are relevant instead" if taken else "",
            f"{added} were added to it" if added else "",
        ]
        self.log.notes.append(
            f"{len(absent)} of {positives} positives are no passage of the corpus; {'; '.join(filter(None, parts))}"
        )
