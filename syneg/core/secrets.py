"""Mask secrets before a text goes to a file, a log, a message or a prompt.

>>> masked("http://me:hunter2@host/v1?api_key=sk-1&x=2")
'http://***@host/v1?api_key=***&x=2'

Four things count as secrets:

- values of environment variables with names such as OPENAI_API_KEY, WATSONX_APIKEY or DB_PASSWORD;
- user and password before the @ of an address;
- query parameters of an address with such names;
- what `remember` was told: keys and passwords that stand in the settings of an LM. An endpoint may repeat a header in
  its error message, and a client may print an address without its scheme.

A secret is also masked as an address or a Basic header carries it, and where half of it or more is left of a cut.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

MASK = "***"
_WORD = r"(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|AUTH|AUTHORIZATION|COOKIE|SIGNATURE|SIG)"
_NAME = re.compile(rf"(?:^|[_\-.]|API|ACCESS){_WORD}S?(?:$|[_\-.])|_P(?:WD|ASS)$|BEARER", re.IGNORECASE)
_USERINFO = re.compile(r"(\b[a-z][a-z0-9+.\-]*://)([^/?#\s'\"]+)@", re.IGNORECASE)
_PARAMETER = re.compile(r"([?&])([\w.\-]+)=([^&\s'\"#]+)")
REFERENCE = re.compile(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))")
_SCHEME = re.compile(r"^(?:Bearer|Basic|Token|ApiKey) +", re.IGNORECASE)
_PLACE = re.compile(r"[/~.\\]|[A-Za-z]:\\|\S*://")  # begins a path or an address, whose parts are no secrets
_SHORTEST = 8  # characters; a shorter value may be an ordinary word
_SHORTEST_TOLD = 6  # the same for a value that a setting calls secret; "none" and "EMPTY" are no keys
_URL_SAFE = str.maketrans("+/", "-_")
_told: set[str] = set()


def is_secret(name: str) -> bool:
    """Whether a variable, header or parameter of this name holds a secret.

    >>> [is_secret(name) for name in ("X-Api-Key", "WATSONX_APIKEY", "max_tokens", "TOKENIZERS_PARALLELISM", "PWD")]
    [True, True, False, False, False]
    """
    return bool(_NAME.search(name)) and not name.lower().startswith("max_")


def remember(value: Any, name: str = "") -> None:
    """Mask the secrets in a setting from now on: values of secret names, and user and password of an address.

    >>> remember({"extra_headers": {"X-Api-Key": "my-gateway-key"}}); masked("wrong key my-gateway-key")
    'wrong key ***'
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            remember(item, name if name and is_secret(name) else str(key))
    elif isinstance(value, (list, tuple)):
        for item in value:
            remember(item, name)
    elif isinstance(value, str):
        found = {_SCHEME.sub("", value)} if name and is_secret(name) else set()
        for _, login in _USERINFO.findall(value):
            plain = unquote(login)
            found |= {login, plain, login.partition(":")[2], plain.partition(":")[2]}
            sent = plain if ":" in plain else f"{plain}:"
            found.add(base64.b64encode(sent.encode()).decode())  # as a header carries it
        _told.update(secret for secret in found if len(secret) >= _SHORTEST_TOLD)


def masked(text: str) -> str:
    """Replace every known secret in a text by ***."""
    secrets = _told | {v for k, v in os.environ.items() if len(v) >= _SHORTEST and is_secret(k)}
    secrets |= {quote(value, safe="") for value in secrets}  # as an address carries it
    for value in sorted(secrets, key=len)[::-1]:
        text = text.replace(value, MASK)
    for value in secrets:
        for coded in _within_base64(value):
            text = re.sub(rf"[\w+/=-]*{re.escape(coded)}[\w+/=-]*", MASK, text) if coded in text else text
        if not _PLACE.match(value):
            text = _without_parts(text, value)
    return masked_address(text)


def _within_base64(secret: str) -> set[str]:
    """What stands in the base64 of any text with this secret, as that of `user:secret`.

    >>> sorted(_within_base64("hunter2hunter2"))
    ['aHVudGVyMmh1bnRlcj', 'h1bnRlcjJodW50ZXIy', 'odW50ZXIyaHVudGVyM']
    """
    data, found = secret.encode(), set()
    for before in range(3):  # bytes before the secret in the first group of three
        coded = base64.b64encode(bytes(before) + data).decode().rstrip("=")
        whole = (before + len(data)) * 8 // 6  # digits that depend on nothing behind the secret
        found.add(coded[(before * 8 + 5) // 6 : whole])
    return {each for each in found | {one.translate(_URL_SAFE) for one in found} if len(each) >= _SHORTEST}


def _without_parts(text: str, secret: str) -> str:
    """Mask each run of half of a secret or more; the message of an endpoint may be cut within it."""
    least = max(_SHORTEST, len(secret) // 2)
    for start in range(len(secret) - least + 1):
        while (place := text.find(secret[start : start + least])) >= 0:
            end = start + least
            while secret[end : end + 1] and text[place + end - start :].startswith(secret[end]):
                end += 1
            text = text[:place] + MASK + text[place + end - start :]
    return text


def masked_address(text: str) -> str:
    """Replace secrets inside addresses (user, password, parameters) by ***."""
    text = _USERINFO.sub(rf"\1{MASK}@", text)
    return _PARAMETER.sub(lambda m: f"{m[1]}{m[2]}={MASK if is_secret(m[2]) else m[3]}", text)


def masked_values(value: Any, name: str = "") -> Any:
    """Settings that are safe to write to disk: secrets become ***, references ($NAME) stay. `name` is the key."""
    if isinstance(value, Mapping):
        return {key: masked_values(item, str(key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked_values(item, name) for item in value]
    if not isinstance(value, str) or REFERENCE.fullmatch(_SCHEME.sub("", value)):
        return value
    return MASK if name and is_secret(name) else masked_address(value)
