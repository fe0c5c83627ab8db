"""Keep the texts of a large corpus in one memory-mapped file, behind the interface of a dict.

    texts = kept([("d1", "close a socket"), …], twice)     a dict below IN_MEMORY characters, else Texts
    texts["d1"]                                            → "close a socket", read from the file

Memory holds the ids and an offset of 8 bytes for each text. The file has no name and lies in the cache folder: the
system removes it when the process ends, also after a crash. Texts cannot be changed.
"""

from __future__ import annotations

import mmap
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from random import Random
from typing import Any

from syneg.core.storage import nameless_file

IN_MEMORY = 10**8
"""Characters from which a corpus goes to a file."""
_ITEM = tuple[str, str]


class Texts(Mapping[str, str]):
    """id → text, in the order in which they were added. `places` are positions by id; text i is `file[starts[i] :
    starts[i + 1]]` in UTF-8."""

    def __init__(self, places: dict[str, int], starts: array[int], file: mmap.mmap) -> None:
        self._places, self._starts, self._file = places, starts, file

    def __getitem__(self, key: str) -> str:
        place = self._places[key]
        return self._file[self._starts[place] : self._starts[place + 1]].decode()

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __reduce__(self) -> tuple[Any, ...]:
        """For another machine: all texts, which it writes to a file of its own."""
        return _restored, (dict(self),)


def kept(items: Iterable[_ITEM], twice: Callable[[str], None]) -> Mapping[str, str]:
    """Keep (id, text) by id, the first text of each id. `twice` is called with an id that comes with another text."""
    texts: dict[str, str] = {}
    size, rest = 0, iter(items)
    for key, text in rest:
        if texts.setdefault(key, text) != text:
            twice(key)
        size += len(text)
        if size >= IN_MEMORY:
            return _stored(_first_and(texts, rest), twice)
    return texts


def sample(texts: Mapping[str, str], count: int, draw: Random) -> list[_ITEM]:
    """Draw up to `count` different (id, text); no other text is read."""
    return [(key, texts[key]) for key in draw.sample(list(texts), min(count, len(texts)))]


def _first_and(texts: dict[str, str], rest: Iterator[_ITEM]) -> Iterator[_ITEM]:
    """Yield the texts and free them, then yield the rest."""
    yield from texts.items()
    texts.clear()
    yield from rest


def _stored(items: Iterable[_ITEM], twice: Callable[[str], None]) -> Texts:
    places: dict[str, int] = {}
    starts = array("q", [0])
    with nameless_file() as file:
        for key, text in items:
            data, place = text.encode(), places.setdefault(key, len(places))
            if place == len(starts) - 1:
                file.write(data)
                starts.append(starts[-1] + len(data))
                continue
            file.seek(starts[place])
            if file.read(starts[place + 1] - starts[place]) != data:
                twice(key)
            file.seek(0, os.SEEK_END)
        file.flush()
        return Texts(places, starts, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _restored(texts: dict[str, str]) -> Texts:
    return _stored(texts.items(), lambda _: None)
