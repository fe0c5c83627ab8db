"""What answers a request: litellm, DSPy's native client, or the embedded server behind litellm. Connected on first use.

    endpoint = Endpoint(LMConfig(model="openai/gpt-4o-mini"), gguf=None)
    endpoint.complete(Request(…)) → Response(…)

No ledger, no budget, no retries: those are in front of it (`lms`, `flow`), in one place, wherever the endpoint is
(`cluster` puts endpoints on other machines).
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, Protocol

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else importing litellm asks the network for prices

from dspy.clients.engines.litellm_engine import LiteLLMEngine
from dspy.clients.engines.lm15_engine import LM15Engine, timeouts_for
from dspy.lm15 import LM15Error, Request, Response, RouterConfig

from syneg.core.config import LMConfig
from syneg.core.errors import ConfigError

from .local_server import LocalServer


class Client(Protocol):
    """Answers one request, or raises an LM15Error."""

    def complete(self, request: Request) -> Response: ...

    def close(self) -> None: ...


class Endpoint:
    """The client of one LM. Safe for threads. `gguf` are the weights of an embedded LM, whose server writes to `log`."""

    def __init__(self, config: LMConfig, gguf: Path | None, log: Path | None = None) -> None:
        self._config, self._gguf, self._log = config, gguf, log
        self._lock, self._first, self._warm = threading.Lock(), threading.Lock(), False
        self._server: LocalServer | None = None
        self._client: Client | None = None

    def complete(self, request: Request) -> Response:
        """One try. Raises LM15Error, or BackendError where the embedded server does not start."""
        client = self.connected()
        if self._server is not None and not self._warm:
            with self._first:  # the first call alone fills one slot; then all slots get what prompts have in common
                if not self._warm:
                    response = client.complete(request)
                    self._server.share_prefix()
                    self._warm = True
                    return response
        return client.complete(request)

    def connected(self) -> Client:
        """The client, with the embedded server up."""
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def close(self) -> None:
        """End the embedded server, if there is one."""
        if self._server is not None:
            self._server.stop()

    def _connect(self) -> Client:
        config = self._config
        if config.engine == "native" and self._gguf is None:
            return native_client(config)
        options: dict[str, Any] = {"timeout": config.timeout_s}
        if self._gguf is None:
            if config.api_base:
                options["api_base"] = config.api_base
            return LiteLLMEngine(**options)
        self._server = LocalServer(self._gguf, slots=config.concurrency, log=self._log)
        return LiteLLMEngine(wire_model="openai/local", api_base=f"{self._server.url}/v1", api_key="local", **options)


def native_client(config: LMConfig) -> LM15Engine:
    """DSPy's own client, without litellm. Raises ConfigError for a provider that it does not know."""
    timeouts = timeouts_for(config.timeout_s)
    try:
        provider = LM15Engine().resolve(config.model).provider
    except (LM15Error, ValueError) as error:
        raise ConfigError(
            f"DSPy's native client does not know {config.model!r}: {str(error).splitlines()[0]}",
            todo="leave lm.engine at litellm",
        ) from error
    own = {provider: config.api_base} if config.api_base else {}
    return LM15Engine(RouterConfig(base_urls=own, timeouts=timeouts))
