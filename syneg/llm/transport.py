"""The transport of DSPy's own client, which lets each reply be heard, and sends the user and password of an address.

address, login = separated("http://me:p%40ss@host:8000/v1")      → "http://host:8000/v1", "me:p@ss"
transport = Transport(login, read_timeout=60.0)                  sends Authorization: Basic bWU6cEBzcw==
"""

from __future__ import annotations

import base64
from dataclasses import replace
from importlib import import_module
from typing import Any
from urllib.parse import unquote, urlsplit

from .redirects import check_redirect
from .replies import hear

# dspy.lm15 does not name it; a plain import would make mypy take dspy for a package of this alone
StdlibTransport: Any = import_module("dspy._vendor.lm15.transports").StdlibTransport


def separated(address: str) -> tuple[str, str]:
    """An address without its login, and the login as `user:password`; "" if there is none.

    >>> separated("http://me:a@b@host/v1"), separated("http://host/v1")
    (('http://host/v1', 'me:a@b'), ('http://host/v1', ''))
    """
    parts = urlsplit(address)
    login, _, host = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    return parts._replace(netloc=host).geturl(), f"{unquote(user)}:{unquote(password)}" if login else ""


class Transport:
    """DSPy's transport. With a `login` it sends Basic authentication in place of the key."""

    def __init__(self, login: str, **settings: Any) -> None:
        self._transport = StdlibTransport(**settings)
        secret = f"Basic {base64.b64encode(login.encode()).decode()}"
        self._headers = [("Authorization", secret)] if login else []

    def stream(self, request: Any) -> Any:
        """Open a stream to the address of the request. Raises RedirectError if it redirects."""
        if self._headers:
            kept = [header for header in request.headers if header[0].lower() != "authorization"]
            request = replace(request, headers=[*kept, *self._headers])
        response = self._transport.stream(request)
        if 300 <= response.status < 400:
            with response:
                check_redirect(response.status, request.url, response.header("location") or "")
        return _Heard(response)

    def close(self) -> None:
        self._transport.close()


class _Heard:
    """The response of a stream, whose body is heard when it is read whole."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def __getattr__(self, name: str) -> Any:
        return getattr(self._response, name)

    def __enter__(self) -> _Heard:
        self._response.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._response.__exit__(*error)

    def __iter__(self) -> Any:
        return iter(self._response)

    def read(self) -> bytes:
        body: bytes = self._response.read()
        hear(body)
        return body
