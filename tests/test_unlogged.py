"""What litellm does beside a call: nothing, unless a user's callbacks ask for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from conftest import FakeLM, write_negative
from dspy.lm15 import Message, Request, TextPart

from syneg.core.config import LMConfig
from syneg.llm.endpoints import Endpoint


def test_litellm_neither_prices_nor_logs_a_call_unless_callbacks_ask_for_it(
    fake_lm: Callable[..., FakeLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    import litellm
    from litellm.litellm_core_utils import litellm_logging

    server = fake_lm(write_negative)
    priced: list[str] = []
    original = litellm_logging.Logging.response_cost_calculator

    def pricing(self: Any, *args: Any, **kwargs: Any) -> Any:
        priced.append(threading.current_thread().name)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(litellm_logging.Logging, "response_cost_calculator", pricing)
    endpoint = Endpoint(LMConfig(model="openai/fake", api_base=server.url), None)
    request = Request("openai/fake", (Message("user", (TextPart("Write."),)),))
    assert endpoint.complete(request).text
    monkeypatch.setattr(litellm, "success_callback", ["cache"])  # as litellm does itself when it calls Gemini
    assert endpoint.complete(request).text
    assert not priced
    told = threading.Event()
    # litellm sets callbacks up in the first call that has some, and one of Gemini may have been before
    monkeypatch.setattr(litellm.utils, "callback_list", [])
    monkeypatch.setattr(litellm, "success_callback", [lambda *_: told.set()])
    assert endpoint.complete(request).text
    assert told.wait(60)
    assert priced
