"""What calls cost, by litellm's table. A price that is not known is None, never zero.

dollars("openai/gpt-4o-mini", 1000, 200) → 0.00027      price_per_million("local/smollm2-135m") → "free"
"""

from __future__ import annotations

from functools import lru_cache


def price(model: str, input_tokens: int, output_tokens: int) -> float | None:
    """Dollars by litellm's table; None where the model has no price there."""
    return _price(model, input_tokens, output_tokens) if has_price(model) else None


@lru_cache(maxsize=64)
def has_price(model: str) -> bool:
    """Whether litellm's table has the model; looked up once, as a look takes as long as a tenth of a call."""
    return _price(model, 1000, 1000) is not None


def _price(model: str, input_tokens: int, output_tokens: int) -> float | None:
    import litellm

    try:
        prompt, completion = litellm.cost_per_token(
            model=model, prompt_tokens=input_tokens, completion_tokens=output_tokens
        )
    except (
        litellm.exceptions.ModelNotMappedError,
        litellm.exceptions.BadRequestError,
        litellm.exceptions.NotFoundError,
    ):
        return None
    if not prompt + completion and not litellm.model_cost.get(model):
        return None  # a server of one's own, which litellm calls free
    return float(prompt + completion)


def dollars(model: str, input_tokens: int, output_tokens: int) -> float | None:
    """What a call costs by litellm's table; 0 for embedded models, None where the price is not known."""
    if model.startswith("local/"):
        return 0.0
    if not input_tokens + output_tokens:
        return 0.0 if has_price(model) else None
    return price(model, input_tokens, output_tokens)


def price_per_million(model: str) -> str:
    """Dollars for a million tokens, in words: "$0.15 in, $0.60 out", "free", or "unknown"."""
    if model.startswith("local/"):
        return "free"
    into, out = price(model, 1_000_000, 0), price(model, 0, 1_000_000)
    return "unknown" if into is None or out is None else f"${into:.2f} in, ${out:.2f} out"
