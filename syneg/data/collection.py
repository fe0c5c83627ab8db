"""A collection in memory: passages, queries, graded qrels and four splits that the split guard has checked.

    load_collection(CollectionConfig(dataset="python-docs"), seed=0)
      → Collection(name="python-docs", passages={5171}, queries={2087}, splits={train: 1045, dev: 310, …})

Train, dev, confirm and test never share a query, by id or by normalised text. A split that the set does not have is
cut out of train (or, where there is only one, out of everything) by a hash of seed and query text, so that it does not
change when queries are added.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from syneg.core.config import CollectionConfig
from syneg.core.errors import DataError, collected
from syneg.core.records import SPLITS, Pair, fingerprint
from syneg.core.text import encodable, normalise

from .readers import Reader, Text, open_reader

_ORDER = ("", *SPLITS)
MIN_QUERIES = {"train": 4, "dev": 2, "confirm": 0, "test": 2}


@dataclass(frozen=True)
class Collection:
    """Passages and queries by id, `qrels[query_id][doc_id]` > 0 for relevant, query ids per split."""

    name: str
    passages: dict[str, str]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]
    splits: dict[str, tuple[str, ...]]
    problems: tuple[str, ...] = field(default=())
    leaks: tuple[str, ...] = field(default=())

    def relevant(self, query_id: str) -> set[str]:
        """Ids of all passages judged relevant to the query, of any grade."""
        return {doc_id for doc_id, grade in self.qrels[query_id].items() if grade > 0}

    def relevant_texts(self, query_id: str) -> tuple[str, ...]:
        """Texts of all passages judged relevant to the query: the highest grade first, ties in the order of ids."""
        return tuple(self.passages[doc_id] for doc_id in self._ranked(query_id))

    def pairs(self, split: str) -> list[Pair]:
        """One pair for each query of the split, with all its positives, in a fixed order that no seed changes."""
        pairs = []
        for query_id in self.splits[split]:
            best = self._ranked(query_id)[0]
            texts = self.relevant_texts(query_id)
            pairs.append(Pair(query_id, self.queries[query_id], best, self.passages[best], texts))
        return pairs

    def _ranked(self, query_id: str) -> list[str]:
        return sorted(self.relevant(query_id), key=lambda doc_id: (-self.qrels[query_id][doc_id], doc_id))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything a stage can depend on: texts, qrels and splits."""
        return fingerprint(self.passages, self.queries, self.qrels, {k: list(v) for k, v in self.splits.items()})


def load_collection(config: CollectionConfig, seed: int = 0) -> Collection:
    """Read, check and split; raises DataError with every problem when there are too many, or a split is empty."""
    reader = open_reader(config.dataset, config.corpus)
    passages = _texts(reader, reader.passages(), "passage")
    if not passages:
        _check_problems(reader, 0.0, len(reader.problems))
        raise DataError(f"the corpus of {reader.name!r} has no passage", where=config.dataset, todo="check the file")
    queries = _texts(reader, reader.queries(), "query")
    qrels: dict[str, dict[str, int]] = defaultdict(dict)
    split_of: dict[str, set[str]] = defaultdict(set)
    judgements = 0
    for row in reader.qrels():
        judgements += 1
        if row.query_id not in queries or row.doc_id not in passages:
            unknown = f"query {row.query_id!r}" if row.query_id not in queries else f"passage {row.doc_id!r}"
            reader.problems.append(f"{row.where} names the unknown {unknown}")
            continue
        qrels[row.query_id][row.doc_id] = max(row.relevance, qrels[row.query_id].get(row.doc_id, row.relevance))
        split_of[row.query_id].add(row.split)
    for query_id in [query_id for query_id, docs in qrels.items() if max(docs.values()) <= 0]:
        reader.problems.append(f"query {query_id!r} has no relevant passage")
        del qrels[query_id], split_of[query_id]
    _check_problems(reader, config.max_bad_rows, len(passages) + len(queries) + judgements)
    one_split, leaks = _guard(queries, split_of)
    if leaks and (config.on_leak == "fail" or (config.on_leak == "auto" and not reader.published)):
        raise DataError(
            collected(f"split guard: {len(leaks)} of the queries of {reader.name!r} stand in two splits", leaks),
            todo="mend the set, or drop them from the earlier split with --set collection.on_leak=drop",
        )
    splits = _split(one_split, queries, config, seed)
    used = {query_id for ids in splits.values() for query_id in ids}
    queries = {query_id: text for query_id, text in queries.items() if query_id in used}
    kept = {query_id: dict(docs) for query_id, docs in qrels.items() if query_id in used}
    for split, least in MIN_QUERIES.items():
        if len(splits[split]) < least:
            counts = ", ".join(f"{name} {len(ids)}" for name, ids in splits.items())
            raise DataError(
                f"{reader.name!r} leaves {len(splits[split])} queries with a relevant passage for {split} ({counts})",
                todo="give more pairs, or set collection.dev, collection.confirm and collection.test",
            )
    return Collection(reader.name, passages, queries, kept, splits, tuple(reader.problems), tuple(leaks))


def _texts(reader: Reader, stream: Iterator[Text], what: str) -> dict[str, str]:
    texts: dict[str, str] = {}
    for key, text in ((encodable(key), encodable(text)) for key, text in stream):
        if not text.strip():
            reader.problems.append(f"{what} {key!r} is empty")
        elif texts.setdefault(key, text) != text:
            reader.problems.append(f"{what} id {key!r} stands twice with different texts")
    return texts


def _check_problems(reader: Reader, share: float, rows: int) -> None:
    if len(reader.problems) > share * rows:
        raise DataError(
            collected(f"{len(reader.problems)} bad row(s) of {rows} in {reader.name!r}", reader.problems),
            todo=f"mend them, or allow more than {share:.0%} with --set collection.max_bad_rows=0.1",
        )


def _guard(queries: dict[str, str], split_of: dict[str, set[str]]) -> tuple[dict[str, str], list[str]]:
    """The split guard: (query_id → its one split, what leaks); of two splits that share a query the later keeps it."""
    latest: dict[str, str] = {}
    for query_id, found in split_of.items():
        text = normalise(queries[query_id])
        latest[text] = max({latest.get(text, ""), *found}, key=_ORDER.index)
    one, leaks = {}, []
    for query_id, found in split_of.items():
        split = latest[normalise(queries[query_id])]
        if found != {split}:
            leaks.append(f"query {query_id!r} of {' and '.join(sorted(found - {split}))} stands in {split} too")
        if split in found:
            one[query_id] = split
    return one, leaks


def _split(
    split_of: dict[str, str], queries: dict[str, str], config: CollectionConfig, seed: int
) -> dict[str, tuple[str, ...]]:
    given = set(split_of.values())
    source = "train" if given & {"train", ""} or not given else max(given, key=_ORDER.index)
    shares = {"dev": config.dev, "confirm": config.confirm, "test": config.test}
    wanted = [(split, share) for split, share in shares.items() if split not in given or split == source]
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    for query_id, split in sorted(split_of.items()):
        if (split or "train") == source:
            split = _draw(normalise(queries[query_id]), wanted, seed)
        splits[split].append(query_id)
    return {split: tuple(ids) for split, ids in splits.items()}


def _draw(text: str, wanted: list[tuple[str, float]], seed: int) -> str:
    draw = int.from_bytes(hashlib.sha256(f"{seed}:{text}".encode()).digest()[:8], "big") / 2**64
    for split, share in wanted:
        if draw < share:
            return split
        draw -= share
    return "train"
