"""Find queries with one text and several ids, and ids that are written in two ways.

never_mined({}, {"q1": "close a file", "q2": "Close a file."}, relevant)  → {"q1": {positives of q2}, "q2": …}
Unknown({"passage": {"007": …}})("passage", "7")                          → "names the unknown passage '7'; there …"
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from syneg.core.text import normalise

from .cells import near_id


def never_mined(
    pieces: Mapping[str, frozenset[str]], queries: Mapping[str, str], relevant: Callable[[str], set[str]]
) -> dict[str, frozenset[str]]:
    """For each of `queries`, its `pieces` and what is relevant to other queries of the same text, if there are any.

    Quora and forums ask one question under several ids, each with positives of its own.
    """
    never = {query_id: set(pieces.get(query_id, ())) for query_id in queries}
    for query_id, query_ids in equal_queries(queries).items():
        never[query_id] |= set().union(*map(relevant, query_ids)) - relevant(query_id)
    return {query_id: frozenset(doc_ids) for query_id, doc_ids in never.items() if doc_ids}


def equal_queries(queries: Mapping[str, str]) -> dict[str, list[str]]:
    """For each query whose text others have, too: the ids of all of them, its own included.

    >>> equal_queries({"a": "Close it.", "b": "close it", "c": "open it"})
    {'a': ['a', 'b'], 'b': ['a', 'b']}
    """
    equal: dict[str, list[str]] = defaultdict(list)
    for query_id, text in queries.items():
        equal[normalise(text)].append(query_id)
    return {query_id: ids for ids in equal.values() if len(ids) > 1 for query_id in ids}


class Unknown:
    """Says that an id is unknown, and names the known id that is nearly the same. It never uses that one instead."""

    def __init__(self, known: Mapping[str, Iterable[str]]) -> None:
        """`known` are the ids of each kind, such as "passage"."""
        self._known = known
        self._near: dict[str, dict[str, str]] = {}

    def __call__(self, kind: str, key: str) -> str:
        """What is wrong with a row that names the unknown `key` of this kind."""
        return f"names the unknown {kind} {key!r}{self.hint(kind, key)}"

    def hint(self, kind: str, key: str) -> str:
        """Name the id that is nearly `key`, after a semicolon; "" for none."""
        if kind not in self._near:  # made for the first unknown id: most collections have none
            self._near[kind] = {near_id(own): own for own in self._known[kind]}
        near = self._near[kind].get(near_id(key)) if near_id(key) else None
        return f"; there is {near!r}" if near is not None else ""
