"""Looking at one part of an output: a field's path, text, numbers, JSON equality."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, cast

from steelyard.core.canonical import JSON, canonical
from steelyard.core.errors import InvalidValue

__all__ = [
    "ABSENT",
    "as_number",
    "as_text",
    "has_reference",
    "normalised",
    "output_at",
    "reference_at",
    "same",
    "shown",
]


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Any = _Absent()
"""What `output_at` gives where the answer leaves the field out: the model's fault, so it scores the worst."""

_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,4})?", re.ASCII)


def output_at(outputs: JSON, field: str | None) -> Any:
    """The output, or the part of it that a path such as `intent` or `order.id` names; `ABSENT` if left out.

    Raises:
        InvalidValue: there is no output, or it is not an object: the task's fault, hence an error.
    """
    if outputs is None:
        raise InvalidValue("the task returned None", do="Return the answer from the task.")
    if field is None:
        return outputs
    if not isinstance(outputs, Mapping):
        raise InvalidValue(
            f"the output is {_kind(outputs)}, so it has no field {field!r}",
            do="Return an object from the task, or leave the field out.",
        )
    return _walk(outputs, field)


def reference_at(reference: JSON, field: str | None) -> Any:
    """The reference outputs, or the part that a path names.

    Raises:
        InvalidValue: the example has none: the data's fault, hence an error.
    """
    found = reference if field is None else _walk(reference, field)
    if not has_reference(reference, field):
        what = "reference_outputs" if field is None else f"reference_outputs.{field}"
        if found is None:
            raise InvalidValue(
                f"the example's {what} is null, which says that none is known",
                do='Where "nothing" is the right answer, give it a word in dataset and task, such as "none".',
            )
        raise InvalidValue(f"the example has no {what}", do="Add it to the dataset.")
    return found


def has_reference(reference: JSON, field: str | None) -> bool:
    """Whether `reference_at` finds something."""
    found = reference if field is None else _walk(reference, field)
    return found is not ABSENT and found is not None


def as_text(value: Any, what: str) -> str:
    """The value if it is text.

    Raises:
        InvalidValue: it is something else.
    """
    if not isinstance(value, str):
        raise InvalidValue(f"{what} is {_kind(value)}, not text", do="Name a field that holds text.")
    return value


def as_number(value: Any) -> float | None:
    """The value as a finite number, text such as `" 12.50 "` included; None if it is none."""
    if isinstance(value, str) and len(value) <= 100 and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def normalised(value: Any, *, ignore_case: bool, strip: bool) -> JSON:
    """The value with all text in it stripped and case-folded as asked; keys of objects stay."""
    if isinstance(value, str):
        text = value.strip() if strip else value
        return text.casefold() if ignore_case else text
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value)
        return {k: normalised(v, ignore_case=ignore_case, strip=strip) for k, v in items.items()}
    if isinstance(value, (list, tuple)):
        members = cast("list[Any]", value)
        return [normalised(v, ignore_case=ignore_case, strip=strip) for v in members]
    return value


def same(a: JSON, b: JSON) -> bool:
    """Whether two values are one JSON value: 1 is 1.0, true is not 1, keys have no order."""
    if isinstance(a, str) and isinstance(b, str):
        return a == b
    return canonical(a) == canonical(b)


def shown(value: Any) -> str:
    """The value for people, at most 200 characters."""
    text = repr(value)
    return text if len(text) <= 200 else text[:199] + "…"


def _walk(value: Any, path: str) -> Any:
    for key in path.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return ABSENT
        value = cast("Mapping[str, Any]", value)[key]
    return value


def _kind(value: object) -> str:
    if isinstance(value, str):
        return "text"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, Mapping):
        return "an object"
    return "null" if value is None else type(value).__name__
