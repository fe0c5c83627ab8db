"""Read the passages of a corpus from rows, for pairs that are looked up in it.

    {"_id": "d1", "title": "Sockets", "text": "Close the socket first"}
      → passages {"d1": "Sockets Close the socket first"}, bodies {"d1": 8}

The texts of a large corpus stay on disk (`syneg.data.texts`). Pairs may add passages, which memory holds.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Iterator
from functools import partial
from typing import cast

from .cells import BadCell, id_cell, made_id, text_cell
from .columns import CORPUS, ColumnNames
from .read_log import ReadLog
from .readers import Text
from .tables import Row
from .texts import kept


class Corpus:
    """Passages by id: `given` are those of the rows, `passages` also those that are added to it.

    `bodies` says where the text begins in a passage that has a title.
    """

    def __init__(self, rows: Iterable[Row], columns: ColumnNames, log: ReadLog) -> None:
        """Read passages from rows. A row needs a text; its id and title are optional. Bad rows go to `log`."""
        self.bodies: dict[str, int] = {}
        self._where, self._clashes = "", False
        self.given = kept(self._good(rows, columns, log), partial(self._twice, log))
        self.passages = ChainMap({}, cast("dict[str, str]", self.given))

    def __iter__(self) -> Iterator[Text]:
        yield from self.given.items()
        yield from self.passages.maps[0].items()

    def _good(self, rows: Iterable[Row], columns: ColumnNames, log: ReadLog) -> Iterator[Text]:
        for where, row in columns.noted(rows, CORPUS, log, [("title", "text")]):
            names = columns.of(row, CORPUS)
            try:
                parts = {role: text_cell(row[names[role][0]], role) for role in ("title", "text") if role in names}
                text = " ".join(part for part in parts.values() if part)
                doc_id = id_cell(row[names["doc_id"][0]], "id") if "doc_id" in names else ""
            except BadCell as error:
                log.problem(where, str(error))
                continue
            if not text:
                log.problem(where, f"no text (id {doc_id!r})")
                continue
            doc_id = doc_id or made_id("p", text)
            self._where, self._clashes = where, False
            yield doc_id, text
            if not self._clashes and parts.get("title") and parts.get("text"):
                self.bodies[doc_id] = len(text) - len(parts["text"])

    def _twice(self, log: ReadLog, doc_id: str) -> None:
        self._clashes = True
        log.problem(self._where, f"passage id {doc_id!r} occurs twice with different texts")
