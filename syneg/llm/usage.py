"""Count the tokens of a call, and bound them before the call.

    usage_of(response, prompt, answer, "openai/gpt-4o-mini") → Usage(input_tokens=412, output_tokens=88, counted=False)
    most_tokens(prompt)                                       → 2736

If an endpoint reports no usage, or zero tokens for a text, litellm's tokenizer counts them, and the Usage is marked as
`counted`. Zero would let a run pass its budget.
"""

from __future__ import annotations

from dataclasses import dataclass

from dspy.lm15 import Response

# tokens that chat templates add: role marks, the date, a system text of their own (gpt-oss: about 70 tokens)
_TEMPLATE = 96


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call. `counted` says that they were counted here, because the endpoint did not report them."""

    input_tokens: int
    output_tokens: int
    counted: bool


def usage_of(response: Response, prompt: str, answer: str, model: str) -> Usage:
    """The tokens that a response reports. Missing ones are counted in `prompt` and `answer` (with its thinking)."""
    read, written = int(response.usage.input_tokens or 0), int(response.usage.output_tokens or 0)
    missing_input, missing_output = not read and bool(prompt), not written and bool(answer.strip())
    if missing_input:
        read = count_tokens(prompt, model)
    if missing_output:
        written = count_tokens(answer.strip(), model)
    return Usage(read, written, counted=missing_input or missing_output)


def count_tokens(text: str, model: str) -> int:
    """Count tokens with litellm's tokenizer for the model, or with cl100k if it has none. Downloads nothing."""
    import litellm

    litellm.disable_hf_tokenizer_download = True  # else litellm asks the hub six times for each Llama
    return max(1, int(litellm.token_counter(model=model, text=text)))


def most_tokens(prompt: str) -> int:
    """An upper bound on the tokens of a prompt: its UTF-8 bytes, plus 96 for a chat template.

    It holds in any script for any tokenizer that falls back to bytes. English has about four bytes per token, Chinese
    three, some emoji one.
    """
    return len(prompt.encode("utf-8", "replace")) + _TEMPLATE
