"""A DSPy adapter for small local models. It writes a signature and its demos in half the tokens, the request last.

    system     the instructions of the signature, nothing else
    user       query: <data>close a socket</data>⏎positive: <data>…</data>⏎Reply with JSON. topic: …; hard_negative: …
    assistant  {"topic": "…", "hard_negative": "…"}

A model with 1.5 B parameters reads 70 tokens/s on a CPU. A call with three demos takes 1,240 tokens through DSPy's
JSONAdapter, and about 600 through this adapter (docs/lab_notes.md). Small models follow what they read last, so every
turn repeats the request. Parsing and the JSON schema come from the JSONAdapter.
"""

from __future__ import annotations

import ast
import functools
import json
import textwrap
import types
from typing import Any, Literal, Union, get_args, get_origin

import dspy
from dspy.adapters.utils import format_field_value, parse_value, serialize_for_json
from dspy.utils.exceptions import AdapterParseError

from syneg.core.choices import chosen
from syneg.core.storage import JsonObject

_SIGNATURES = 64  # signatures of which something is kept; an optimizer makes new ones as it goes


class _Reading(dspy.Adapter):
    """Reads the closed fields of an answer (yes or no, a grade) in whatever plain spelling they come."""

    def parse(self, signature: type[dspy.Signature], completion: str) -> JsonObject:
        """The fields of an answer. Raises AdapterParseError if one is missing, ambiguous or of another kind."""
        fields: JsonObject = super().parse(_as_sent(signature), completion)
        for name, field in signature.output_fields.items():
            allowed = _allowed(field.annotation)
            if allowed is None:
                continue
            option = chosen(fields[name], allowed, name)
            try:
                fields[name] = parse_value(fields[name], field.annotation) if option is None else option
            except ValueError as error:
                problem = f"{name} is {str(fields[name])[:80]!r}, not one of {', '.join(map(str, allowed))}"
                raise AdapterParseError(type(self).__name__, signature, completion, problem) from error
        return fields

    def _make_json_adapter_fallback(self) -> dspy.JSONAdapter:
        return JSONAdapter()


def _allowed(annotation: Any) -> tuple[Any, ...] | None:
    """The options of a closed field (a Literal or a bool, also one that may be None); None for any other field."""
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [part for part in get_args(annotation) if part is not types.NoneType]
        return _allowed(inner[0]) if len(inner) == 1 else None
    if annotation is bool:
        return True, False
    return get_args(annotation) if get_origin(annotation) is Literal else None


@functools.lru_cache(_SIGNATURES)
def _as_sent(signature: type[dspy.Signature]) -> type[dspy.Signature]:
    """The signature with closed fields open, so that DSPy hands over their values as they were written."""
    for name, field in signature.output_fields.items():
        if _allowed(field.annotation) is not None:
            signature = signature.with_updated_fields(name, str | None | Any)
    return signature


class ChatAdapter(_Reading, dspy.ChatAdapter):
    """DSPy's ChatAdapter with closed fields read."""


class XMLAdapter(_Reading, dspy.XMLAdapter):
    """DSPy's XMLAdapter with closed fields read."""


class JSONAdapter(_Reading, dspy.JSONAdapter):
    """DSPy's JSONAdapter, but it builds the JSON schema of a signature once. DSPy builds it anew for each call, which
    takes some 7 to 10 % of the call's processor time."""

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

    def parse(self, signature: type[dspy.Signature], completion: str) -> JsonObject:
        """The fields of an answer. DSPy prints a list or an object into a text field, and it would be trained on.

        A list or an object with a single text counts as this text. Raises AdapterParseError for any other.
        """
        fields: JsonObject = super().parse(signature, completion)
        for name, field in signature.output_fields.items():
            if field.annotation is str and str(fields[name]).lstrip()[:1] in ("[", "{"):
                fields[name] = self._text(signature, completion, name, fields[name])
        return fields

    def _text(self, signature: type[dspy.Signature], completion: str, name: str, printed: str) -> str:
        """The text of a field that DSPy may have printed from a list or an object; a text with brackets stays."""
        try:
            value = ast.literal_eval(printed)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return printed
        if not isinstance(value, (list, dict)) or repr(value) != printed:
            return printed
        inner = [*(value.values() if isinstance(value, dict) else value)]
        if len(inner) == 1 and isinstance(inner[0], str):
            return inner[0]
        kind = "a list" if isinstance(value, list) else "an object"
        raise AdapterParseError("JSONAdapter", signature, completion, f"{name} is {kind}, not one text")


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
