"""DSPy's adapters, which read what LMs write in place of what was asked; and one for small local models.

    {"Hard negative": "…"}      → hard_negative: "…"             a key in other letters
    {"relevant": "**Yes**."}    → relevant: "yes"                a plain spelling of an option
    {"hard_negative": null}     → AdapterParseError: hard_negative is missing

`CompactAdapter` writes a signature and its demos in half the tokens, the request last:

    system     the instructions of the signature, nothing else
    user       query: <data>close a socket</data>⏎positive: <data>…</data>⏎Reply with JSON. topic: …; hard_negative: …
    assistant  {"topic": "…", "hard_negative": "…"}

A model with 1.5 B parameters reads 70 tokens/s on a CPU. A call with three demos takes 1,240 tokens through DSPy's
JSONAdapter, and about 600 through this adapter (docs/lab_notes.md). Small models follow what they read last, so every
turn repeats the request.
"""

from __future__ import annotations

import functools
import json
import re
import textwrap
import types
from collections.abc import Hashable, Iterable
from typing import Any, Literal, Union, cast, get_args, get_origin

import dspy
from dspy.adapters.utils import format_field_value, parse_value, serialize_for_json
from dspy.utils.exceptions import AdapterParseError

from syneg.core.choices import chosen
from syneg.core.storage import JsonObject

from .objects import alone

_SIGNATURES = 64  # signatures of which something is kept; an optimizer makes new ones as it goes

_KEY = re.compile(r'"([^"\\\n]{1,60})"(?=\s*:)')
_BARE = re.compile(r"&(?!#?\w+;)|<(?![/A-Za-z_])")


class _Reading(dspy.Adapter):
    """Reads values as an LM writes them: closed fields (yes or no, a grade) in any plain spelling."""

    _texts = False  # whether DSPy prints what is no text into a text field

    def parse(self, signature: type[dspy.Signature], completion: str) -> JsonObject:
        """The fields of an answer. Raises AdapterParseError if one is missing, ambiguous or of another kind."""
        sent: JsonObject = super().parse(_as_sent(cast(Hashable, signature), self._texts), completion)
        try:
            return {name: _value(name, field, sent[name]) for name, field in signature.output_fields.items()}
        except ValueError as error:
            raise AdapterParseError(type(self).__name__, signature, completion, str(error)) from error

    def _make_json_adapter_fallback(self) -> dspy.JSONAdapter:
        return JSONAdapter()


def _value(name: str, field: Any, value: Any) -> Any:
    """The value of a field. Raises ValueError if it is missing or of another kind."""
    if value is None and not field.is_required():
        return field.get_default(call_default_factory=True)
    if field.annotation is str:
        return _text(name, field, value)
    allowed = _allowed(field.annotation)
    option = chosen(value, allowed, name) if allowed else None
    if allowed is None or option is not None:
        return value if option is None else option
    try:
        return parse_value(value, field.annotation)
    except ValueError as error:
        options = ", ".join(map(str, allowed))
        raise ValueError(f"{name} is {str(value)[:80]!r}, not one of {options}") from error


def _text(name: str, field: Any, value: Any) -> str:
    """A text field. A list or an object with a single text counts as this text, and null as NONE where NONE is offered.

    DSPy would print null, a list or an object into the text, and it would be trained on.
    """
    if value is None:
        if "or NONE" in (field.json_schema_extra or {}).get("desc", ""):
            return "NONE"
        raise ValueError(f"{name} is missing")
    if not isinstance(value, (list, dict)):
        return str(value)
    inner = [*(value.values() if isinstance(value, dict) else value)]
    if len(inner) == 1 and isinstance(inner[0], str):
        return inner[0]
    raise ValueError(f"{name} is {'a list' if isinstance(value, list) else 'an object'}, not one text")


def _allowed(annotation: Any) -> tuple[Any, ...] | None:
    """The options of a closed field (a Literal or a bool, also one that may be None); None for any other field."""
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [part for part in get_args(annotation) if part is not types.NoneType]
        return _allowed(inner[0]) if len(inner) == 1 else None
    if annotation is bool:
        return True, False
    return get_args(annotation) if get_origin(annotation) is Literal else None


@functools.lru_cache(_SIGNATURES)
def _as_sent(signature: Any, texts: bool) -> type[dspy.Signature]:
    """The signature with open types for closed fields, and for `texts`, so that DSPy hands over values as they came."""
    for name, field in signature.output_fields.items():
        if _allowed(field.annotation) is not None or (texts and field.annotation is str):
            signature = signature.with_updated_fields(name, str | None | Any)
    return signature


def _named(completion: str, names: Iterable[str]) -> str:
    """JSON with the fields under their names: "hardNegative" or "Hard negative" is hard_negative, if that is missing.

    >>> _named('{"Hard negative": "a"}', ["hard_negative"])
    '{"hard_negative": "a"}'
    """
    missing = {_letters(name): name for name in names if f'"{name}"' not in completion}
    if not missing:
        return completion
    return _KEY.sub(lambda key: f'"{missing.get(_letters(key[1]), key[1])}"', completion)


def _letters(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()


class ChatAdapter(_Reading, dspy.ChatAdapter):
    """DSPy's ChatAdapter with closed fields read."""


class XMLAdapter(_Reading, dspy.XMLAdapter):
    """DSPy's XMLAdapter with closed fields read. A bare & or < in a text ("R&D", "x < 3") stands for itself."""

    def parse(self, signature: type[dspy.Signature], completion: str) -> JsonObject:
        """The fields of an answer, as `_Reading.parse`."""
        return super().parse(signature, _BARE.sub(lambda mark: "&amp;" if mark[0] == "&" else "&lt;", completion))


class JSONAdapter(_Reading, dspy.JSONAdapter):
    """DSPy's JSONAdapter, but it builds the JSON schema of a signature once. DSPy builds it anew for each call, which
    takes some 7 to 10 % of the call's processor time."""

    _texts = True

    def parse(self, signature: type[dspy.Signature], completion: str) -> JsonObject:
        """The fields of an answer, as `_Reading.parse`. Also raises for two objects that answer differently."""
        try:
            completion = alone(_named(completion, signature.output_fields), {*signature.output_fields})
        except ValueError as error:
            raise AdapterParseError(type(self).__name__, signature, completion, str(error)) from error
        return super().parse(signature, completion)

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._formats: dict[Any, JsonObject] = {}

    def _prepare_response_format(self, lm: Any, lm_kwargs: JsonObject, signature: type[dspy.Signature]) -> None:
        key = signature, lm.supports_response_schema, "response_format" in lm.supported_params
        if key not in self._formats:
            if len(self._formats) >= _SIGNATURES:
                self._formats.clear()
            made: JsonObject = {}
            super()._prepare_response_format(lm, made, signature)
            self._formats[key] = made
        lm_kwargs.update(self._formats[key])


class CompactAdapter(JSONAdapter):
    """The JSONAdapter with a shorter layout."""

    def format_system_message(self, signature: type[dspy.Signature]) -> str:
        return textwrap.dedent(signature.instructions).strip()

    def format_user_message_content(
        self,
        signature: type[dspy.Signature],
        inputs: JsonObject,
        prefix: str = "",
        suffix: str = "",
        main_request: bool = False,
    ) -> str:
        lines = [prefix] if prefix else []
        for name, field in signature.input_fields.items():
            if name in inputs:
                lines.append(f"{name}: {format_field_value(field_info=field, value=inputs[name])}")
        lines.append(self.user_message_output_requirements(signature))
        return "\n".join([*lines, suffix] if suffix else lines)

    def user_message_output_requirements(self, signature: type[dspy.Signature]) -> str:
        wanted = (f"{n}: {(f.json_schema_extra or {}).get('desc') or n}" for n, f in signature.output_fields.items())
        return f"Reply with JSON. {'; '.join(wanted)}"

    def format_assistant_message_content(
        self,
        signature: type[dspy.Signature],
        outputs: JsonObject,
        missing_field_message: str | None = None,
    ) -> str:
        return json.dumps(
            serialize_for_json({name: outputs.get(name, missing_field_message) for name in signature.output_fields}),
            ensure_ascii=False,
        )
