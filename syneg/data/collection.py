"""Load a collection: passages, queries, graded qrels, and the splits train, dev, confirm and test.

    load_collection(CollectionConfig(dataset="python-docs"), seed=0)
      → Collection(name="python-docs", passages={5171}, queries={2087}, splits={train: 1045, dev: 313, …})

No two splits share a query, by id or by normalised text. A split that the data set lacks is cut out of train; out of
all queries if the set names no splits; out of dev if it has only dev and test (`syneg.data.splits`). Test queries of a
data set are never trained on. `collection.divide_test` permits it for your own set if it has test queries only.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from syneg.core.config import CollectionConfig
from syneg.core.counts import counted, part_of
from syneg.core.errors import DataError, OnlyTestError, collected
from syneg.core.records import SPLITS, Pair
from syneg.core.text import encodable, is_blank

from .cells import known_id
from .grades import grade_of, how_to_fill, leave_out_unanswered, relevant_of
from .readers import Reader, Text
from .same import Unknown, equal_queries, never_mined
from .sources import open_reader
from .splits import MIN_QUERIES, TELLING, check_names, divide, fold_splits, guard, split_name
from .texts import kept


@dataclass(frozen=True)
class Collection:
    """Passages and queries by id, grades `qrels[query_id][doc_id]`, and the query ids of each split.

    - A passage with a grade of at least `min_relevance` is relevant. A lower grade over 0 still gains in nDCG. Negative
      grades are stored as 0.
    - `problems` are messages on rows that were left out, `leaks` on queries that were removed from an earlier split,
      `notes` on repairs of usable rows.
    - `given_negatives` maps a query to passages that the source names as its negatives.
    - `never_mined` maps a query to passages that are neither positives nor negatives, such as pieces of a positive, or
      the positives of another query with the same text.
    - `drawn` names the splits that were cut here, by `seed`.
    """

    name: str
    passages: Mapping[str, str]
    queries: dict[str, str]
    qrels: dict[str, dict[str, float]]
    splits: dict[str, tuple[str, ...]]
    problems: tuple[str, ...] = field(default=())
    leaks: tuple[str, ...] = field(default=())
    notes: tuple[str, ...] = field(default=())
    given_negatives: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    never_mined: Mapping[str, frozenset[str]] = field(default_factory=dict)
    drawn: frozenset[str] = field(default=frozenset())
    seed: int = 0
    min_relevance: float = 1.0

    def __repr__(self) -> str:
        splits = ", ".join(f"{split}: {len(ids)}" for split, ids in self.splits.items())
        return f"Collection({self.name!r}, passages: {len(self.passages)}, queries: {len(self.queries)} ({splits}))"

    def relevant(self, query_id: str) -> set[str]:
        """Ids of all passages judged relevant to the query."""
        return relevant_of(self.qrels[query_id], self.min_relevance)

    def no_negative(self, query_id: str) -> set[str]:
        """Ids of all passages that are never mined for the query: the relevant ones, and pieces of its positives."""
        return self.relevant(query_id) | self.never_mined.get(query_id, frozenset())

    def relevant_texts(self, query_id: str) -> tuple[str, ...]:
        """Texts of all passages judged relevant to the query, by descending grade, then by id."""
        return tuple(self.passages[doc_id] for doc_id in self._ranked(query_id))

    def answers(self, query_id: str) -> tuple[str, ...]:
        """Texts of all passages judged relevant to the query, or to another query with the same text."""
        return tuple(text for asked in self._equal.get(query_id, (query_id,)) for text in self.relevant_texts(asked))

    @cached_property
    def _equal(self) -> dict[str, list[str]]:
        return equal_queries(self.queries)

    def pairs(self, split: str) -> list[Pair]:
        """One pair for each query of the split, in a fixed order that does not depend on a seed."""
        pairs = []
        for query_id in self.splits[split]:
            best = self._ranked(query_id)[0]
            texts = self.relevant_texts(query_id)
            pairs.append(Pair(query_id, self.queries[query_id], best, self.passages[best], texts))
        return pairs

    def _ranked(self, query_id: str) -> list[str]:
        return sorted(self.relevant(query_id), key=lambda doc_id: (-self.qrels[query_id][doc_id], doc_id))

    @property
    def wants_folds(self) -> bool:
        """Whether to test in folds: the test split was cut here and has under 50 queries."""
        return "test" in self.drawn and len(self.splits["test"]) < TELLING["test"]

    def folds(self, number: int = 5) -> tuple[Collection, ...]:
        """Copies of the collection with other splits. Every query is a test query in exactly one of `number` copies.

        Raises DataError if the data set has a test split of its own.
        """
        if "test" not in self.drawn:
            raise DataError(
                f"{self.name!r} has a test split of its own, so it needs no folds", todo="set evaluate.folds=0"
            )
        cut = [query_id for split in (*self.drawn, "train") for query_id in self.splits[split]]
        held_out = {split: len(self.splits[split]) if split in self.drawn else 0 for split in ("dev", "confirm")}
        own = {split: ids for split, ids in self.splits.items() if split not in (*self.drawn, "train")}
        return tuple(
            replace(self, splits={split: (*own.get(split, ()), *splits[split]) for split in SPLITS})
            for splits in fold_splits(cut, self.queries, held_out, number, self.seed)
        )

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that stages depend on: texts, qrels, splits, given negatives and `never_mined`."""
        digest = hashlib.sha256()
        never = {query_id: sorted(doc_ids) for query_id, doc_ids in self.never_mined.items()}
        for part in (self.passages, self.queries, self.qrels, self.splits, self.given_negatives, never):
            for key in sorted(part):  # no list of all texts
                digest.update(json.dumps([key, part[key]], sort_keys=True, ensure_ascii=False).encode())
            digest.update(b"\0")
        return digest.hexdigest()[:16]


def load_collection(config: CollectionConfig, seed: int = 0) -> Collection:
    """Read, check and split a data set.

    Raises DataError, which lists every problem, for too many bad rows, a query in two splits, or a split that is too
    small.
    """
    return read_collection(open_reader(config), config, seed)


def read_collection(reader: Reader, config: CollectionConfig, seed: int = 0) -> Collection:
    """Read, check and split the data of an open `reader`; raises like `load_collection`."""
    passages = _texts(reader, reader.passages(), "passage")
    if not passages:
        reader.log.check(0.0)
        raise DataError(f"the corpus of {reader.name!r} has no passage", where=config.dataset, todo="check the file")
    queries = _texts(reader, reader.queries(), "query")
    lowest = 1.0 if config.min_relevance is None else config.min_relevance
    qrels, splits_of = _judged(reader, queries, passages, config.min_relevance)
    reader.log.check(config.max_bad_rows)
    lower = leave_out_unanswered(qrels, splits_of, lowest, len(queries), reader)
    split_of, leaks = guard(queries, splits_of)
    if leaks and (config.on_leak == "fail" or (config.on_leak == "auto" and not reader.published)):
        raise DataError(
            collected(f"split guard: {len(leaks)} of the queries of {reader.name!r} are in two splits", leaks),
            todo="correct the files, or drop these queries from the earlier split: --set collection.on_leak=drop",
        )
    splits, drawn = _split(reader, split_of, queries, (config, seed), lower)
    used = {query_id for ids in splits.values() for query_id in ids}
    given = {query_id: doc_ids for query_id, doc_ids in reader.negatives().items() if query_id in used}
    negatives = {q: tuple(d for d in ids if qrels[q].get(d, 0) < lowest) for q, ids in given.items()}
    if relevant := sum(map(len, given.values())) - sum(map(len, negatives.values())):
        reader.log.notes.append(f"{relevant} given negatives are judged relevant to their query; they are left out")
    collection = Collection(
        reader.name,
        passages,
        {query_id: text for query_id, text in queries.items() if query_id in used},
        {query_id: dict(docs) for query_id, docs in qrels.items() if query_id in used},
        splits,
        tuple(reader.log.problems),
        tuple(leaks),
        tuple(reader.log.notes),
        {query_id: doc_ids for query_id, doc_ids in negatives.items() if doc_ids},
        never_mined(reader.never_mined(), {q: queries[q] for q in used}, lambda q: relevant_of(qrels[q], lowest)),
        drawn,
        seed,
        lowest,
    )
    if all(len(collection.relevant(query_id)) == len(passages) for query_id in splits["train"]):
        raise DataError(
            f"every passage of {reader.name!r} ({len(passages)}) is relevant to every train query",
            where=config.dataset, todo="give more passages: there is nothing to tell apart",
        )  # fmt: skip
    return collection


def _texts(reader: Reader, stream: Iterator[Text], what: str) -> Mapping[str, str]:
    where = f"{'queries' if what == 'query' else 'passages'} of {reader.name}"

    def good() -> Iterator[Text]:
        for key, text in stream:
            key, text = encodable(key), encodable(text)
            reader.log.row(where)
            if is_blank(text):
                reader.log.problem(f"{where}:{key}", "is empty")
            else:
                yield key, text

    def twice(key: str) -> None:
        reader.log.problem(f"{where}:{key}", f"{what} id {key!r} occurs twice with different texts")

    return kept(good(), twice)


def _judged(
    reader: Reader, queries: Mapping[str, str], passages: Mapping[str, str], lowest: float | None
) -> tuple[dict[str, dict[str, float]], dict[str, set[str]]]:
    """Return `qrels[query_id][doc_id]` and the split names of each query."""
    qrels: dict[str, dict[str, float]] = defaultdict(dict)
    splits_of: dict[str, set[str]] = defaultdict(set)
    named: set[str] = set()
    names: dict[str, str] = {}
    twice: set[tuple[str, str]] = set()
    unknown = Unknown({"query": queries, "passage": passages})
    for row in reader.qrels():
        query_id, doc_id = known_id(row.query_id, queries), known_id(row.doc_id, passages)
        grade = grade_of(row.relevance, lowest)
        if query_id not in queries or doc_id not in passages:
            lost = ("query", query_id) if query_id not in queries else ("passage", doc_id)
            reader.log.problem(row.where, unknown(*lost))
        elif grade is None:
            what = f"score {row.relevance:g} is a fraction; set collection.min_relevance to read fractions"
            reader.log.problem(row.where, what)
        else:
            if row.split not in names:
                names[row.split] = split_name(row.split, row.where)
            if qrels[query_id].get(doc_id, grade) != grade:
                twice.add((query_id, doc_id))
            qrels[query_id][doc_id] = max(grade, qrels[query_id].get(doc_id, grade))
            splits_of[query_id].add(names[row.split])
        named.add(query_id)
    if not reader.published:
        check_names(names, reader.name)
    if unjudged := sum(query_id not in named for query_id in queries):
        said = part_of(unjudged, len(queries), "query", "has no judgement and is", "have no judgement and are")
        reader.log.notes.append(f"{said} left out")
    if twice:
        example = "query {!r} and passage {!r}".format(*min(twice))
        said = counted(len(twice), "pair of query and passage has", "pairs of query and passage have")
        reader.log.notes.append(f"{said} two grades, such as {example}: the higher grade counts")
    return qrels, splits_of


def _split(
    reader: Reader,
    split_of: Mapping[str, str],
    queries: Mapping[str, str],
    settings: tuple[CollectionConfig, int],
    lower: Mapping[str, int],
) -> tuple[dict[str, tuple[str, ...]], frozenset[str]]:
    """Return the query ids of the four splits, and the names of the splits that were cut here.

    `lower` counts the queries of each split that `min_relevance` left out.
    """
    config, seed = settings
    given = set(split_of.values())
    source = next((name for name in ("train", "", "dev", "test") if name in given), "train")
    if source == "test" and (reader.published or not config.divide_test):
        raise OnlyTestError(
            f"{reader.name!r} has only test queries, and these are not trained on",
            todo="give a data set with train queries" + ("" if reader.published else _HOW_TO_DIVIDE),
        )
    shares = {"dev": config.dev, "confirm": config.confirm, "test": config.test}
    wanted = {split: share for split, share in shares.items() if split not in given or split == source}
    pool = [query_id for query_id, split in split_of.items() if split in (source, "")]
    splits = {split: [q for q, own in sorted(split_of.items()) if own == split and split != source] for split in SPLITS}
    for split, query_ids in divide(pool, queries, wanted, seed).items():
        splits[split] += query_ids
    if source == "dev":
        reader.log.notes.append(f"no train split: {len(splits['train'])} of {len(pool)} dev queries become train")
    for split, least in MIN_QUERIES.items():
        if len(splits[split]) < least:
            counts = ", ".join(f"{name} {len(ids)}" for name, ids in splits.items())
            raise DataError(
                f"{reader.name!r} leaves {len(splits[split])} queries with a relevant passage for {split} ({counts})",
                todo=how_to_fill(split, wanted, source, lower),
            )
    return {split: tuple(sorted(ids)) for split, ids in splits.items()}, frozenset(wanted)


_HOW_TO_DIVIDE = ", or divide this one: --set collection.divide_test=true"
