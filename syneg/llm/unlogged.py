"""Calls of litellm without its own pricing and logging, which take a third of their time: the ledger keeps every call,
with its price.

    with no_logging_thread():
        litellm.completion(**arguments, **no_logging(arguments))

litellm takes the object that prices and logs a call as an argument, and starts no logging thread for a call that it
calls internal. Callbacks that a user set are served: litellm's own object and thread are used then.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache
from typing import Any

_CALLBACKS = ("callbacks", "input_callback", "success_callback", "failure_callback")


def no_logging(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Further arguments for `litellm.completion`; {} where callbacks are set, or this litellm has another form."""
    kind = _silent()
    if kind is None or _called_back():
        return {}
    try:
        log = kind(
            model=arguments["model"], messages=arguments["messages"], stream=False, call_type="completion",
            start_time=datetime.now(), litellm_call_id=uuid.uuid4().hex, function_id="",
        )  # fmt: skip
    except TypeError:
        return {}
    return {"litellm_logging_obj": log}


@contextmanager
def no_logging_thread() -> Iterator[None]:
    """While this is open, litellm hands no answer of this thread to its logging threads, unless callbacks are set."""
    internal = _internal()
    if internal is None or _called_back():
        yield
        return
    token = internal.set(True)
    try:
        yield
    finally:
        internal.reset(token)


def _called_back() -> bool:
    import litellm

    return any(getattr(litellm, name, None) for name in _CALLBACKS)


@lru_cache(maxsize=1)
def _silent() -> type[Any] | None:
    """litellm's class with nothing to do after an answer; None where this version has no such class."""
    try:
        from litellm.litellm_core_utils.litellm_logging import Logging
    except ImportError:
        return None

    class Silent(Logging):
        def response_cost_calculator(self, *_: Any, **__: Any) -> None:
            return None

        _response_cost_calculator = response_cost_calculator  # its name in older versions

        def success_handler(self, *_: Any, **__: Any) -> None:
            return None

        def failure_handler(self, *_: Any, **__: Any) -> None:
            return None

    return Silent


@lru_cache(maxsize=1)
def _internal() -> ContextVar[bool] | None:
    """What litellm asks before it hands an answer to a thread; None where this version has no such variable."""
    try:
        from litellm._internal_context import is_internal_call
    except ImportError:
        return None
    variable: ContextVar[bool] = is_internal_call
    return variable
