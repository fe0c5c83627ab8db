"""Price calls by litellm's table. An unknown price is None, never zero.

dollars("openai/gpt-4o-mini", 1000, 200) → 0.00027      price_per_million("local/smollm2-135m") → "free"
"""

from __future__ import annotations

from functools import lru_cache


def price(model: str, input_tokens: int, output_tokens: int) -> float | None:
    """Dollars by litellm's table; None if the table has no price for the model."""
    return _price(model, input_tokens, output_tokens) if has_price(model) else None


@lru_cache(maxsize=64)
def has_price(model: str) -> bool:
    """Whether litellm's table has a price for the model. Cached, because a look-up is a tenth of a call's overhead."""
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
        return None  # litellm gives 0 for the user's own server
    return float(prompt + completion)


def dollars(model: str, input_tokens: int, output_tokens: int) -> float | None:
    """Cost of a call in dollars; 0 for an embedded model, None if the price is unknown."""
    if model.startswith("local/"):
        return 0.0
    if not input_tokens + output_tokens:
        return 0.0 if has_price(model) else None
    return price(model, input_tokens, output_tokens)


def has_batch_price(model: str) -> bool:
    """Whether litellm's table has batch prices for the model."""
    return bool(_batch_prices(model))


def batch_dollars(model: str, input_tokens: int, output_tokens: int) -> float | None:
    """Cost in dollars of a call in a batch file: by batch prices if the table has them, else like `dollars`."""
    prices = _batch_prices(model)
    return (
        prices[0] * input_tokens + prices[1] * output_tokens if prices else dollars(model, input_tokens, output_tokens)
    )


@lru_cache(maxsize=64)
def _batch_prices(model: str) -> tuple[float, float] | None:
    """Dollars per input token and per output token in a batch file; None if unknown."""
    if model.startswith("local/"):
        return None
    import litellm

    known = litellm.model_cost.get(model) or litellm.model_cost.get(model.partition("/")[2]) or {}
    read, written = (known.get(f"{way}_cost_per_token_batches") for way in ("input", "output"))
    return None if read is None or written is None else (float(read), float(written))


def price_per_million(model: str) -> str:
    """Price per million tokens for the user: "$0.15 in, $0.60 out", "free", or "unknown"."""
    if model.startswith("local/"):
        return "free"
    into, out = price(model, 1_000_000, 0), price(model, 0, 1_000_000)
    return "unknown" if into is None or out is None else f"${into:.2f} in, ${out:.2f} out"
