"""Assign queries to the splits train, dev, confirm and test, and cut folds.

    split_name("Validation ")                    → "dev"
    guard(queries, {"q1": {"train", "test"}})    → ({"q1": "test"}, ["query 'q1' of train is also in test"])
    divide(["q1", …"q20"], texts, shares)        → {"train": 12 ids, "dev": 3, "confirm": 0, "test": 5}

Queries with equal texts form a group. Groups are sorted by a hash of seed and text, then cut at the shares. So shares
are exact, and adding a query moves at most one other query across each border. Test is cut first, then dev, then
confirm, so that changing the share of confirm changes only train.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Mapping

from syneg.core.errors import DataError
from syneg.core.records import SPLITS
from syneg.core.text import normalise

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "dev": "dev", "development": "dev", "val": "dev", "valid": "dev", "validation": "dev", "eval": "dev",
    "confirm": "confirm",
    "test": "test", "testing": "test",
}  # fmt: skip
MIN_QUERIES = {"train": 4, "dev": 2, "confirm": 0, "test": 2}
TELLING = {"test": 50, "dev": 30}  # queries; fewer show only large differences between arms
ORDER = ("", *SPLITS)
_MOST_QUERIES = 1000  # more queries fill no further split
_CUT_ORDER = ("test", "dev", "confirm")


def split_name(name: str, where: str = "") -> str:
    """The split that a name means, "" for an empty name. Case, spaces and endings such as in `dev_small` do not matter.

    Raises DataError for an unknown name, because its queries may be test queries.
    """
    words = re.split(r"[\s_.\-]+", name.strip().casefold())
    if words == [""]:
        return ""
    splits = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    if words[0] not in SPLIT_NAMES or len(splits) != 1:
        raise DataError(
            f"unknown split {name!r}", where=where or None, todo=f"name it one of: {', '.join(SPLIT_NAMES)}"
        )
    return splits.pop()


def check_names(names: Iterable[str], where: str) -> None:
    """Raise DataError for `eval` beside another name of dev, as in train, valid and eval: it may be the test split."""
    words = {re.split(r"[\s_.\-]+", name.strip().casefold())[0] for name in names}
    dev = sorted(word for word in words if SPLIT_NAMES.get(word) == "dev")
    if len(dev) > 1 and "eval" in dev:
        shown = " and ".join(map(repr, dev))
        raise DataError(f"{shown} would both be dev", where=where, todo="name the one that tests 'test'")


def guard(queries: Mapping[str, str], splits_of: Mapping[str, set[str]]) -> tuple[dict[str, str], list[str]]:
    """Give each query one split. If two splits share a query, by id or normalised text, the later split keeps it.

    The order is train, dev, confirm, test. Returns the split of each query, and a message for each query that was
    removed from an earlier split.
    """
    latest: dict[str, str] = {}
    for query_id, splits in splits_of.items():
        text = normalise(queries[query_id])
        latest[text] = max({latest.get(text, ""), *splits}, key=ORDER.index)
    split_of, leaks = {}, []
    for query_id, splits in splits_of.items():
        split = latest[normalise(queries[query_id])]
        if splits != {split}:
            leaks.append(f"query {query_id!r} of {' and '.join(sorted(splits - {split}))} is also in {split}")
        if split in splits:
            split_of[query_id] = split
    return split_of, leaks


def groups_by_hash(query_ids: Iterable[str], queries: Mapping[str, str], seed: int) -> list[list[str]]:
    """Group queries of equal normalised text, and sort the groups by a hash of seed and text."""
    groups: dict[str, list[str]] = {}
    for query_id in sorted(query_ids):
        groups.setdefault(normalise(queries[query_id]), []).append(query_id)
    return [
        groups[text] for text in sorted(groups, key=lambda text: hashlib.sha256(f"{seed}:{text}".encode()).digest())
    ]


def sizes(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Number of groups for each split, out of `total`. A split with a share gets at least MIN_QUERIES; train the rest.

    >>> sizes(20, {"dev": .15, "confirm": 0, "test": .25})
    {'test': 5, 'dev': 3, 'confirm': 0, 'train': 12}
    """
    counts = {}
    for split in _CUT_ORDER:
        share = shares.get(split, 0.0)
        counts[split] = max(MIN_QUERIES[split], int(share * total + 0.5)) if share else 0
    return {**counts, "train": total - sum(counts.values())}


def fewest(shares: Mapping[str, float]) -> int:
    """The fewest queries of different texts that fill every split that is cut by these shares; 0 if none do.

    >>> fewest({"dev": .15, "confirm": .1, "test": .25}), fewest({"dev": .5, "confirm": 0, "test": .5})
    (9, 0)
    """
    for total in range(1, _MOST_QUERIES):
        if all(
            count >= MIN_QUERIES[split]
            for split, count in sizes(total, shares).items()
            if shares.get(split, split == "train")
        ):
            return total
    return 0


def divide(
    query_ids: Iterable[str], queries: Mapping[str, str], shares: Mapping[str, float], seed: int
) -> dict[str, list[str]]:
    """Cut queries into train and the splits that have a share (0 to 1)."""
    groups = groups_by_hash(query_ids, queries, seed)
    return _cut(groups, sizes(len(groups), shares))


def _cut(groups: list[list[str]], counts: Mapping[str, int]) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {}
    start = 0
    for split in (*_CUT_ORDER, "train"):
        end = start + max(0, counts[split])
        splits[split] = sorted(query_id for group in groups[start:end] for query_id in group)
        start = end
    return splits


def fold_splits(
    query_ids: Iterable[str], queries: Mapping[str, str], held_out: Mapping[str, int], number: int, seed: int
) -> list[dict[str, tuple[str, ...]]]:
    """Splits of `number` folds for cross-fitting. Every query is a test query in exactly one fold.

    `held_out` is the number of groups for dev and confirm in each fold. They are the groups after the fold's test part.
    """
    groups = groups_by_hash(query_ids, queries, seed)
    borders = [round(fold * len(groups) / number) for fold in range(number + 1)]
    folds = []
    for start, end in itertools.pairwise(borders):
        turned = [*groups[start:], *groups[:start]]
        counts = {"test": end - start, "dev": held_out["dev"], "confirm": held_out["confirm"]}
        cut = _cut(turned, {**counts, "train": len(groups) - sum(counts.values())})
        folds.append({split: tuple(cut[split]) for split in SPLITS})
    return folds
