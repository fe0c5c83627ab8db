"""Decide whether an endpoint refuses one prompt or every request.

    refusals = Refusals()
    refusals.works(request)                     after an answer: requests of this form are accepted
    refusals.of_text(request, error, ask)       True: only the text is refused (content filter, too long, firewall)

HTTP 400, 403, 413 and 422 are refusals. A refusal of the text costs one pair its negative, and the run goes on. A
refusal of the form (model, key, sampling, schema) would meet every request, so the run stops. The form of a request is
its system text and its settings, without the messages.

If a request of the same form was answered before, the refusal is about the text. Otherwise one request of the same
form with a harmless message is sent: if it is answered, the refusal is about the text.
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
    """Whether an error refuses the request itself, and not the key, the bill or the model."""
    if isinstance(error, AuthError):
        return getattr(error, "status", None) == _FORBIDDEN
    return isinstance(error, InvalidRequestError) and not isinstance(error, UnsupportedModelError)


class Refusals:
    """The forms of requests that the endpoint has answered; safe for threads."""

    def __init__(self) -> None:
        self._works: set[str] = set()
        self._lock = threading.Lock()

    def works(self, request: Request) -> None:
        """Record that a request was answered."""
        self._works.add(_form(request))

    def of_text(self, request: Request, error: LM15Error, ask: Callable[[Request], object]) -> bool:
        """Whether `error` is about the text of `request`. May call `ask` with a harmless request of the same form.

        Raises the errors of `ask`, except refusals.
        """
        if isinstance(error, ContextLengthError) or _form(request) in self._works:
            return True
        with self._lock:  # calls that are refused at the same time send one harmless request
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
