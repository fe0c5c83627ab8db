"""Every error that a user can meet, and its exit code.

    SynegError            exit 1: one line says what, where and what to do
    ├── ConfigError       exit 2: an unknown key, a wrong value, a flag that does not fit
    ├── DataError         a collection, a run folder or a query set is not usable
    ├── BackendError      an LM, a model file or a package index cannot be reached or is not installed
    │   └── UnusableError the LM answers, but nothing that it writes can be used
    ├── DeferredError     internal: a call was exported to a batch
    ├── RefusedError      internal: an endpoint refuses this one prompt
    ├── StoppedError      internal: an error in another thread has ended the run
    └── BudgetError       exit 3: a limit that the user set was reached; the same command resumes

>>> str(DataError("no passage left", where="corpus.jsonl", todo="check the file"))
'no passage left (corpus.jsonl); check the file'
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from .secrets import masked

_UNREACHABLE = re.compile(r"ConnectionPool\(host='([^']+)', port=\d+\): Max retries exceeded")  # as urllib3 writes it


class SynegError(Exception):
    """Base of all errors that this package raises on purpose.

    The message is one line: `what` happened (with the value), `where` (file:line or query_id), `todo` (the next step).
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, todo: str | None = None) -> None:
        line = what if where is None else f"{what} ({where})"
        super().__init__(line if todo is None else f"{line}; {todo}")


class ConfigError(SynegError):
    """A setting is unknown or has a wrong value."""

    exit_code = 2


class DataError(SynegError):
    """A collection, a run folder or another file of data is not usable."""


class OnlyTestError(DataError):
    """A collection has only test queries, which are never trained on."""


class BackendError(SynegError):
    """An LM, a model file or a source of model files is not usable."""


class UnusableError(BackendError):
    """An LM answers, but nothing that it writes can be used."""


class DeferredError(SynegError):
    """An LM call was written to a batch file; its answer comes later."""


class RefusedError(SynegError):
    """An endpoint refuses this prompt, though it answers others. The pair has no answer, and the run goes on."""


class StoppedError(SynegError):
    """A call was not started, because the run is ending. The user sees the error that ended the run instead."""


class BudgetError(SynegError):
    """A limit set by the user was reached; everything so far is kept. `budget` is the exhausted `Budget`."""

    exit_code = 3

    def __init__(
        self, what: str, *, where: str | None = None, todo: str | None = None, budget: object | None = None
    ) -> None:
        super().__init__(what, where=where, todo=todo)
        self.budget = budget


def collected(title: str, problems: Sequence[str], *, limit: int = 8) -> str:
    """Join many problems into one message, at most `limit` of them in full.

    >>> print(collected("2 bad rows", ["a.csv:2 no query", "a.csv:3 no query"]))
    2 bad rows:
      a.csv:2 no query
      a.csv:3 no query
    """
    lines = [f"  {problem}" for problem in problems[:limit]]
    if len(problems) > limit:
        lines.append(f"  … and {len(problems) - limit} more")
    return "\n".join([f"{title}:", *lines])


def one_line(error: BaseException) -> str:
    """Format an exception as one line of at most 300 characters, with every known secret masked.

    >>> one_line(OSError("HTTPSConnectionPool(host='a.org', port=443): Max retries exceeded with url: /x"))
    'a.org cannot be reached'
    """
    if host := _UNREACHABLE.search(str(error)):
        return f"{host[1]} cannot be reached"
    return masked(" ".join(f"{type(error).__name__}: {error}".split()))[:300]


def misspelled(word: str, known: Iterable[str]) -> str:
    """Return the known word that `word` is probably meant for; "" if none is as near as a slip of the hand.

    >>> misspelled("opnai", ["openai", "azure"]), misspelled("nosuch", ["openai", "nscale"])
    ('openai', '')
    """
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.75)), "")


def nearest(word: str, known: Iterable[str]) -> str:
    """Suggest the known word nearest to `word`; list all known words if none is near.

    >>> nearest("epoch", ["epochs", "seeds"]), nearest("x", ["epochs", "seeds"])
    ("did you mean 'epochs'?", 'known: epochs, seeds')
    """
    known = list(known)
    close = [key for key in known if key.startswith(word)] or difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if not close:  # the right key in the wrong section
        close = [key for key in known if key.rsplit(".", 1)[-1] == word.rsplit(".", 1)[-1]][:1]
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
