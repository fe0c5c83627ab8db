"""Read a table of your own pairs, with one query and one or several positives per row, with or without a corpus.

    question;answer;negative                          (pairs.csv)
    how do I close a socket;Call close() …;Call open() …
      → query "q-8d0e…", passages "p-51f2…" (relevant) and "p-c0aa…" (its given negative)

- Rows with the same query id (or the same text, without ids) become one query with several positives.
- A positive is looked up in the corpus by its id, its text, or its text without the title. So is a negative.
- If one to three passages contain the positive, they become relevant in its place.
- A positive that is nowhere in the corpus is added to it.
- Passages that contain a positive, or that it contains, are never mined as negatives of its query.
- A missing id is made from the text.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from syneg.core.counts import counted, part_of
from syneg.core.errors import DataError
from syneg.core.storage import JsonObject
from syneg.core.text import normalise

from .cells import BadCell, grade_cell, id_cell, ids_cell, known_id, made_id, passages_cell, text_cell
from .columns import PAIRS, ColumnNames, no_column
from .corpus_rows import Corpus
from .matching import PassageIndex
from .read_log import ReadLog
from .readers import Qrel, Text
from .same import Unknown
from .tables import Row, read_table

_MOST_HOLDERS = 3  # a text inside more passages than this is a common phrase, so none of them becomes relevant


@dataclass
class _Pair:
    """One usable row. Positives and negatives are (id, text); the id is "" if the row names none.

    The split is None if the row has a column for it that is empty.
    """

    where: str
    query_id: str
    positives: list[Text]
    negatives: list[Text]
    split: str | None
    relevance: float


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
        self._corpus = Corpus(corpus or (), columns, log)
        if corpus is not None and not self._corpus.passages and not log.problems:
            raise DataError("the corpus has no passages", todo="give a row with a text for each")
        self._has_corpus = corpus is not None
        self._unknown = Unknown({"passage": self._corpus.passages})
        self._ids_alone = 0  # passages that rows name by their id alone, without a text
        self._queries: dict[str, str] = {}
        self._query_ids: dict[str, str] = {}
        self._qrels: list[Qrel] = []
        self._negatives: dict[str, dict[str, None]] = defaultdict(dict)
        self._never_mined: dict[str, set[str]] = defaultdict(set)
        self._join([] if pairs is None else self._in_splits(list(self._good_rows(pairs, columns))))
        if self._ids_alone:
            log.notes.append(f"{self._ids_alone} positives and negatives are ids of passages")
        if pairs is not None:
            columns.check()

    @classmethod
    def from_files(cls, path: Path, corpus: Path | None, columns: ColumnNames, encoding: str) -> PairsReader:
        """Read a file of pairs and, unless `corpus` is None, a file of passages."""
        log = ReadLog()
        passages = None if corpus is None else read_table(corpus, log, encoding)
        return cls(path.name.split(".")[0], read_table(path, log, encoding), passages, columns, log)

    def passages(self) -> Iterator[Text]:
        return iter(self._corpus)

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
        positives = self._named(passages_cell(cell("positive"), "positive", numbers=self._has_corpus))
        if positives:
            doc_id = id_cell(cell("doc_id"), "doc_id")
            if len(positives) == 1 and doc_id:
                positives = [(known_id(doc_id, self._corpus.passages), positives[0][1])]
        elif query:
            positives = self._named([(doc_id, "") for doc_id in ids_cell(cell("doc_id"), "doc_id")])
        if not query or not positives:
            raise BadCell(f"empty {'query' if not query else 'positive'}")
        cells = (passages_cell(row[name], name, numbers=self._has_corpus) for name in names.get("negative", ()))
        negatives = [passage for passages in cells for passage in self._named(passages)]
        relevance = grade_cell(cell("relevance"), "relevance") if "relevance" in names else 1.0
        split = id_cell(cell("split"), "split") or (None if "split" in names else "")
        query_id = self._query_id(query, id_cell(cell("query_id"), "query_id"))
        return _Pair(where, query_id, positives, negatives, split, relevance)

    def _in_splits(self, pairs: list[_Pair]) -> list[_Pair]:
        """The pairs without those whose split is empty, unless no row names a split."""
        if not any(pair.split for pair in pairs):
            return pairs
        kept = [pair for pair in pairs if pair.split is not None]
        for pair in pairs:
            if pair.split is None:
                self.log.problem(pair.where, "empty split")
        for query_id in {pair.query_id for pair in pairs} - {pair.query_id for pair in kept}:
            del self._queries[query_id]
        return kept

    def _named(self, passages: list[Text]) -> list[Text]:
        """The passages of a cell with their texts. An id alone, or a text that is an id of the corpus, is looked up.

        Raises BadCell for an id alone that the corpus does not have.
        """
        known = self._corpus.passages
        named = []
        for doc_id, text in passages:
            found = known_id(doc_id or text, known)
            self._ids_alone += found in known and not (doc_id and text)
            if not text and found not in known:
                raise BadCell(f"no passage has the id {doc_id!r}{self._unknown.hint('passage', doc_id)}")
            named.append((found, text if doc_id and text else known[found]) if found in known else (doc_id, text))
        return named

    def _query_id(self, query: str, given: str) -> str:
        query_id = given or self._query_ids.setdefault(normalise(query), made_id("q", query))
        if normalise(self._queries.setdefault(query_id, query)) != normalise(query):
            raise BadCell(f"query id {query_id!r} occurs twice with different texts")
        self._query_ids.setdefault(normalise(query), query_id)
        return query_id

    # join with the corpus

    def _join(self, pairs: list[_Pair]) -> None:
        texts = dict.fromkeys(text for pair in pairs for _, text in pair.positives)
        negatives = (text for pair in pairs for _, text in pair.negatives)
        index = PassageIndex(self._corpus.given, self._corpus.bodies, chain(texts, negatives))
        absent = [text for text in texts if not index.same(text)]
        holders, pieces = index.around(absent)
        for pair in pairs:
            for named, text in pair.positives:
                around = (holders.get(text, []), pieces.get(text, []))
                for doc_id in self._doc_ids(pair.where, (named, text), index, *around):
                    self._qrels.append(Qrel(pair.split or "", pair.query_id, doc_id, pair.relevance, pair.where))
                self._never_mined[pair.query_id].update(*around)
        for pair in pairs:
            for named, text in pair.negatives:
                if named in self._corpus.passages and not self._is(named, text):
                    self.log.problem(pair.where, f"passage id {named!r} occurs twice with different texts")
                    continue
                doc_id = named if named in self._corpus.passages else index.same(text) or named or made_id("p", text)
                self._corpus.passages.setdefault(doc_id, text)
                index.add(doc_id, text)
                self._negatives[pair.query_id][doc_id] = None
        if self._has_corpus and absent:
            self._say(absent, holders, len(texts))

    def _is(self, doc_id: str, text: str) -> bool:
        """Whether a passage has a text, with or without its title."""
        own, body = self._corpus.passages[doc_id], self._corpus.bodies.get(doc_id, 0)
        return normalise(text) in (normalise(own), normalise(own[body:]))

    def _doc_ids(
        self, where: str, positive: Text, index: PassageIndex, holders: list[str], pieces: list[str]
    ) -> list[str]:
        """Ids of the passages that become relevant for a positive; add the positive to the corpus if there is none."""
        doc_id, text = positive
        if doc_id and doc_id in self._corpus.passages:
            if self._is(doc_id, text) or doc_id in holders or doc_id in pieces:
                return [doc_id]
            self.log.problem(where, f"passage id {doc_id!r} occurs twice with different texts")
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
            f"{counted(taken, 'is', 'are')} contained in passages, which are relevant instead" if taken else "",
            f"{counted(added, 'was', 'were')} added to it" if added else "",
        ]
        self.log.notes.append(
            f"{part_of(len(absent), positives, 'positive', 'is', 'are')} no passage of the corpus; "
            f"{'; '.join(filter(None, parts))}"
        )
