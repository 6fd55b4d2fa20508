"""Variables: what a prompt is filled with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from steelyard.core.canonical import JSON

__all__ = ["REQUIRED", "TYPES", "Variable"]

TYPES = ("str", "int", "float", "bool", "list", "object")
"""What a variable may be; an `int` is also a `float`, a `bool` is neither."""


class _Required:
    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED: Any = _Required()
"""The default of a variable that has none: it must be handed in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """What a prompt is filled with.

    Attributes:
        type: One of `TYPES`.
        description: For people; not part of the identity.
        default: Stands in where nothing is handed in; `REQUIRED` if there is none.
    """

    type: str = "str"
    description: str = ""
    default: JSON = REQUIRED

    @property
    def required(self) -> bool:
        """Whether a value must be handed in."""
        return self.default is REQUIRED

    def accepts(self, value: object) -> bool:
        """Whether a value has the variable's type. NaN and infinities have none."""
        if self.type == "str":
            return isinstance(value, str)
        if self.type == "bool":
            return isinstance(value, bool)
        if self.type == "int":
            return isinstance(value, int) and not isinstance(value, bool)
        if self.type == "float":
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            return number and math.isfinite(cast("float", value))
        return isinstance(value, (list, tuple) if self.type == "list" else Mapping)
