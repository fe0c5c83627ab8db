"""The ledger: every call of an LM, kept as it happens, and answered from when the same call comes again.

    {"key": "5f0c…", "query_id": "bisect.insort", "attempt": 0, "model": "local/qwen2.5-coder-1.5b@cc324af0…",
     "prompt": "a94e…", "answer": "{\\"hard_negative\\": …}", "finish_reason": "stop", "input_tokens": 412,
     "output_tokens": 88, "usd": 0.0, "seconds": 3.2, "error": null}

The key is a hash of everything that decides an answer: the model with its endpoint (or the hash of its weights), the
whole request (messages, schema, sampling) and the attempt. So a run that was killed goes on with the first call that
is not there, and a changed prompt, model or setting can never get a stale answer. Failed calls are kept too, but never
replayed; an answer without a text is one. `thinking` stands beside the answer where there was any. Prompts are kept as hashes: they hold the corpus, which is in the collection already.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from syneg.core.storage import Log, read_rows


class Ledger:
    """The calls of one run folder; `told` hears of each new one. Appending is safe for threads; one process holds the run folder."""

    def __init__(self, path: Path, told: Callable[[dict[str, Any]], None] | None = None) -> None:
        self._told = told
        self._log = Log(path)  # mends a line that a crash cut, so open it before reading
        self._rows: dict[str, dict[str, Any]] = {row["key"]: row for row in read_rows(path) if _is_answer(row)}

    def find(self, key: str) -> dict[str, Any] | None:
        """The row of a call that was answered before, else None. An answer that was cut before its text has an `error`."""
        return self._rows.get(key)

    def keep(self, row: dict[str, Any]) -> None:
        """Append a row; it is on disk when this returns. Raises OSError on a full disk."""
        self._log.append(row)
        if self._told:
            self._told(row)
        if _is_answer(row):
            self._rows[row["key"]] = row

    def close(self) -> None:
        self._log.close()


def _is_answer(row: dict[str, Any]) -> bool:
    """Whether the same request is not sent again: what was cut would be cut again."""
    return row["error"] is None or row.get("finish_reason") == "length"
