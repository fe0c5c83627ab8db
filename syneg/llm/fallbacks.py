"""Learn which parts of a request an endpoint refuses, and send this and later requests without them.

    HTTP 400 "System role not supported"          → the instructions move into the first user message
    HTTP 400 "Unknown parameter: response_format" → the prompt alone asks for JSON

The ledger key is made from the original request, so it does not depend on what the endpoint refuses.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import replace

from dspy.lm15 import (
    AuthError,
    BillingError,
    ContextLengthError,
    LM15Error,
    Message,
    NotConfiguredError,
    RateLimitError,
    Request,
    Response,
    TextPart,
    TransportError,
    UnsupportedModelError,
)
from dspy.lm15 import TimeoutError as LMTimeout

_OTHER_CAUSES = (
    AuthError, BillingError, ContextLengthError, LMTimeout, NotConfiguredError, RateLimitError, TransportError,
    UnsupportedModelError,
)  # fmt: skip
_SYSTEM = re.compile(
    r"system[ _-]?(role|message|prompt|instruction)|role\W{0,3}\W*system|developer instruction|roles must alternate"
    r"|only (the )?user and assistant|user['\"]? (or|and) ['\"]?assistant|unsupported role|unexpected role"
)
_FORMAT = re.compile(
    r"response[_ ]?format|response[_ ]?schema|response_mime|json[_ ]?schema|json[_ ]?object|json mode"
    r"|structured output|guided_|grammar"
)
_UNKNOWN = re.compile(
    r"unsupported|not supported|not support|unrecogni[sz]ed|unknown|unexpected|not permitted|extra|not allowed|only"
    r"|forbidden|invalid (argument|parameter|field)|use '?\"?max|cannot be used|deprecated|not a valid|instead"
)
_TOO_MUCH = re.compile(r"too (large|high|long|big)|at most|exceed|maximum|less than or equal")
MESSAGES = {
    "system": "takes no system message: the instructions move into the first user message",
    "schema": "takes no JSON schema: requests ask for any JSON object instead",
    "format": "takes no response_format: the prompt alone asks for JSON",
    "token name": "knows another name of the token limit: it is sent as max_tokens or max_completion_tokens",
    "tokens": "takes no token limit: none is sent",
    "temperature": "takes no temperature: none is sent",
}


class Fallbacks:
    """The parts of a request that one endpoint refuses; safe for threads. `say` gets one line for each part, once."""

    def __init__(self, model: str, say: Callable[[str], None] = lambda line: None) -> None:
        self._model, self._say = model, say
        self._lock = threading.Lock()
        self.refused: frozenset[str] = frozenset()

    def complete(self, request: Request, send: Callable[[Request, frozenset[str]], Response]) -> Response:
        """Call `send` with the request, without the parts that the endpoint refuses. Raises LM15Error like `send`."""
        without = self.refused
        while True:
            try:
                response = send(adapted(request, without), without)
            except LM15Error as error:
                more = refusal(error, request, without)
                if not more:
                    raise
                without |= {more}
            else:
                self._remember(without)
                return response

    def _remember(self, refused: frozenset[str]) -> None:
        with self._lock:
            new = refused - self.refused
            self.refused |= new
        for name in sorted(new):
            self._say(f"  {self._model} {MESSAGES[name]}")


def refusal(error: LM15Error, request: Request, without: frozenset[str]) -> str:
    """The part of a request that an error message objects to, a key of MESSAGES; "" if it names none."""
    message = str(getattr(error, "message", error)).lower()
    config = request.config
    if isinstance(error, _OTHER_CAUSES):
        return ""
    if config.response_format is not None and _FORMAT.search(message):
        is_schema = config.response_format.get("type") == "json_schema"
        return next(
            (name for name in ("schema", "format") if name not in without and (is_schema or name == "format")), ""
        )
    if (
        re.search(r"max_(completion_|new_|output_)?tokens", message)
        and _UNKNOWN.search(message)
        and not _TOO_MUCH.search(message)
    ):
        return next((name for name in ("token name", "tokens") if name not in without), "")
    if config.temperature is not None and "temperature" in message and _UNKNOWN.search(message):
        return "temperature" if "temperature" not in without else ""
    if request.system and _SYSTEM.search(message) and "system" not in without:
        return "system"
    return ""


def adapted(request: Request, without: frozenset[str]) -> Request:
    """The request without the refused parts. The client, not this function, changes the name of the token limit."""
    config = request.config
    if "temperature" in without:
        config = replace(config, temperature=None)
    if "tokens" in without:
        config = replace(config, max_tokens=None)
    if "format" in without:
        config = replace(config, response_format=None)
    elif "schema" in without and config.response_format is not None:
        config = replace(config, response_format={"type": "json_object"})
    request = replace(request, config=config)
    return _folded(request) if "system" in without and request.system else request


def _folded(request: Request) -> Request:
    """Move the system text to the start of the first user message."""
    system = request.system if isinstance(request.system, str) else _text(request.system or ())
    first, *rest = request.messages
    if first.role == "user":
        first = replace(first, parts=(TextPart(f"{system}\n\n{_text(first.parts)}"),))
        return replace(request, system=None, messages=(first, *rest))
    return replace(request, system=None, messages=(Message("user", (TextPart(system),)), first, *rest))


def _text(parts: tuple[object, ...]) -> str:
    return "\n".join(str(getattr(part, "text", part)) for part in parts)
