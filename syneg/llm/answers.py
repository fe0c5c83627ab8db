"""What an endpoint answered: the text, the thinking apart from it, and why there is no text where there is none.

    {"content": '{"hard_negative": "…"}', "reasoning_content": "The user wants …"}
        → Answer(text='{"hard_negative": "…"}', thinking="The user wants …", finish_reason="stop")
    {"content": None, "reasoning_content": "The user wants …"}, cut at 320 tokens
        → Answer(text="", …), of which `fault` says "all 320 tokens went into thinking; raise lm.max_tokens"

Thinking comes in a field of its own (`reasoning_content`, `reasoning`), as parts of a list, or inside the text between
tags, of which chat templates often write the opening one into the prompt, so that only the closing one is there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dspy.lm15 import ProviderError, Response, TextPart, ThinkingPart, ToolCallPart

_NAMES = "think|thinking"  # no more: <reasoning> is a field of programs in the XML layout
_OPEN = rf"(?:<(?:{_NAMES})>|\[(?:{_NAMES})\]|◁(?:{_NAMES})▷)"
_CLOSE = rf"(?:</(?:{_NAMES})>|\[/(?:{_NAMES})\]|◁/(?:{_NAMES})▷)"
_BLOCK = re.compile(rf"{_OPEN}(.*?){_CLOSE}", re.IGNORECASE | re.DOTALL)
_CLOSED = re.compile(rf"\A(.*){_CLOSE}", re.IGNORECASE | re.DOTALL)
_UNCLOSED = re.compile(rf"\A\s*{_OPEN}(.*)\Z", re.IGNORECASE | re.DOTALL)
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+).*?<\|message\|>(.*?)(?=<\|(?:end|return|start|call)\|>|\Z)", re.DOTALL)
_FENCE = re.compile(r"^\s*(?:```|~~~)", re.MULTILINE)
CUT = "length"


class NoAnswerError(ProviderError):
    """The endpoint answered, but without a text that can be used."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. `other` says what came in place of a text: a refusal, a call of a tool."""

    text: str
    thinking: str = ""
    finish_reason: str = "stop"
    other: str = ""

    def fault(self, section: str, max_tokens: int, *, whole: bool) -> str:
        """Why the answer cannot be used, with the setting that helps; "" where it can.

        `section` is the LM's section in the settings, `max_tokens` what the request allowed. With `whole` a text that
        was cut, or that ends inside a code fence, cannot be used either.
        """
        room = f"raise {section}.max_tokens"
        if not self.text.strip():
            if self.finish_reason == CUT and self.thinking:
                return f"all {max_tokens} tokens went into thinking; {room}, or set {section}.extra to think less"
            if self.finish_reason == CUT:
                return f"the answer was cut before its first word; {room}"
            if self.finish_reason == "content_filter":
                return "the content filter of the endpoint took the answer away"
            if self.other:
                return self.other
            return "it thought, but gave no answer" if self.thinking else "the answer is empty"
        if whole and self.finish_reason == CUT:
            return f"the answer was cut after {max_tokens} tokens; {room}"
        if whole and len(_FENCE.findall(self.text)) % 2:
            return f"the answer ends inside a code fence; {room}"
        return ""


def answer_of(response: Response) -> Answer:
    """Read a response of any engine."""
    parts = response.message.parts
    text = "".join(part.text for part in parts if isinstance(part, TextPart))
    thinking = [part.text for part in parts if isinstance(part, ThinkingPart) and part.text]
    message = _message(response.provider_data)
    if isinstance(message.get("content"), list):
        text, thinking = _listed(message["content"])
    text, inside = separated(text)
    thinking += inside
    finish = str(response.finish_reason or "stop")
    if not text.strip() and finish == "stop" and thinking:
        text = _closing_object(thinking[-1])
    names = {part.name for part in parts if isinstance(part, ToolCallPart)}
    refusal = message.get("refusal") or (message.get("provider_specific_fields") or {}).get("refusal")
    other = f"it refused: {' '.join(str(refusal).split())[:200]}" if refusal else ""
    if names:
        other = f"it called the tool {', '.join(sorted(names))}, which nobody offered"
    return Answer(text, "\n".join(thinking), finish, other)


def separated(text: str) -> tuple[str, list[str]]:
    """A text without the thinking in it, and the thinking.

    >>> separated("<think>A lock?</think>\\nThe lock.")
    ('The lock.', ['A lock?'])
    >>> separated("A lock?</think>The lock."), separated("<think>A lock")
    (('The lock.', ['A lock?']), ('', ['A lock']))
    """
    channels = _CHANNEL.findall(text)
    if channels:
        final = "".join(part for name, part in channels if name == "final")
        return final, [part for name, part in channels if name != "final"]
    thinking = _BLOCK.findall(text)
    rest = _BLOCK.sub("", text) if thinking else text
    if closed := _CLOSED.match(rest):
        thinking.append(closed[1])
        rest = rest[closed.end() :]
    if unclosed := _UNCLOSED.match(rest):
        thinking.append(unclosed[1])
        rest = ""
    return (rest.lstrip() if thinking else rest), [part.strip() for part in thinking]


def _message(body: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The message as the endpoint sent it; {} where the provider's form is another."""
    try:
        message = (body or {})["choices"][0]["message"]
    except (LookupError, TypeError):
        return {}
    return message if isinstance(message, Mapping) else {}


def _listed(content: list[Any]) -> tuple[str, list[str]]:
    """Text and thinking of a content that is a list of typed parts, as servers shape them."""
    texts: list[str] = []
    thinking: list[str] = []
    for item in content:
        if isinstance(item, str):
            texts.append(item)
        elif isinstance(item, Mapping):
            inner = next((item[key] for key in ("text", "thinking", "reasoning", "content") if item.get(key)), "")
            text = inner if isinstance(inner, str) else "".join(_words(part) for part in inner)
            kind = str(item.get("type"))
            (thinking if "think" in kind or "reason" in kind else texts).append(text)
    return "".join(texts), thinking


def _words(part: Any) -> str:
    return str(part.get("text") or "") if isinstance(part, Mapping) else str(part)


def _closing_object(thinking: str) -> str:
    """The JSON object with which thinking ends, or "": servers that misplace the end of thinking put the answer into
    it."""
    tail = re.sub(r"\s*```\s*\Z", "", thinking).rstrip()
    starts = [match.start() for match in re.finditer(r"\{", tail)] if tail.endswith("}") else []
    for start in starts[:200]:
        try:
            match, end = json.JSONDecoder(strict=False).raw_decode(tail, start)
        except (ValueError, RecursionError):
            continue
        if isinstance(match, dict) and end == len(tail):
            return tail[start:]
    return ""
