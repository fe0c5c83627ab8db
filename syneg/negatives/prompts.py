"""Show exactly what a program sends, as text, without calling an LM: `syneg-dspy prompts PROGRAM`.

    sent("neighbour_topic", Config())
      → ["--- call 1 of neighbour_topic …\\nsystem: Given a query …\\nuser: …", …]

The program runs as in a real run, under the same adapter. Its engine records each request and answers with placeholders
such as ‹topic›, which the adapter formats. So later calls show where the answers of earlier ones are inserted.
"""

from __future__ import annotations

import json
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

import dspy
from dspy.lm15 import Request, Response, response_from_openai_chat
from pydantic import BaseModel

from syneg.core.config import Config
from syneg.core.records import MinedNegative, Pair
from syneg.data.collection import Collection
from syneg.data.tasks import task_for
from syneg.llm.capabilities import ADAPTERS, adapter_for, capabilities_of
from syneg.llm.requests import plain_request
from syneg.llm.room import room_for
from syneg.programs import load_program
from syneg.retrieval.indexes import LexicalIndex

from .assignment import Assignment

EXAMPLE = Pair(
    "bees", "how do bees find their way back to the hive", "d1",
    "Bees fly home by the angle of the sun and by landmarks that they learn on their first flights.",
)  # fmt: skip
NEAR = (MinedNegative("d9", "Bees tell the others by a dance how far a field of flowers is.", "dense", 3, 0.5),)


class _Recorder:
    """A DSPy engine that records requests and answers them with placeholders, in the current adapter's format."""

    def __init__(self, config: Config) -> None:
        self.requests: list[Request] = []
        self.signature: type[dspy.Signature] = dspy.Signature
        self.adapter: dspy.Adapter | None = None
        self.supports_response_schema, self.supported_params = capabilities_of(config.lm)

    def complete(self, request: Request) -> Response:
        """Record the request, and answer it with placeholders."""
        self.requests.append(request)
        assert self.adapter is not None
        fields = self.signature.output_fields
        answer = self.adapter.format_assistant_message_content(
            self.signature, {name: _placeholder(name, info.annotation) for name, info in fields.items()}
        )
        return response_from_openai_chat(
            {"choices": [{"message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}]}, model="none"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> _Recorder:
        return self


def sent(name: str, config: Config, pair: Pair = EXAMPLE, mined: Sequence[MinedNegative] = NEAR) -> list[str]:
    """What the program sends for one pair: one text for each call. Raises ConfigError as `load_program` does."""
    program = load_program(name)
    assignment = Assignment([pair], {pair.query_id: mined}, task_for(config), config, name, program)
    requests = record(program, config, assignment.ask(0))
    return [f"--- call {number} of {name}\n{as_text(request)}" for number, request in enumerate(requests, 1)]


def near_passages(collection: Collection, pair: Pair, count: int = 3) -> list[MinedNegative]:
    """The first `count` passages by BM25 that are not judged relevant: a stand-in for mining that needs no encoder."""
    no_negative = collection.no_negative(pair.query_id)
    (hits,) = LexicalIndex(collection.passages).search([pair.query], count + len(no_negative))
    return [
        MinedNegative(doc_id, collection.passages[doc_id], "bm25", rank, 0.0)
        for rank, (doc_id, _) in enumerate(hits, 1)
        if doc_id not in no_negative
    ][:count]


def record(program: dspy.Module, config: Config, inputs: Mapping[str, object]) -> list[Request]:
    """Run `program` once, with placeholders as answers, and return the requests that it made, in order."""
    engine = _Recorder(config)
    base = ADAPTERS[adapter_for(config.lm)]

    def call(self: dspy.Adapter, lm: Any, lm_kwargs: Any, signature: Any, demos: Any, inputs: Any) -> Any:
        engine.signature, engine.adapter = signature, self
        return base.__call__(self, lm, lm_kwargs, signature, demos, inputs)

    adapter = types.new_class(base.__name__, (base,), exec_body=lambda body: body.update(__call__=call))()
    lm = dspy.LM(
        "openai/none",
        engine=engine,
        cache=False,
        temperature=config.lm.temperature,
        max_tokens=room_for(config.lm, config.generate.passage_words),
    )
    with dspy.context(lm=lm, adapter=adapter):
        program(**inputs)
    return engine.requests


def as_text(request: Request) -> str:
    """A request as readable text: the system message, the other messages, and the JSON schema of the answer, if any."""
    plain = plain_request(request)
    lines = [f"[system]\n{plain['system']}"] if plain["system"] else []
    lines += [f"[{role}]\n{text}" for role, text in plain["messages"]]
    form = plain["config"].get("response_format")
    if form:
        lines.append(f"[response format]\n{json.dumps(form, default=str, ensure_ascii=False, sort_keys=True)}")
    return "\n\n".join(lines) + "\n"


def _placeholder(name: str, annotation: Any) -> Any:
    """A value of the type `annotation` that shows where an answer goes: ‹name› for a text."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)[0]
    if get_origin(annotation) is list:
        return [_placeholder(f"{name} {i}", get_args(annotation)[0]) for i in (1, 2, 3)]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {key: _placeholder(key, info.annotation) for key, info in annotation.model_fields.items()}
    if annotation in (bool, int, float):
        return annotation(1)
    return f"‹{name}›"
