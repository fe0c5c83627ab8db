"""Secrets in texts: what must never stand in a file, a log, a message or a prompt is masked here.

>>> masked("http://me:hunter2@host/v1?api_key=sk-1&x=2")
'http://***@host/v1?api_key=***&x=2'

Known as secrets: the values of environment variables with names such as OPENAI_API_KEY, WATSONX_APIKEY,
AWS_BEARER_TOKEN_BEDROCK or DB_PASSWORD, what stands before the @ of an address, and parameters of an address with such
names.
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
_SHORTEST = 8  # characters; shorter values are words


def is_secret(name: str) -> bool:
    """Whether a name is that of a secret.

    >>> [is_secret(name) for name in ("X-Api-Key", "WATSONX_APIKEY", "max_tokens", "TOKENIZERS_PARALLELISM", "PWD")]
    [True, True, False, False, False]
    """
    return bool(_NAME.search(name)) and not name.lower().startswith("max_")


def masked(text: str) -> str:
    """The text with every known secret as ***."""
    for value in sorted({v for k, v in os.environ.items() if len(v) >= _SHORTEST and is_secret(k)}, key=len)[::-1]:
        text = text.replace(value, MASK)
    return masked_address(text)


def masked_address(text: str) -> str:
    """The text with the secrets of the addresses in it as ***."""
    text = _USERINFO.sub(rf"\1{MASK}@", text)
    return _PARAMETER.sub(lambda m: f"{m[1]}{m[2]}={MASK if is_secret(m[2]) else m[3]}", text)


def masked_values(value: Any, name: str = "") -> Any:
    """Settings as they may be written down: secrets that stand in them, not by reference ($NAME), as ***."""
    if isinstance(value, Mapping):
        return {key: masked_values(item, str(key)) for key, item in value.items()}
    if not isinstance(value, str) or REFERENCE.fullmatch(value.removeprefix("Bearer ")):
        return value
    return MASK if name and is_secret(name) else masked_address(value)
