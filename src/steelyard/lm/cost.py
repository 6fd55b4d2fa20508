"""What a call costs, from the price list that the package `genai-prices` carries; no network."""

from __future__ import annotations

__all__ = ["price"]


def price(
    model: str | None, *, url: str, input_tokens: int, output_tokens: int, cached_tokens: int = 0
) -> float | None:
    """US dollars of a call, or None where the price is unknown.

    Args:
        model: The model's name as the provider gave it.
        url: The address that was called: it names the provider, and a model's name alone does not (the same
            open model has other prices elsewhere, and behind a gateway nobody knows).
        input_tokens: Prompt tokens, cached ones included.
        output_tokens: Completion tokens.
        cached_tokens: Prompt tokens that came from the provider's cache.
    """
    if not model:
        return None
    try:
        from genai_prices import Usage, calc_price
    except ImportError:
        return None
    try:
        found = calc_price(
            Usage(
                input_tokens=input_tokens,
                output_tokens=output_tokens,
                cache_read_tokens=min(cached_tokens, input_tokens) or None,
            ),
            model,
            provider_api_url=url,
        )
    except (LookupError, ValueError):
        return None
    return float(found.total_price)
