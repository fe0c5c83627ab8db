"""Hear each reply of an endpoint as it came, and read those that the client cannot.

    with listening() as replies: client.complete(request)      ValueError: input_tokens must be >= 0
    response_of(body_of(replies), "openai/qwen3")              Response(…): the answer, without its broken usage
    sent_instead(replies)                               "an HTML page, not a chat completion: 'Sign in'"

A client reads OpenAI's form to the letter, and an answer that was paid for is lost on a usage of "100", -1 or 100.5, or
on a content that is a list. The text of an error is lost if it does not stand at error.message.
"""

from __future__ import annotations

import json
import math
import re
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
_KINDS = {list: "a JSON list", str: "a JSON string", dict: "JSON without choices[0].message", bool: "true or false",
          int: "a number", float: "a number", type(None): "null"}  # fmt: skip
_SHOWN = 120  # characters of a reply in a message
_PAGE = re.compile(r"\s*<(?:!doctype html|html|head|body)\b", re.IGNORECASE)
_NO_WORDS = re.compile(r"<(script|style)\b.*?</\1>|<[^<>]*>", re.IGNORECASE | re.DOTALL)

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


def sent_instead(replies: list[Any]) -> str:
    """What an endpoint sent with HTTP 200 in place of a chat completion; "" if the error says enough."""
    heard, body = replies[0] if replies else "", body_of(replies)
    if body is None and heard not in ("null", b"null"):
        return _of_text(heard.decode("utf-8", "replace")) if isinstance(heard, bytes) else ""
    return "" if isinstance(body, Mapping) and is_told(body) else described(body)


def is_told(body: Mapping[str, Any]) -> bool:
    """Whether a body has the text of an error, or an answer of another protocol."""
    return any(body.get(name) for name in _ERRORS) or any(isinstance(body.get(name), list) for name in _LISTS[1:])


def described(body: Any) -> str:
    """What a body is that has no answer, with its beginning.

    >>> described(["a"]), described(None)
    ("a JSON list, not a chat completion: 'a'", 'null, not a chat completion')
    """
    if isinstance(body, str) and _PAGE.match(body):
        return _of_text(body)
    kind = _KINDS.get(type(body), type(body).__name__)
    return f"{kind}, not a chat completion" + (f": {said(body)[:_SHOWN]!r}" if said(body) else "")


def _of_text(text: str) -> str:
    if not text.strip():
        return "an empty body, not a chat completion"
    kind = "an HTML page" if _PAGE.match(text) else "a stream" if text.startswith("data:") else "a text that is no JSON"
    words = " ".join((_NO_WORDS.sub(" ", text) if _PAGE.match(text) else text).split())
    return f"{kind}, not a chat completion: {words[:_SHOWN]!r}"


def causes_of(error: BaseException) -> list[BaseException]:
    """An error and all that led to it."""
    causes = [error]
    for cause in causes:
        causes += [each for each in (cause.__cause__, cause.__context__) if each and each not in causes]
    return causes


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
