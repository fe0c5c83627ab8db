"""The rows of `ledger/calls.jsonl`, as types: what is known of a call before it, what its answer adds, and both.

request: RequestRow = {"key": "5f0c…", "query_id": "q1", "attempt": 0, "model": "openai/gpt-4o-mini@default",
                       "prompt": "a94e…"}
unanswered(request, "refused", "HTTP 400: content filter")
  → {**request, "answer": "", "finish_reason": "refused", "error": "HTTP 400: …", "usd": 0.0, …}
"""

from __future__ import annotations

from typing import NotRequired, TypedDict, cast


class RequestRow(TypedDict):
    """The fields that are known before a call. `model` is an identity with its address, `prompt` a hash.

    `repeat` counts how often the same request was asked, from 2 on. `use` names the purpose of the call.
    """

    key: str
    query_id: str
    attempt: int
    model: str
    prompt: str
    repeat: NotRequired[int]
    use: NotRequired[str]


class AnswerRow(TypedDict):
    """The fields that an answer adds. `error` is None for a usable answer. `counted` marks tokens counted here."""

    answer: str
    finish_reason: str
    error: str | None
    input_tokens: int
    output_tokens: int
    counted: NotRequired[bool]
    thinking: NotRequired[str]


class CallRow(RequestRow, AnswerRow):
    """A row of the ledger. `usd` is None if the price is unknown.

    `refused` marks a prompt that the endpoint refuses, `stopped` a call that the budget of a compilation stopped.
    `within` is the key of the compilation that asked, `minutes` what it had worked until then. `reserved` are the most
    tokens and dollars that a call without any answer may have cost.
    """

    usd: float | None
    seconds: float
    refused: NotRequired[bool]
    stopped: NotRequired[bool]
    reserved: NotRequired[list[float]]
    within: NotRequired[str]
    minutes: NotRequired[float]


def answered(request: RequestRow, answer: AnswerRow, *, usd: float | None, seconds: float) -> CallRow:
    """The row of a call with its answer."""
    return cast(CallRow, {**request, **answer, "usd": usd, "seconds": seconds})


def unanswered(
    request: RequestRow, finish_reason: str, error: str, *, usd: float | None = 0.0, seconds: float = 0.0
) -> CallRow:
    """The row of a call without an answer, and the reason."""
    nothing: AnswerRow = {
        "answer": "", "finish_reason": finish_reason, "error": error, "input_tokens": 0, "output_tokens": 0,
    }  # fmt: skip
    return answered(request, nothing, usd=usd, seconds=seconds)


def is_answer(row: CallRow) -> bool:
    """Whether a row answers its request for good. A cut answer would be cut again, a refused prompt refused again."""
    return row["error"] is None or row.get("finish_reason") == "length" or bool(row.get("refused"))
