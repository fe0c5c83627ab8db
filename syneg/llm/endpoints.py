"""Send requests through litellm, DSPy's native client, or litellm to the embedded server. Connects on first use.

    endpoint = Endpoint(LMConfig(model="openai/gpt-4o-mini"), gguf=None)
    endpoint.complete(Request(…)) → Response(…)

An endpoint has no ledger, budget or retries. The engine and the flow have them, in one place, even for an endpoint on
another machine (`syneg.run.cluster`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else importing litellm asks the network for prices

from dspy.clients.engines.litellm_engine import LiteLLMEngine
from dspy.clients.engines.lm15_engine import LM15Engine, timeouts_for
from dspy.lm15 import InvalidRequestError, LM15Error, Request, Response, RouterConfig, ServerError, TextPart

from syneg.core.config import LMConfig
from syneg.core.errors import ConfigError
from syneg.core.secrets import masked_address
from syneg.core.storage import JsonObject

from .addresses import connected, is_own_server, missing_keys
from .deadline import in_time
from .fallbacks import Fallbacks
from .local_server import LocalServer
from .redirects import no_redirects
from .replies import (
    UNREAD,
    body_of,
    causes_of,
    described,
    error_of,
    has_status,
    is_told,
    listening,
    response_of,
    said,
    said_instead,
    sent_instead,
)
from .room import is_reasoning_model
from .transport import Transport, separated
from .unlogged import no_logging, no_logging_thread

_NO_KEY = "none"  # key for a server that needs none, because the client insists on one
_OPENAI_PARAMETERS = {
    "frequency_penalty", "logit_bias", "logprobs", "parallel_tool_calls", "presence_penalty", "reasoning_effort",
    "seed", "service_tier", "stop", "thinking", "top_logprobs", "top_p", "user", "verbosity",
}  # fmt: skip


class Client(Protocol):
    """Answers one request or raises an LM15Error."""

    def complete(self, request: Request) -> Response: ...

    def close(self) -> None: ...


class Endpoint:
    """The connection to one LM; safe for threads.

    `gguf` is the file of an embedded LM, and `log` the log of its server. `say` gets a line for each thing that the
    endpoint refuses.
    """

    def __init__(
        self,
        config: LMConfig,
        gguf: Path | None,
        log: Path | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._config, self._gguf, self._log = connected(config), gguf, log
        self._lock, self._first, self._warm = threading.Lock(), threading.Lock(), False
        self._server: LocalServer | None = None
        self._client: Client | None = None
        self._plain_limit = gguf is not None or (is_own_server(self._config) and not is_reasoning_model(config.model))
        self.fallbacks = Fallbacks(config.model, say)

    def complete(self, request: Request) -> Response:
        """Send a request once. Raises LM15Error, or BackendError if the embedded server does not start."""
        client = self.connected()
        if self._server is not None and not self._warm:
            with self._first:  # one call fills one slot; then all slots copy the common start of the prompts
                if not self._warm:
                    response = self._complete(client, request)
                    self._server.share_prefix()
                    self._warm = True
                    return response
        return self._complete(client, request)

    def connected(self) -> Client:
        """The client. Starts the embedded server, and starts it again if it died."""
        with self._lock:
            if self._server is not None and not self._server.alive:
                self._server.stop()
                self._client, self._server, self._warm = None, None, False
            if self._client is None:
                self._client = self._connect()
            return self._client

    def close(self) -> None:
        """Stop the embedded server, if there is one."""
        if self._server is not None:
            self._server.stop()

    def _complete(self, client: Client, request: Request) -> Response:
        def send(adapted: Request, without: frozenset[str]) -> Response:
            if self._plain_limit is not ("token name" in without):
                adapted = _with_plain_limit(adapted)
            return in_time(self._config.timeout_s, lambda: client.complete(adapted))

        return self.fallbacks.complete(request, send)

    def _connect(self) -> Client:
        config = self._config
        if config.engine == "native" and self._gguf is None:
            return native_client(config)
        if self._gguf is None:
            return LiteLLMClient(config)
        context = int(config.extra.get("num_ctx") or 0)
        self._server = LocalServer(self._gguf, slots=config.concurrency, log=self._log, **_given(context=context))
        extra = {name: value for name, value in config.extra.items() if name != "num_ctx"}
        embedded = config.model_copy(update={"api_base": f"{self._server.url}/v1", "extra": extra})
        return LiteLLMClient(embedded, embedded=True)


class LiteLLMClient(LiteLLMEngine):
    """Calls litellm with the parameters in `lm.extra`. Calls to an embedded server bypass every proxy."""

    def __init__(self, config: LMConfig, *, embedded: bool = False) -> None:
        import_module("litellm")  # takes seconds, which are not the endpoint's
        self._address, address = config.api_base, _given(api_base=config.api_base)
        wire_model = "openai/local" if embedded else None
        super().__init__(wire_model=wire_model, timeout=config.timeout_s, **address)
        self._extra: JsonObject = dict(config.extra)
        asked = sorted(_OPENAI_PARAMETERS & {*self._extra})
        if asked:  # litellm refuses a parameter that its table does not list for the model
            self._extra["allowed_openai_params"] = asked
        if embedded:
            self._extra |= {"api_key": _NO_KEY, "client": _past_proxies(config)}
        elif config.api_base and "api_key" not in self._extra and missing_keys(config.model):
            self._extra["api_key"] = _NO_KEY

    def _arguments(self, request: Request, *, streaming: bool = False) -> JsonObject:
        arguments = {**super()._arguments(request, streaming=streaming), **self._extra}
        return {**arguments, **no_logging(arguments)}

    def complete(self, request: Request) -> Response:
        import openai

        with no_logging_thread(), no_redirects(), listening() as replies:
            try:
                response: Response = super().complete(request)
            except (*UNREAD, openai.APIError) as error:
                body = body_of(replies)
                if (read := response_of(body, request.model)) is not None:
                    return read
                if instead := sent_instead(replies):
                    raise _strange(self._address, instead) from error
                if replies and isinstance(body, Mapping) and not has_status(body):
                    raise error_of(body) from error
                if isinstance(error, LM15Error):
                    _tell(error, _whole_message(error))
                    raise
                raise ServerError(_whole_message(error)) from error  # DSPy passes on what has a word for its status
        return response

    def _response(self, raw: Any, request: Request) -> Response:
        if raw is None:  # litellm returns None if its blank messages between the roles did not help
            raise InvalidRequestError("the endpoint says that roles must alternate user/assistant")
        return super()._response(raw, request)


def native_client(config: LMConfig) -> Client:
    """Connect DSPy's own client, without litellm. Raises ConfigError for a provider that it does not know."""
    try:
        provider = LM15Engine().resolve(config.model).provider
    except (LM15Error, ValueError) as error:
        raise ConfigError(
            f"DSPy's native client does not know {config.model!r}: {str(error).splitlines()[0]}",
            todo="set lm.engine=litellm",
        ) from error
    address, login = separated(config.api_base or "")
    key = config.extra.get("api_key") or (_NO_KEY if address and missing_keys(config.model) else "")
    given = RouterConfig(timeouts=timeouts_for(config.timeout_s)).transport_kwargs()
    transport = Transport(login, **given)
    routed = RouterConfig(
        base_urls=_given(**{provider: address}), api_keys=_given(**{provider: key}), transport=transport
    )
    extra = {name: value for name, value in config.extra.items() if name != "api_key"}
    return NativeClient(LM15Engine(routed), extra, transport, config.api_base)


class NativeClient:
    """Calls DSPy's own client with the parameters in `lm.extra`."""

    def __init__(self, engine: LM15Engine, extra: JsonObject, transport: Transport, address: str | None) -> None:
        self._engine, self._extra, self._transport, self._address = engine, extra, transport, address

    def complete(self, request: Request) -> Response:
        if self._extra:
            extensions = {**(request.config.extensions or {}), **self._extra}
            request = replace(request, config=replace(request.config, extensions=extensions))
        with listening() as replies:
            try:
                response = self._engine.complete(request)
            except UNREAD as error:
                body, status = body_of(replies), getattr(error, "status", None)
                if status is None and (read := response_of(body, request.model)) is not None:
                    return read
                if status in (None, 200) and (instead := sent_instead(replies)):
                    raise _strange(self._address, instead) from error
                if not isinstance(error, LM15Error) and replies:
                    raise ServerError(f"the endpoint sent no answer: {said(body)}") from error
                if isinstance(error, LM15Error) and said(body) not in error.message:
                    _tell(error, f"{said(body)} ({error.message})")
                raise
        empty = all(isinstance(part, TextPart) and not part.text for part in response.message.parts)
        if empty and (text := said_instead(response.provider_data)):
            if is_told(response.provider_data):
                raise ServerError(f"the endpoint sent no answer: {text}")
            raise _strange(self._address, described(response.provider_data))
        return response

    def close(self) -> None:
        self._engine.close()
        self._transport.close()


def _tell(error: LM15Error, message: str) -> None:
    error.message, error.args = message, (message,)


def _whole_message(error: Exception) -> str:
    """The message of an error, with that of its cause: litellm loses the text of an error that came with HTTP 200."""
    message = str(getattr(error, "message", error))
    for cause in causes_of(error):
        text = str(getattr(cause, "message", ""))
        if type(cause) is Exception and text not in message:
            message = f"{message} {text}"
    return message


def _strange(address: str | None, instead: str) -> ServerError:
    """The error for a reply with HTTP 200 that is no chat completion. `address` is that of the endpoint."""
    return ServerError(f"{masked_address(address or 'the endpoint')} sent {instead}; check the address (api_base)")


def _with_plain_limit(request: Request) -> Request:
    """Rename the token limit to `max_tokens`: most self-hosted servers do not know `max_completion_tokens`."""
    config = request.config
    if config.max_tokens is None:
        return request
    extensions = {**(config.extensions or {}), "max_tokens": config.max_tokens}
    return replace(request, config=replace(config, max_tokens=None, extensions=extensions))


def _past_proxies(config: LMConfig) -> Any:
    """An OpenAI client that ignores proxies in the environment."""
    import httpx
    import openai

    http = httpx.Client(trust_env=False, timeout=config.timeout_s)
    return openai.OpenAI(api_key=_NO_KEY, base_url=config.api_base, http_client=http, max_retries=0)


def _given(**options: Any) -> JsonObject:
    return {name: value for name, value in options.items() if value}
