"""JSON of strangers, read strictly; and telling whether a text is JSON or YAML of some form."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from steelyard.core.canonical import JSON, canonical
from steelyard.core.errors import InvalidFile, InvalidValue
from steelyard.prompts.strict_yaml import MAX_BYTES, read_yaml

__all__ = ["looks_like", "read_json", "read_mapping"]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return out


def read_json(text: str, what: str) -> JSON:
    """The value of a JSON text.

    Raises:
        InvalidValue: it is over 1 MB, no JSON, has a key twice, or holds what canonical JSON refuses.
    """
    if len(text) > MAX_BYTES:
        raise InvalidValue(
            f"{what} is over {MAX_BYTES / 1e6:g} MB", do="A prompt is text that people review."
        )
    try:
        value = json.loads(text, object_pairs_hook=_object)
        canonical(value)
    except InvalidValue:
        raise
    except (ValueError, RecursionError) as error:
        raise InvalidValue(f"{what} is no JSON ({str(error)[:120]})", do="Mend the file.") from None
    return value


def read_mapping(text: str, what: str) -> dict[str, JSON]:
    """The object of a YAML text, read by the rules of prompt files.

    Raises:
        InvalidFile: it is no YAML of plain values. InvalidValue: it is no object.
    """
    value = read_yaml(Path(what), text.encode("utf-8", "surrogatepass")).value
    if not isinstance(value, dict):
        raise InvalidValue(f"{what} holds no keys", do="Mend the file.")
    return cast("dict[str, JSON]", value)


def looks_like(text: str, mark: Callable[[Mapping[str, Any]], bool], *, yaml: bool = False) -> bool:
    """Whether a text is a JSON (or YAML) object that bears a mark."""
    try:
        value = read_mapping(text, "text") if yaml else read_json(text, "text")
    except (InvalidValue, InvalidFile):
        return False
    return isinstance(value, Mapping) and mark(cast("Mapping[str, Any]", value))
