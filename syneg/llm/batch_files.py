"""Generate without calls: export the requests as a file, import the answers from a file (OpenAI's Batch format).

    syneg-dspy generate --batch export requests.jsonl     each line {"custom_id": "5f0c…", "url": …, "body": {…}}
    syneg-dspy generate --batch import results.jsonl      each line {"custom_id": "5f0c…", "response": {…}}

During an export an LM call that the ledger cannot answer becomes a line of the file, and its pair is left for later. A
program with several steps, a second attempt and a judge therefore take several rounds: each import is followed by an
export of the next requests, until there are none. `custom_id` is the key in the ledger, so an answer always reaches its
own request. Even a model without an API can be used this way, by hand.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, cast

from dspy.clients.lm15_boundary import request_kwargs
from dspy.lm15 import Request

from syneg.core.counts import counted
from syneg.core.errors import DataError, collected
from syneg.core.storage import JsonObject, read_rows, write_rows

from .answers import answer_of
from .ledger import Ledger
from .prices import batch_dollars, has_batch_price
from .replies import response_of
from .rows import AnswerRow, CallRow, RequestRow, answered, is_answer, unanswered

_URL = "/v1/chat/completions"
_REQUEST = RequestRow.__annotations__  # the fields of a row that are known before the call
_PASSING_STATUSES = (408, 429)  # statuses of a passing failure, which does not depend on the prompt


class PendingRow(RequestRow):
    """A line of batch.jsonl: the model whose prices apply, and the number of passing failures so far."""

    priced_as: str
    failures: NotRequired[int]


def wire_line(key: str, model: str, request: Request) -> JsonObject:
    """Write a request as a line of a batch file."""
    body = {name: value for name, value in request_kwargs(request, "chat").items() if name != "n"}
    return {"custom_id": key, "method": "POST", "url": _URL, "body": {"model": model.split("/", 1)[-1], **body}}


class Pending:
    """Requests that wait for an answer. The run folder's batch.jsonl keeps the fields that their ledger rows need.

    A request with a passing failure (5xx, expired) is exported again, up to `retries` times.
    """

    def __init__(self, folder: Path, retries: int = 4) -> None:
        self._path, self._retries = folder / "batch.jsonl", retries
        self._known = {row["key"]: cast(PendingRow, row) for row in read_rows(self._path)}
        self._lines: dict[str, JsonObject] = {}
        self._usd: dict[str, float | None] = {}
        self._models = set[str]()

    def add(self, known: RequestRow, model: str, request: Request, usd: float | None = None) -> None:
        """Defer a request. `known` is its ledger row without an outcome; `usd` is its highest cost."""
        row = cast(PendingRow, {**known, "priced_as": model})
        if failures := self._known.get(known["key"], row).get("failures"):
            row["failures"] = failures
        self._known[known["key"]] = row
        self._lines[known["key"]] = wire_line(known["key"], model, request)
        self._usd[known["key"]] = usd
        self._models.add(model)

    def __contains__(self, key: str) -> bool:
        return key in self._lines

    def __len__(self) -> int:
        return len(self._lines)

    def export(self, path: Path) -> Exported:
        """Write the deferred requests to `path`."""
        self._keep()
        write_rows(path, list(self._lines.values()))
        usd = None if None in self._usd.values() else sum(price or 0.0 for price in self._usd.values())
        return Exported(len(self._lines), usd, tuple(sorted(m for m in self._models if not has_batch_price(m))))

    def _keep(self) -> None:
        write_rows(self._path, list(self._known.values()))

    def load(self, paths: Sequence[Path], ledger: Ledger) -> Imported:
        """Read files of results or errors into the ledger. Raises DataError if no line is for a request of this run.

        A request has failed for good if it was refused (4xx, except 408 and 429) or failed more than `retries` times.
        Other failed requests are exported again.
        """
        missing = [str(path) for path in paths if not path.is_file()]
        if missing:
            raise DataError(f"no such file {missing[0]!r}", todo="give the results of the batch, as JSONL")
        imported = Imported()
        for path in paths:
            for number, line in _lines(path, imported.errors):
                self._take(line, f"{path}:{number}", ledger, imported)
        self._keep()
        imported.missing = [key for key in self._known if ledger.find(key) is None]
        if not imported.counts["answered"] and not imported.twice and not imported.counts["failed"]:
            where = ", ".join(map(str, paths))
            raise DataError(
                collected("no answer to a request of this run", imported.unknown + imported.errors), where=where
            )
        return imported

    def _take(self, line: Any, where: str, ledger: Ledger, imported: Imported) -> None:
        """Put one line into the ledger."""
        key = str(line.get("custom_id")) if isinstance(line, dict) else ""
        known = self._known.get(key)
        if known is None:
            imported.unknown.append(f"{where} {key!r} is no request of this run")
            return
        if ledger.find(key) is not None:
            imported.twice.append(f"{where} {key!r} was answered before")
            return
        request = cast(RequestRow, {name: value for name, value in known.items() if name in _REQUEST})
        row = _answered(line, request, known["priced_as"])
        if row["error"] is not None and not is_answer(row):
            known["failures"] = known.get("failures", 0) + 1
            if known["failures"] > self._retries:
                row["refused"], row["error"] = True, f"failed {known['failures']} times, last: {row['error']}"
        ledger.keep(row)
        imported.errors += [f"{where} {key!r}: {row['error']}"] if row["error"] else []
        imported.counts["answered" if row["error"] is None else "failed"] += 1


@dataclass(frozen=True)
class Exported:
    """The number of exported requests and their highest cost in dollars (None if a price is unknown).

    `full_price` names models without batch prices in litellm's table; their full price is counted.
    """

    requests: int
    usd: float | None
    full_price: tuple[str, ...]


@dataclass
class Imported:
    """The outcome of an import: counts of "answered" and "failed", messages on lines, keys without an answer."""

    counts: Counter[str] = field(default_factory=Counter)
    unknown: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """Yield the outcome as lines for the user."""
        waiting = counted(len(self.missing), "request")
        yield f"{counted(self.counts['answered'], 'answer')} taken, {waiting} still without an answer"
        for title, problems in (("unknown", self.unknown), ("twice", self.twice), ("failed", self.errors)):
            if problems:
                yield collected(f"{len(problems)} {title}", problems, limit=3)


def _lines(path: Path, problems: list[str]) -> Iterator[tuple[int, Any]]:
    """Yield (number, JSON value) of the lines of a file. Blank lines are skipped; invalid ones go to `problems`."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, text in enumerate(file, 1):
            if text.strip():
                try:
                    yield number, json.loads(text)
                except (ValueError, RecursionError) as error:
                    problems.append(f"{path}:{number} not valid JSON: {error}")


def _answered(line: JsonObject, known: RequestRow, model: str) -> CallRow:
    """The ledger row of a line of results."""
    response = line.get("response") or {}
    try:
        body = response["body"]
        if int(response.get("status_code", 200)) != 200:
            raise ValueError(str(body)[:200])
        reply = response_of(body, model)
        if reply is None:
            raise ValueError("no message")
        tokens, answer = (reply.usage.input_tokens or 0, reply.usage.output_tokens or 0), answer_of(reply)
        fault = answer.fault("lm", tokens[1], whole=False)
        row: AnswerRow = {
            "error": fault or None, "answer": answer.text, "finish_reason": answer.finish_reason,
            "input_tokens": tokens[0], "output_tokens": tokens[1],
        }  # fmt: skip
        if answer.thinking:
            row["thinking"] = answer.thinking
        return answered(known, row, usd=batch_dollars(model, *tokens), seconds=0.0)
    except (LookupError, TypeError, ValueError, AttributeError):
        why = line.get("error") or response or "no response"
        status = response.get("status_code") if isinstance(response, Mapping) else None
        refused = isinstance(status, int) and 400 <= status < 500 and status not in _PASSING_STATUSES
        reason = " ".join(str(why).split())[:300]
        if refused:
            return {**unanswered(known, "refused", reason), "refused": True}
        return unanswered(known, "error", reason, usd=None)
