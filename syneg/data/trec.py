"""Read the files of TREC: documents in SGML, topics, and qrels of four columns.

    <DOC><DOCNO> FT-1 </DOCNO><TEXT>Sockets are …</TEXT></DOC>     →  ("docs.trec:1", "FT-1", "Sockets are …")
    <top><num> Number: 401 <title> closing sockets </top>          →  ("topics.txt:1", "401", "closing sockets")
    401 0 FT-1 2                                                   →  ("qrels.txt:1", ["401", "FT-1", "2"])

Topics may also be XML (`<topic number="1"><title>…`). Documents and topics may also be lines "id<TAB>text". The text of
a topic is its title; if it has none, its query, question or description.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TextIO

from syneg.core.errors import DataError

from .encodings import open_text
from .read_log import ReadLog

Item = tuple[str, str, str]

_FIRST_TOPIC = re.compile(r"<(top|topic)\b", re.IGNORECASE)
_DOC_ID = re.compile(r"<docno>\s*(.*?)\s*</docno>", re.IGNORECASE | re.DOTALL)
_OTHER_IDS = re.compile(r"<(docid|dochdr|docoldno)>.*?</\1>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<!--.*?-->|<!\[CDATA\[|\]\]>|</?[a-z!][^<>]*>", re.IGNORECASE | re.DOTALL)
_NUMBER = re.compile(r"""\b(?:number|id|qid)\s*=\s*["']([^"']+)["']""", re.IGNORECASE)
_GRADE = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_FIELDS = (
    "num|number|identifier|title|query|question|desc|description|narr|narrative|dom|con|fac|def|smry|topic|top|subtopic"
)
_FIELD = rf"<{{name}}\b[^>]*>\s*(?:{{label}}\s*:)?\s*(.+?)(?=</?(?:{_FIELDS})\b|\Z)"


def read_items(path: Path, log: ReadLog, encoding: str, *, topics: bool) -> Iterator[Item]:
    """Yield (file:line, id, text) of documents or topics. Entries without an id, a beginning or an end go to `log`.

    Raises DataError if the file has no entry, or ends inside one.
    """
    with open_text(path, encoding) as file:
        first = next((line for line in file if line.strip()), "")
    if not first.lstrip().startswith("<"):
        yield from _lines(path, log, encoding)
        return
    for where, head, body in _entries(path, log, encoding, _tag_of_topics(path, encoding) if topics else "doc"):
        item_id, text = _topic(head, body) if topics else _document(head, body)
        if item_id:
            yield where, item_id, text
        else:
            log.problem(where, "no number" if topics else "no <DOCNO>")


def _tag_of_topics(path: Path, encoding: str) -> str:
    with open_text(path, encoding) as file:
        return next((match[1] for line in file if (match := _FIRST_TOPIC.search(line))), "top")


def _entries(path: Path, log: ReadLog, encoding: str, tag: str) -> Iterator[Item]:
    """Yield (file:line, attributes, content) of each <tag …>content</tag>. Several may share a line."""
    begin = re.compile(rf"<{tag}\b([^>]*)>", re.IGNORECASE)
    end = re.compile(rf"</{tag}\s*>", re.IGNORECASE)
    with open_text(path, encoding) as file:
        block, start, found = "", 1, False
        for number, line in enumerate(file, 1):
            block += line
            if not end.search(line):
                continue
            *pieces, block = end.split(block)
            for count, piece in enumerate(pieces, 1):
                where = f"{path.name}:{start}" + (f", entry {count}" if count > 1 else "")
                begins = list(begin.finditer(piece))
                found |= bool(begins)
                for lost in begins[:-1]:
                    log.row(path.name)
                    log.problem(f"{where} at {lost.start()}", f"<{tag}> does not end before the next one begins")
                _outside(piece[: begins[0].start()] if begins else "", where, log)
                log.row(path.name)
                if begins:
                    yield where, begins[-1][1], piece[begins[-1].end() :]
                else:
                    log.problem(where, f"</{tag}> has no beginning")
            start = number + (not block.strip())
    if found and not begin.search(block):
        _outside(block, f"{path.name}:{start}", log)
    if begin.search(block):
        raise DataError("the file ends inside an entry", where=f"{path.name}:{start}", todo="check the file")
    if not found:
        raise DataError(f"the file has no entry <{tag}> … </{tag}>", where=path.name, todo="check the file")


def _outside(text: str, where: str, log: ReadLog) -> None:
    """Log text that stands in no entry. Tags and comments around the entries are none."""
    if lost := _plain(re.sub(r"<\?.*?\?>", " ", text, flags=re.DOTALL)):
        log.row(where.rpartition(":")[0])
        log.problem(f"{where} before", f"text in no entry: {lost[:40]!r}")


def _lines(path: Path, log: ReadLog, encoding: str) -> Iterator[Item]:
    with open_text(path, encoding) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            log.row(path.name)
            item_id, tab, text = line.strip("\r\n").partition("\t")
            if tab and item_id.strip():
                yield f"{path.name}:{number}", item_id.strip(), " ".join(text.split())
            else:
                log.problem(f"{path.name}:{number}", "is not an id, a tab and a text")


def _document(head: str, block: str) -> tuple[str, str]:
    match = _DOC_ID.search(block) or _NUMBER.search(head)
    body = _OTHER_IDS.sub(" ", _DOC_ID.sub(" ", block))
    return match[1] if match else "", _plain(body)


def _plain(text: str) -> str:
    return " ".join(html.unescape(_TAG.sub(" ", text)).split())


def _topic(head: str, block: str) -> tuple[str, str]:
    def part(name: str, label: str = "") -> str:
        match = re.search(_FIELD.format(name=name, label=label or name), block, re.IGNORECASE | re.DOTALL)
        return _plain(match[1]) if match else ""

    number = _NUMBER.search(head)
    text = part("title", "topic") or part("query") or part("question") or part("desc", "description")
    return number[1] if number else part("num", "number") or part("number") or part("identifier"), text


def read_judgements(path: Path, log: ReadLog, encoding: str, name: str) -> Iterator[tuple[str, list[str]]] | None:
    """Yield (file:line, [query id, document id, grade]); None for a file with a header."""
    with open_text(path, encoding) as file:
        line = next((line for line in file if line.strip()), "")
    separator = "\t" if line.strip().count("\t") in (2, 3) else None  # an id may hold spaces between tabs
    first = _fields(line, separator)
    if len(first) not in (3, 4) or not _GRADE.fullmatch(first[-1]):
        return None
    return _judgements(open_text(path, encoding), name, log, (separator, len(first)))


def _fields(line: str, separator: str | None) -> list[str]:
    return [field.strip() for field in line.strip().split(separator)] if line.strip() else []


def _judgements(
    opened: AbstractContextManager[TextIO], name: str, log: ReadLog, form: tuple[str | None, int]
) -> Iterator[tuple[str, list[str]]]:
    separator, width = form
    with opened as lines:
        for number, line in enumerate(lines, 1):
            fields = _fields(line, separator)
            if not fields:
                continue
            log.row(name)
            if len(fields) == width:
                yield f"{name}:{number}", [fields[0], *fields[-2:]]
            else:
                log.problem(f"{name}:{number}", f"has {len(fields)} columns, not {width}")
