"""What a request asks of a model: which one, and how much it may consume."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

__all__ = ["DEFAULT_OUTPUT_TOKENS", "IMAGE_TOKENS", "Asked", "most_input_tokens", "read_request"]

DEFAULT_OUTPUT_TOKENS = 4096
"""Completion tokens that are reserved for a request that sets no maximum."""

IMAGE_TOKENS = 4096
"""Prompt tokens that are reserved for one inline image, sound or file."""

_INLINE = re.compile(rb"(?<![A-Za-z0-9+/=])[A-Za-z0-9+/=]{1024,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request to a model, read.

    Attributes:
        model: The model's name; empty where it names none.
        output_tokens: What it sets as its maximum, times `n`, or the default.
    """

    model: str = ""
    output_tokens: int = 0


def read_request(path: str, body: bytes) -> Asked:
    """What a request's body asks; a body that is no JSON object asks no model in particular."""
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    asked: Mapping[str, Any] = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    made = 0
    if not path.endswith("/embeddings"):
        names = ("max_completion_tokens", "max_tokens", "max_output_tokens")
        limits = [v for name in names if isinstance(v := asked.get(name), int) and v > 0]
        n = asked.get("n")
        made = max(limits, default=DEFAULT_OUTPUT_TOKENS) * (n if isinstance(n, int) and n > 1 else 1)
    model = asked.get("model")
    return Asked(model=model if isinstance(model, str) else "", output_tokens=made)


def most_input_tokens(body: bytes) -> int:
    """Prompt tokens that a request's body has at most.

    A token of a byte-level tokenizer stands for one byte at least, so the bytes of the body bound the
    prompt's tokens; English has about four bytes a token, so it is some four times too many. Inline data
    (base64) counts `IMAGE_TOKENS` a piece. What a provider adds by itself (hidden prompts) is not in it.
    """
    if len(body) <= 4096:
        return len(body)
    inline = [len(found[0]) for found in _INLINE.finditer(body)]
    return len(body) + len(inline) * IMAGE_TOKENS - sum(inline)
