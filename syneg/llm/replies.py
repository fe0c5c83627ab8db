"""Hear each reply of an endpoint as it came, and read those that the client cannot.

    with listening() as replies: client.complete(request)      ValueError: input_tokens must be >= 0
    response_of(body_of(replies), "openai/qwen3")              Response(…): the answer, without its broken usage

A client reads OpenAI's form to the letter, and an answer that was paid for is lost on a usage of "100", -1 or 100.5, or
on a content that is a list. The text of an error is lost if it does not stand at error.message.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from dspy.lm15 import LM15Error, Response, ServerError, response_from_openai_chat

UNREAD = (LM15Error, ValueError, TypeError, LookupError, AttributeError)  # raised by clients that read a reply
_LISTS = ("choices", "content", "output", "candidates")  # where the protocols of the providers have their answers
_ERRORS = ("error", "detail", "message", "errors", "msg")  # where servers have the text of an error
_THINKING = ("reasoning_content", "reasoning")

_replies: ContextVar[list[Any] | None] = ContextVar("syneg_replies", default=None)


@contextmanager
def listening() -> Iterator[list[Any]]:
    """Collect what `hear` gets in this thread while this is open: bodies as bytes, text or parsed JSON."""
    replies: list[Any] = []
    token = _replies.set(replies)
    try:
        yield replies
    finally:
        _replies.reset(token)


def hear(reply: Any) -> None:
    """Note a reply for `listening`, if that is open in this thread."""
    replies = _replies.get()
    if replies is not None:
        replies.append(reply)


def body_of(replies: list[Any]) -> Any:
    """The JSON of the first reply; None if there is none, or if it is no JSON."""
    body = replies[0] if replies else None
    if isinstance(body, bytes | str):
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            return None
    return body


def response_of(body: Any, model: str) -> Response | None:
    """Read the body of a chat completion, whatever its usage and its parts are; None if it has no message.

    `provider_data` has the body, and `answer_of` reads the parts of a content there.
    """
    choice = choice_of(body)
    message = choice.get("message")
    if not isinstance(message, Mapping):
        return None
    texts = {name: message[name] for name in ("content", *_THINKING) if isinstance(message.get(name), str)}
    finish = choice.get("finish_reason")
    response = response_from_openai_chat(
        {
            "model": model,
            "choices": [
                {
                    "message": {"role": "assistant", "content": "", **texts},
                    "finish_reason": finish if isinstance(finish, str) else "stop",
                }
            ],
            "usage": _counts(body.get("usage")),
        },
        model=model,
    )
    return replace(response, provider_data=dict(body))


def error_of(body: Mapping[str, Any]) -> LM15Error:
    """The error of a body without an answer, of the class that its code names."""
    error = body.get("error")
    told = {"message": said_instead(body), **(dict(error) if isinstance(error, Mapping) else {})}
    try:
        response_from_openai_chat({"error": told})
    except LM15Error as named:
        return named
    return ServerError(told["message"])


def has_status(body: Mapping[str, Any]) -> bool:
    """Whether the code of an error in a body is a status of HTTP."""
    error = body.get("error")
    code = error.get("code") if isinstance(error, Mapping) else None
    return isinstance(code, int) and 400 <= code < 600


def choice_of(body: Any) -> Mapping[str, Any]:
    """The first choice of a chat completion; {} for a body of another form."""
    try:
        choice = body["choices"][0]
    except (LookupError, TypeError):
        return {}
    return choice if isinstance(choice, Mapping) else {}


def said(body: Any) -> str:
    """The text of an error, wherever a body has it; "" for an empty body.

    >>> said({"error": "no such model"}), said({"detail": [{"loc": ["body"], "msg": "too long"}]})
    ('no such model', 'too long')
    """
    if isinstance(body, list):
        return said(body[0]) if body else ""
    if isinstance(body, Mapping):
        inner = next((body[name] for name in _ERRORS if body.get(name)), None)
        return said(inner) if inner else str(dict(body))[:200] if body else ""
    return "" if body is None else str(body)[:200]


def said_instead(body: Any) -> str:
    """What a body without a list of answers says; "" for a body with one, and for none."""
    if isinstance(body, Mapping) and any(isinstance(body.get(name), list) for name in _LISTS):
        return ""
    return said(body)


def _counts(usage: Any) -> dict[str, int]:
    if not isinstance(usage, Mapping):
        return {}
    counts = {name: _count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens")}
    return {name: count for name, count in counts.items() if count is not None}


def _count(value: Any) -> int | None:
    """A number of tokens, rounded up; None for what is no number of tokens.

    >>> [_count(value) for value in ("100", 20.5, -1, "many", None, True)]
    [100, 21, None, None, None, None]
    """
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return math.ceil(number) if math.isfinite(number) and number >= 0 else None
