"""Turn a request into plain data, for ledger keys and `syneg-dspy prompts`, and into text, to count tokens.

plain_request(request) → {"system": "Write …", "messages": [["user", "…"]], "config": {"max_tokens": 760, …}}
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypedDict

from dspy.lm15 import Request


class PlainRequest(TypedDict):
    """A request as JSON: `messages` are [role, text]; `config` holds the settings that are set."""

    system: str | list[str] | None
    messages: list[list[str | None]]
    config: dict[str, Any]


def prompt_text(request: Request) -> str:
    """All text of a request that the LM reads: the system text and the messages."""
    plain = plain_request(request)
    return "\n".join([str(plain["system"] or ""), *(str(text or "") for _, text in plain["messages"])])


def plain_request(request: Request) -> PlainRequest:
    """The request as plain data: system text, messages as [role, text], and all settings that are not None."""
    system = (
        request.system
        if isinstance(request.system, str) or request.system is None
        else [str(p) for p in request.system]
    )
    settings = {field.name: getattr(request.config, field.name) for field in dataclasses.fields(request.config)}
    return {
        "system": system,
        "messages": [[message.role, message.text] for message in request.messages],
        "config": {name: value for name, value in settings.items() if value not in (None, ())},
    }
