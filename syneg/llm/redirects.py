"""Refuse redirects: another host would get the prompt, and headers with keys such as X-Api-Key.

    litellm.completion(**arguments, **unredirected(config))
      RedirectError: http://host/v1/chat/completions redirects to 'https://login.host/'; set api_base to the
      address that answers

Clients follow up to 20 redirects, each with a request of its own, and remove no more than the header Authorization.
litellm takes its HTTP client as an argument, of a kind that depends on the provider. Where the address is the
provider's own, litellm's client is used as it is.
"""

from __future__ import annotations

import os
from typing import Any

from dspy.lm15 import NotConfiguredError

from syneg.core.config import LMConfig
from syneg.core.secrets import masked_address
from syneg.core.storage import JsonObject

from .addresses import provider_of
from .replies import causes_of

_BY_OPENAIS_CLIENT = {"custom_openai", "litellm_proxy", "llamafile", "lm_studio", "openai", "perplexity"}
_BY_LITELLMS_CLIENT = {
    "anthropic", "azure_ai", "deepseek", "fireworks_ai", "groq", "hosted_vllm", "mistral", "ollama", "ollama_chat",
    "openrouter", "together_ai", "xai",
}  # fmt: skip


class RedirectError(NotConfiguredError):
    """An endpoint answered that the address is another."""


def check_redirect(status: int, address: str, location: str) -> None:
    """Raise RedirectError for the status of a redirect. `location` is where it goes, as a header says it."""
    if 300 <= status < 400:
        to = masked_address(location) or "nowhere"
        raise RedirectError(
            f"{masked_address(address)} redirects to {to!r}; set api_base to the address that answers", status=status
        )


def redirect_in(error: BaseException) -> RedirectError | None:
    """The RedirectError that led to an error."""
    return next((cause for cause in causes_of(error) if isinstance(cause, RedirectError)), None)


def unredirected(config: LMConfig) -> JsonObject:
    """The argument of `litellm.completion` with a client that refuses redirects; {} if litellm takes none."""
    provider = provider_of(config.model) if config.api_base else ""
    if provider not in _BY_OPENAIS_CLIENT | _BY_LITELLMS_CLIENT:
        return {}
    from litellm.llms.custom_httpx.http_handler import HTTPHandler

    handler = HTTPHandler(timeout=config.timeout_s, ssl_verify=config.extra.get("ssl_verify"))
    handler.client.event_hooks = {"response": [_check]}
    return {"client": handler if provider in _BY_LITELLMS_CLIENT else _openais_client(config, handler.client)}


def _check(response: Any) -> None:
    check_redirect(response.status_code, str(response.url), response.headers.get("location", ""))


def _openais_client(config: LMConfig, http: Any) -> Any:
    """The client of OpenAI as litellm makes it, with this HTTP client."""
    import litellm
    import openai

    key = config.extra.get("api_key") or litellm.get_llm_provider(config.model, api_base=config.api_base)[2]
    return openai.OpenAI(
        api_key=key or os.environ.get("OPENAI_API_KEY"), base_url=config.api_base, http_client=http,
        timeout=config.timeout_s, max_retries=0, organization=config.extra.get("organization"),
    )  # fmt: skip
