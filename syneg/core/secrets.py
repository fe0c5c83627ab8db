"""Mask secrets before a text goes to a file, a log, a message or a prompt.

>>> masked("http://me:hunter2@host/v1?api_key=sk-1&x=2")
'http://***@host/v1?api_key=***&x=2'

Three things count as secrets:

- values of environment variables with names such as OPENAI_API_KEY, WATSONX_APIKEY or DB_PASSWORD;
- user and password before the @ of an address;
- query parameters of an address with such names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

MASK = "***"
_WORD = r"(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|AUTH|AUTHORIZATION|COOKIE|SIGNATURE|SIG)"
_NAME = re.compile(rf"(?:^|[_\-.]|API|ACCESS){_WORD}S?(?:$|[_\-.])|_P(?:WD|ASS)$|BEARER", re.IGNORECASE)
_USERINFO = re.compile(r"(\b[a-z][a-z0-9+.\-]*://)[^/@\s'\"]+@", re.IGNORECASE)
_PARAMETER = re.compile(r"([?&])([\w.\-]+)=([^&\s'\"#]+)")
REFERENCE = re.compile(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))")
_SHORTEST = 8  # characters; a shorter value may be an ordinary word


def is_secret(name: str) -> bool:
    """Whether a variable, header or parameter of this name holds a secret.

    >>> [is_secret(name) for name in ("X-Api-Key", "WATSONX_APIKEY", "max_tokens", "TOKENIZERS_PARALLELISM", "PWD")]
    [True, True, False, False, False]
    """
    return bool(_NAME.search(name)) and not name.lower().startswith("max_")


def masked(text: str) -> str:
    """Replace every known secret in a text by ***."""
    for value in sorted({v for k, v in os.environ.items() if len(v) >= _SHORTEST and is_secret(k)}, key=len)[::-1]:
        text = text.replace(value, MASK)
    return masked_address(text)


def masked_address(text: str) -> str:
    """Replace secrets inside addresses (user, password, parameters) by ***."""
    text = _USERINFO.sub(rf"\1{MASK}@", text)
    return _PARAMETER.sub(lambda m: f"{m[1]}{m[2]}={MASK if is_secret(m[2]) else m[3]}", text)


def masked_values(value: Any, name: str = "") -> Any:
    """Settings that are safe to write to disk: secrets become ***, references ($NAME) stay. `name` is the key."""
    if isinstance(value, Mapping):
        return {key: masked_values(item, str(key)) for key, item in value.items()}
    if not isinstance(value, str) or REFERENCE.fullmatch(value.removeprefix("Bearer ")):
        return value
    return MASK if name and is_secret(name) else masked_address(value)
