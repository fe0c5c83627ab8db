"""Telling an endpoint that refuses one prompt from one that refuses all.

    refusals = Refusals()
    refusals.works(request)                 an answer came: the form of such requests is all right
    refusals.of_text(request, ask)          True: the text is refused (content filter, too long, firewall)

A refusal is HTTP 400, 413, 422 or 403. It can mean the text (one pair has no negative, the run goes on) or the form of
the request: model, key, sampling, schema (no request can pass, the run stops). The form is the system text and the
settings, without the messages. Where a request of the same form was answered before, a refusal means the text. Where
none was, a request of the same form with a harmless message is asked once, and its fate decides.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable

from dspy.lm15 import (
    AuthError,
    ContextLengthError,
    InvalidRequestError,
    LM15Error,
    Message,
    Request,
    UnsupportedModelError,
)

from syneg.core.records import fingerprint

_HARMLESS = "Hello."
_FORBIDDEN = 403


def is_refusal(error: BaseException) -> bool:
    """Whether an endpoint refused the request, and not its key, bill or model."""
    if isinstance(error, AuthError):
        return getattr(error, "status", None) == _FORBIDDEN
    return isinstance(error, InvalidRequestError) and not isinstance(error, UnsupportedModelError)


class Refusals:
    """What is known of the forms of requests. Safe for threads."""

    def __init__(self) -> None:
        self._works: set[str] = set()
        self._lock = threading.Lock()

    def works(self, request: Request) -> None:
        """Note that a request was answered."""
        self._works.add(_form(request))

    def of_text(self, request: Request, error: LM15Error, ask: Callable[[Request], object]) -> bool:
        """Whether `error` is about the text of `request`. May `ask` a harmless request of the same form; what that
        raises passes, unless it is a refusal, too."""
        if isinstance(error, ContextLengthError) or _form(request) in self._works:
            return True
        with self._lock:  # calls that are refused side by side ask once
            if _form(request) in self._works:
                return True
            try:
                ask(dataclasses.replace(request, messages=(Message.user(_HARMLESS),)))
            except LM15Error as again:
                if is_refusal(again):
                    return False
                raise
            self.works(request)
        return True


def _form(request: Request) -> str:
    settings = {field.name: str(getattr(request.config, field.name)) for field in dataclasses.fields(request.config)}
    return fingerprint(request.model, str(request.system), settings)
