"""A request as plain data and as text: what keys are made of, what tokens are counted in, what is printed.

plain_request(request) → {"system": "Write …", "messages": [["user", "…"]], "config": {"max_tokens": 760, …}}
"""

from __future__ import annotations

import dataclasses
from typing import Any

from dspy.lm15 import Request


def prompt_text(request: Request) -> str:
    """What an LM reads of a request."""
    plain = plain_request(request)
    return "\n".join([str(plain["system"] or ""), *(str(text or "") for _, text in plain["messages"])])


def plain_request(request: Request) -> dict[str, Any]:
    """What is sent, as plain data: system text, messages as (role, text), and the settings that are set."""
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
