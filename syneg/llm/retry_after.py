"""How long an endpoint asks to be left alone, whichever client raised the error.

    seconds_asked_for(RateLimitError("…"))  → 20.0      (Retry-After: 20, or an HTTP date 20 seconds ahead), or None

litellm copies no headers into the errors that it raises, but the response of the HTTP client is one of their causes.
A date is read against the clock of the server that sent it (its Date header), as the two machines may differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def seconds_asked_for(error: BaseException) -> float | None:
    """Seconds that the endpoint asks for in an error or one of its causes; None where it asks for none."""
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
    """What headers with lower-case names say: `retry-after-ms`, or `retry-after` in seconds or as an HTTP date."""
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
