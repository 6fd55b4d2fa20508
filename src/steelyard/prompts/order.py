"""The order of keys where models see it: in tools, response formats and what is nested in parameters.

The fields of a JSON schema are written by a model in the schema's order, so `explanation` before `label` is
another prompt than `label` before `explanation`. Canonical JSON sorts keys, and stores may; so the order is
part of the content: every object whose keys are not sorted is listed by its JSON pointer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from steelyard.core.canonical import JSON
from steelyard.core.errors import InvalidValue

__all__ = ["order_of", "reordered"]


def order_of(value: JSON, pointer: str) -> dict[str, list[str]]:
    """The keys of every object in a value whose keys are not sorted, by JSON pointer."""
    found: dict[str, list[str]] = {}
    if isinstance(value, dict):
        members = cast("dict[str, JSON]", value)
        keys = list(members)
        if keys != sorted(keys):
            found[pointer] = keys
        for key, member in members.items():
            found |= order_of(member, f"{pointer}/{_escaped(key)}")
    elif isinstance(value, list):
        for i, member in enumerate(cast("list[JSON]", value)):
            found |= order_of(member, f"{pointer}/{i}")
    return found


def reordered(value: JSON, pointer: str, order: Mapping[str, JSON]) -> JSON:
    """The value with its keys as they were when `order_of` gave the order, sorted where nothing is listed.

    Raises:
        InvalidValue: an object has other keys than those listed for it.
    """
    if isinstance(value, dict):
        members = cast("dict[str, JSON]", value)
        keys = order.get(pointer, sorted(members))
        if not isinstance(keys, list) or sorted(cast("list[str]", keys), key=str) != sorted(members):
            raise InvalidValue(
                f"the stored order of keys at {pointer!r} does not fit", do="Push the prompt again."
            )
        return {k: reordered(members[k], f"{pointer}/{_escaped(k)}", order) for k in cast("list[str]", keys)}
    if isinstance(value, list):
        return [reordered(v, f"{pointer}/{i}", order) for i, v in enumerate(cast("list[JSON]", value))]
    return value


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
