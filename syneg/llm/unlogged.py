"""Call litellm without its own pricing and logging, which take a third of the overhead. The ledger does both.

    with no_logging_thread():
        litellm.completion(**arguments, **no_logging(arguments))

litellm accepts the object that prices and logs a call as an argument, and starts no logging thread for a call that is
marked internal. If the user has set callbacks of litellm, its own object and thread are used, and the callbacks run.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache
from typing import Any

from syneg.core.storage import JsonObject

_CALLBACKS = ("callbacks", "input_callback", "success_callback", "failure_callback")


def no_logging(arguments: Mapping[str, Any]) -> JsonObject:
    """Further arguments for `litellm.completion`; {} if callbacks are set, or if this litellm lacks such an object."""
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
    """Keep litellm from starting logging threads for calls of this thread, unless callbacks are set."""
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
    """Whether the user has set callbacks. litellm names its cache among them by itself when it calls Gemini."""
    import litellm

    named = {callback for name in _CALLBACKS for callback in map(_name, getattr(litellm, name, None) or ())}
    return bool(named - ({"cache"} if getattr(litellm, "cache", None) is None else set()))


def _name(callback: object) -> str:
    return callback if isinstance(callback, str) else "an object"


@lru_cache(maxsize=1)
def _silent() -> type[Any] | None:
    """A subclass of litellm's logger that does nothing; None if this version has no such class."""
    try:
        from litellm.litellm_core_utils.litellm_logging import Logging
    except ImportError:
        return None

    class Silent(Logging):
        def post_call(self, *_: Any, **__: Any) -> None:
            return None

        def response_cost_calculator(self, *_: Any, **__: Any) -> None:
            return None

        _response_cost_calculator = response_cost_calculator  # the method's name in older versions

        def success_handler(self, *_: Any, **__: Any) -> None:
            return None

        def failure_handler(self, *_: Any, **__: Any) -> None:
            return None

    return Silent


@lru_cache(maxsize=1)
def _internal() -> ContextVar[bool] | None:
    """The variable that marks a call as internal; None if this version of litellm has none."""
    try:
        from litellm._internal_context import is_internal_call
    except ImportError:
        return None
    variable: ContextVar[bool] = is_internal_call
    return variable
