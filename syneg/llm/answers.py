"""Read an answer: separate the text from the thinking, and explain an answer without a text.

    {"content": '{"hard_negative": "…"}', "reasoning_content": "The user wants …"}
        → Answer(text='{"hard_negative": "…"}', thinking="The user wants …", finish_reason="stop")
    {"content": None, "reasoning_content": "The user wants …"}, cut at 320 tokens
        → Answer(text="", …) with the fault "all 320 tokens went into thinking; raise lm.max_tokens"

Endpoints send thinking in three ways: in its own field (`reasoning_content`, `reasoning`), as parts of a list, or
between tags inside the text, which each family of models spells in its own way. Some chat templates put the opening tag
into the prompt, so that the text has only the closing tag.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dspy.lm15 import ProviderError, Response, TextPart, ThinkingPart, ToolCallPart

from .objects import objects_in
from .replies import choice_of

_NAMES = "think|thinking|thought|thoughts|seed:think|longcat_think"
_OPEN = (
    rf"(?:<(?:{_NAMES})>|\[(?:{_NAMES})\]|◁(?:{_NAMES})▷|<\|begin_of_thought\|>|<\|START_THINKING\|>"
    r"|<unused94>(?:thought\b)?|<\|channel>thought\b)"
)
_CLOSE = (
    rf"(?:</(?:{_NAMES})>|\[/(?:{_NAMES})\]|◁/(?:{_NAMES})▷|<\|end_of_thought\|>|<\|END_THINKING\|>"
    r"|<unused95>|<channel\|>)"
)
_TAG = re.compile(rf"{_OPEN}|(?P<end>{_CLOSE})", re.IGNORECASE)
_HEADER = re.compile(r"\[\[ ## \w+ ## \]\]")  # of a field in DSPy's chat layout
# These are fields of the XML layout, too, so they count only before JSON, code or a header.
_BEFORE = re.compile(
    r"\A\s*<(reasoning|analysis|reflection|scratchpad)>(.*?)</\1>\s*(?=[{\[`])", re.IGNORECASE | re.DOTALL
)
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+).*?<\|message\|>(.*?)(?=<\|(?:end|return|start|call)\|>|\Z)", re.DOTALL)
# What a server leaves of a chat template: marks around the answer, and the end of the turn.
_MARKS = re.compile(
    r"\A\s*<\|(?:begin_of_solution|START_RESPONSE)\|>"
    r"|(?:\s*(?:<\|(?:end_of_solution|END_RESPONSE|im_end|eot_id|end|endoftext|end_of_text|return)\|>|</s>|<eos>"
    r"|<end_of_turn>|<｜end▁of▁sentence｜>))+\s*\Z"
)
_FENCE = re.compile(r"^\s*(?:```|~~~)", re.MULTILINE)
CUT = "length"
_ALSO_CUT = ("max_tokens", "max_output_tokens")  # as some gateways say it


class NoAnswerError(ProviderError):
    """The endpoint answered without a usable text."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. `other` describes what came instead of a text, such as a refusal or a tool call."""

    text: str
    thinking: str = ""
    finish_reason: str = "stop"
    other: str = ""

    def fault(self, section: str, max_tokens: int, *, whole: bool) -> str:
        """The reason why the answer is unusable, with the setting that helps; "" for a usable answer.

        `section` is the LM's section in the settings. `max_tokens` is the limit of the request. With `whole` a text is
        also unusable if it was cut or ends inside a code fence.
        """
        room = f"raise {section}.max_tokens"
        if not self.text.strip():
            if self.finish_reason == CUT and self.thinking:
                return f"all {max_tokens} tokens went into thinking; {room}, or set {section}.extra to think less"
            if self.finish_reason == CUT:
                return f"the answer was cut before its first word; {room}"
            if self.finish_reason == "content_filter":
                return "the content filter of the endpoint removed the answer"
            if self.other:
                return self.other
            return "the answer has thinking and no text" if self.thinking else "the answer is empty"
        if whole and self.finish_reason == CUT:
            return f"the answer was cut after {max_tokens} tokens; {room}"
        if whole and len(_FENCE.findall(self.text)) % 2:
            return f"the answer ends inside a code fence; {room}"
        if self.finish_reason != CUT and _ends_inside_json(self.text):
            return f"the answer ends inside its JSON; {room}"
        return ""


def _ends_inside_json(text: str) -> bool:
    """Whether a text is JSON that stops inside a string. Some servers call an answer whole that they have cut.

    Only a closing bracket that is missing is no sign of a cut: small LMs forget it.
    """
    text = text.strip()
    if text[:1] not in ("{", "[") or text[-1:] in ("}", "]", '"'):
        return False
    depth, quoted, escaped = 0, False, False
    for character in text:
        if quoted:
            quoted = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            quoted = True
        else:
            depth += (character in "{[") - (character in "}]")
            if not depth and character in "}]":
                return False  # the JSON is whole, and something follows it
    return quoted


def answer_of(response: Response) -> Answer:
    """Read the response of either client, litellm's or DSPy's own."""
    parts = response.message.parts
    text = "".join(part.text for part in parts if isinstance(part, TextPart))
    thinking = [part.text for part in parts if isinstance(part, ThinkingPart) and part.text]
    choice = choice_of(response.provider_data)
    message: Mapping[str, Any] = choice["message"] if isinstance(choice.get("message"), Mapping) else {}
    content = message.get("content")
    if isinstance(content, Mapping):
        content = [content] if "type" in content else json.dumps(content, ensure_ascii=False)
    if isinstance(content, list):
        text, thinking = _listed(content)
    elif isinstance(content, str):
        text = text or content
    text, inside = separated(text)
    thinking += inside
    finish = str(response.finish_reason or "stop")
    if str(choice.get("finish_reason")).lower() in _ALSO_CUT:
        finish = CUT
    if not text.strip() and finish == "stop" and thinking:
        text = _closing_object(thinking[-1])
    names, given = _called(message)
    names |= {part.name for part in parts if isinstance(part, ToolCallPart)}
    if given and not text.strip():
        text, finish = given, "stop" if finish == "tool_calls" else finish
    refusal = message.get("refusal") or (message.get("provider_specific_fields") or {}).get("refusal")
    other = f"the LM refused: {' '.join(str(refusal).split())[:200]}" if refusal else ""
    if names:
        other = f"the LM called the tool {', '.join(sorted(names))}, which the request does not offer"
    return Answer(text, "\n".join(thinking), finish, other)


def _called(message: Mapping[str, Any]) -> tuple[set[str], str]:
    """The tools that a message calls; and the arguments, if there is one call. Some gateways send JSON as a call."""
    listed = message.get("tool_calls")
    inner = [call.get("function") for call in listed if isinstance(call, Mapping)] if isinstance(listed, list) else []
    calls: list[Mapping[str, Any]]
    calls = [call for call in [*inner, message.get("function_call")] if isinstance(call, Mapping)]
    given = calls[0].get("arguments") if len(calls) == 1 else None
    if isinstance(given, Mapping):
        given = json.dumps(given, ensure_ascii=False) if given else None
    if not isinstance(given, str) or given.strip() in ("", "{}"):
        given = ""
    return {str(call.get("name")) for call in calls}, given


def separated(text: str) -> tuple[str, list[str]]:
    """Split a text into the answer and the pieces of thinking.

    >>> separated("<think>A lock?</think>\\nThe lock.")
    ('The lock.', ['A lock?'])
    >>> separated("A lock?</think>The lock."), separated("<think>A lock")
    (('The lock.', ['A lock?']), ('', ['A lock']))
    """
    channels = _CHANNEL.findall(text)
    if channels:
        final = "".join(part for name, part in channels if name == "final")
        return final, [part for name, part in channels if name != "final"]
    rest = _MARKS.sub("", text)
    rest, thinking = _without_blocks(rest) if _TAG.search(rest) else (rest, [])
    while before := _BEFORE.match(rest):
        thinking.append(before[2])
        rest = rest[before.end() :]
    return (_MARKS.sub("", rest.lstrip()) if thinking else rest), [part.strip() for part in thinking]


def _without_blocks(text: str) -> tuple[str, list[str]]:
    """Take out blocks of thinking, what stands before an end without a beginning, and all after a beginning without an
    end. Tags inside a JSON object, or in a field after its header, are the answer's own words."""
    own, fields = list(objects_in(text)), [header.start() for header in _HEADER.finditer(text)]
    kept, thinking = "", list[str]()
    place, begun = 0, -1
    for tag in _TAG.finditer(text):
        start, end = tag.span()
        inside = bool(fields) and fields[0] < start and not (tag["end"] and start < fields[-1])
        if any(first < start < last for first, last in own) or (begun < 0 and inside):
            continue
        if tag["end"]:
            thinking.append(text[begun:start] if begun >= 0 else kept + text[place:start])
            kept, place, begun = kept if begun >= 0 else "", end, -1
        elif begun < 0:
            kept += text[place:start]
            place, begun = start, end
    if begun >= 0 and not kept.strip():
        return "", [*thinking, text[begun:]]
    return kept + text[place:], thinking


def _listed(content: list[Any]) -> tuple[str, list[str]]:
    """Text and thinking of a content that is a list of typed parts. Servers differ in the names of the fields."""
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
    """The JSON object at the end of a piece of thinking, or "". Some servers close the thinking too late, so that it
    contains the answer."""
    tail = re.sub(r"\s*```\s*\Z", "", thinking).rstrip()
    return next((tail[start:] for start, end in objects_in(tail) if end == len(tail)), "")
