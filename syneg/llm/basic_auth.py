"""Send the user and password of an address to a server. DSPy's own client does not read them.

address, login = separated("http://me:p%40ss@host:8000/v1")      → "http://host:8000/v1", "me:p@ss"
transport = Transport(login, read_timeout=60.0)                  sends Authorization: Basic bWU6cEBzcw==
"""

from __future__ import annotations

import base64
from dataclasses import replace
from importlib import import_module
from typing import Any
from urllib.parse import unquote, urlsplit

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
    """DSPy's transport, with Basic authentication in place of the key."""

    def __init__(self, login: str, **settings: Any) -> None:
        self._transport = StdlibTransport(**settings)
        self._header = ("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")

    def stream(self, request: Any) -> Any:
        """Open a stream to the address of the request."""
        kept = [header for header in request.headers if header[0].lower() != "authorization"]
        return self._transport.stream(replace(request, headers=[*kept, self._header]))

    def close(self) -> None:
        self._transport.close()
