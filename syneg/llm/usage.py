"""What a call used, and what it may use at most, in tokens.

    usage_of(response, prompt, answer, "openai/gpt-4o-mini") → Usage(input_tokens=412, output_tokens=88, counted=False)
    most_tokens(prompt)                                       → 2736

An endpoint that reports no usage, or a zero beside a text, is counted with litellm's tokenizer for the model, and the
Usage is marked as `counted`: never zero, as a budget would then never be spent.
"""

from __future__ import annotations

from dataclasses import dataclass

from dspy.lm15 import Response

# what chat templates put around messages: role marks, the date, a system text of their own (gpt-oss: about 70 tokens)
_TEMPLATE = 96


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call. `counted`: by a tokenizer here, as the endpoint did not report them."""

    input_tokens: int
    output_tokens: int
    counted: bool


def usage_of(response: Response, prompt: str, answer: str, model: str) -> Usage:
    """The reported tokens; those that are missing are counted from `prompt` and `answer` (with its thinking)."""
    read, written = int(response.usage.input_tokens or 0), int(response.usage.output_tokens or 0)
    missing_input, missing_output = not read and bool(prompt), not written and bool(answer.strip())
    if missing_input:
        read = count_tokens(prompt, model)
    if missing_output:
        written = count_tokens(answer.strip(), model)
    return Usage(read, written, counted=missing_input or missing_output)


def count_tokens(text: str, model: str) -> int:
    """Tokens of a text by litellm's tokenizer for the model, or by a common one (cl100k) where it has none. Nothing is
    downloaded for it."""
    import litellm

    litellm.disable_hf_tokenizer_download = True  # else six tries of the hub for each Llama
    return max(1, int(litellm.token_counter(model=model, text=text)))


def most_tokens(prompt: str) -> int:
    """An upper bound on the tokens of a prompt in any script, for any tokenizer that falls back to bytes: its UTF-8
    bytes, and room for a chat template. English has about four bytes a token, Chinese three, emoji down to one."""
    return len(prompt.encode("utf-8", "replace")) + _TEMPLATE
