"""Find the wait that an endpoint asks for in an error of any client.

    seconds_asked_for(RateLimitError("…"))  → 20.0      (Retry-After: 20, or an HTTP date 20 seconds ahead), or None

Errors of litellm have no headers, but one of their causes holds the HTTP response. An HTTP date is compared with the
server's own Date header, because the clocks of two machines may differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def seconds_asked_for(error: BaseException) -> float | None:
    """The wait in seconds that an error or one of its causes asks for; None if there is none."""
    known = getattr(error, "retry_after", None)
    if known is not None:
        return float(known)
    cause: BaseException | None = error
    while cause is not None:
        for holder in (getattr(cause, "response", None), cause):
            headers = getattr(holder, "headers", None)
            if isinstance(headers, Mapping):
                asked = seconds_in({str(name).lower(): str(value) for name, value in headers.items()})
                if asked is not None:
                    return asked
        cause = cause.__cause__ or cause.__context__
    return None


def seconds_in(headers: Mapping[str, str]) -> float | None:
    """The wait in seconds in headers with lower-case names: `retry-after-ms`, or `retry-after` (seconds or a date)."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) * unit
        except (KeyError, ValueError):
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    until = _date(headers.get("retry-after", ""))
    if until is None:
        return None
    now = _date(headers.get("date", "")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
