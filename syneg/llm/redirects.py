"""Refuse redirects: another host would get the prompt, and headers with keys such as X-Api-Key. Hear what comes back.

    with no_redirects(): litellm.completion(**arguments)
      RedirectError: http://host/v1/chat/completions redirects to 'https://login.host/'; set api_base to the
      address that answers

Clients follow up to 20 redirects, each with a request of its own, and remove no more than the header Authorization.
Each of litellm's providers makes its client in a way of its own, but all send with httpx.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from dspy.lm15 import NotConfiguredError

from syneg.core.secrets import masked_address

from .replies import hear

_met: ContextVar[list[RedirectError] | None] = ContextVar("syneg_redirects", default=None)


class RedirectError(NotConfiguredError):
    """An endpoint answered that the address is another."""


def check_redirect(status: int, address: str, location: str) -> None:
    """Raise RedirectError for the status of a redirect. `location` is where it goes, as a header says it."""
    if 300 <= status < 400:
        to = masked_address(location) or "nowhere"
        raise RedirectError(
            f"{masked_address(address)} redirects to {to!r}; set api_base to the address that answers", status=status
        )


@contextmanager
def no_redirects() -> Iterator[None]:
    """Raise RedirectError at the end if a POST that this thread sent with httpx was redirected. It is not followed."""
    _guard_httpx()
    met: list[RedirectError] = []
    token = _met.set(met)
    try:
        yield
    finally:
        _met.reset(token)
        if met:
            raise met[0] from None


@lru_cache(maxsize=1)
def _guard_httpx() -> None:
    """Wrap the method by which httpx sends. Outside of `no_redirects` it does what it did.

    `replies` hears the body of a success as it came, whatever litellm makes of it. The client of OpenAI is told not to
    retry an error: some providers of litellm leave it its own two retries, which no budget would count.
    """
    import httpx

    send = httpx.Client.send

    def guarded(client: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:
        met = _met.get()
        if met is None or request.method != "POST":
            return send(client, request, **options)
        response = send(client, request, **{**options, "follow_redirects": False})
        if response.is_error or response.has_redirect_location:
            response.headers["x-should-retry"] = "false"
        elif not options.get("stream"):
            hear(response.content)
        try:
            check_redirect(response.status_code, str(request.url), response.headers.get("location", ""))
        except RedirectError as redirect:
            met.append(redirect)
        return response

    httpx.Client.send = guarded  # type: ignore[assignment,method-assign]
