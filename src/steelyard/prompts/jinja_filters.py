"""What a Jinja template of ours may call: loops, `range` and filters, all counted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, cast

from jinja2 import StrictUndefined, pass_context
from jinja2.runtime import Context

from steelyard.core.clock import monotonic
from steelyard.core.errors import InvalidValue

__all__ = [
    "BUDGET",
    "FILTERS",
    "LOOK",
    "MAX_CHARACTERS",
    "MAX_SECONDS",
    "MAX_STEPS",
    "SMALLER",
    "Budget",
    "Counted",
    "is_number",
    "kind_of",
    "looped",
    "number_range",
    "printed",
    "text_of",
    "too_long",
]

MAX_CHARACTERS = 4_000_000
MAX_STEPS = 100_000
MAX_SECONDS = 1.0

BUDGET = "_steelyard_budget"  # begins with '_': no variable can have the name
SMALLER = "Hand it less, or write a simpler template."
LOOK = "Look at the template and the values that it got."


class Budget:
    """What one rendering may still use."""

    def __init__(self) -> None:
        self.steps, self.deadline = MAX_STEPS, monotonic() + MAX_SECONDS

    def step(self) -> None:
        """Use up one step.

        Raises:
            InvalidValue: no step or no time is left.
        """
        self.steps -= 1
        if self.steps < 0:
            raise InvalidValue(f"the template takes more than {MAX_STEPS:,} steps", do=SMALLER)
        if monotonic() > self.deadline:
            raise InvalidValue(f"the template takes longer than {MAX_SECONDS:g} s to render", do=SMALLER)


class Counted(list[Any]):
    """What a loop goes through; each turn costs a step."""

    __slots__ = ("budget",)

    def __init__(self, values: list[Any], budget: Budget) -> None:
        super().__init__(values)
        self.budget = budget

    def __iter__(self) -> Iterator[Any]:
        for value in super().__iter__():
            self.budget.step()
            yield value


@pass_context
def looped(context: Context, values: Any) -> list[Any]:
    """What a `for` goes through, each turn counted."""
    budget = cast("Budget", context.resolve(BUDGET))
    budget.step()
    if type(values) not in (list, tuple, dict, str, Counted):
        raise InvalidValue(
            f"a template cannot loop over {kind_of(values)}", do="Give it a list or an object."
        )
    return Counted(list(values), budget)


def number_range(*numbers: Any) -> list[int]:
    """`range()` of at most `MAX_STEPS` numbers."""
    if not 1 <= len(numbers) <= 3 or any(type(n) is not int for n in numbers):
        raise InvalidValue("range() takes one to three whole numbers", do="Mend the template.")
    try:
        values = range(*numbers)
        length = len(values)
    except (ValueError, OverflowError):
        length = MAX_STEPS + 1
        values = range(0)
    if length > MAX_STEPS:
        raise InvalidValue(f"range() with more than {MAX_STEPS:,} numbers", do=SMALLER)
    return list(values)


def _joined(values: Any, by: Any = "") -> str:
    parts = [printed(v) for v in _plain_list(values)]
    if len(parts) * len(text_of(by)) + sum(map(len, parts)) > MAX_CHARACTERS:
        raise too_long()
    return text_of(by).join(parts)


def _indented(value: Any, width: Any = 4, first: Any = False) -> str:
    text, width = text_of(value), _count(width)
    if len(text) + (text.count("\n") + 1) * width > MAX_CHARACTERS:
        raise too_long()
    lines = text.split("\n")
    pad = " " * width
    return "\n".join(pad + line if line and (i or first is True) else line for i, line in enumerate(lines))


def _sorted(values: Any, reverse: Any = False) -> list[Any]:
    try:
        return sorted(_plain_list(values), reverse=bool(reverse))
    except TypeError:
        raise InvalidValue("sort got values that cannot be compared", do="Give values of one type.") from None


def _default(value: Any, other: Any = "") -> Any:
    return other if value is None or isinstance(value, StrictUndefined) else value


def _length(value: Any) -> int:
    if type(value) not in (str, list, tuple, dict, Counted):
        raise InvalidValue(f"length of {kind_of(value)}", do="Give it a text, a list or an object.")
    return len(value)


def _items(value: Any) -> list[tuple[str, Any]]:
    if type(value) is not dict:
        raise InvalidValue(f"items of {kind_of(value)}", do="Give it an object.")
    return list(cast("dict[str, Any]", value).items())


def _edge(last: bool) -> Callable[[Any], Any]:
    def pick(values: Any) -> Any:
        members = _plain_list(values)
        if not members:
            raise InvalidValue("first or last of an empty list", do="Test for it with {% if list %}.")
        return members[-1 if last else 0]

    return pick


def _on_text(change: Callable[[str], str]) -> Callable[[Any], str]:
    return lambda value: change(text_of(value))


def _dumped(value: Any) -> str:
    if isinstance(value, StrictUndefined):
        raise InvalidValue("tojson got an undefined value", do=LOOK)
    return text_of(json.dumps(value, ensure_ascii=False))


FILTERS: dict[str, Callable[..., Any]] = {
    "upper": _on_text(str.upper),
    "lower": _on_text(str.lower),
    "trim": _on_text(str.strip),
    "title": _on_text(str.title),
    "capitalize": _on_text(str.capitalize),
    "tojson": _dumped,
    "join": _joined,
    "indent": _indented,
    "sort": _sorted,
    "default": _default,
    "length": _length,
    "count": _length,
    "items": _items,
    "first": _edge(last=False),
    "last": _edge(last=True),
}


def too_long() -> InvalidValue:
    """The error for a template that writes too much."""
    return InvalidValue(f"the template writes more than {MAX_CHARACTERS:,} characters", do=SMALLER)


def is_number(value: Any) -> bool:
    """Whether a value is a number that every JSON reader keeps as it is."""
    return type(value) is float or (type(value) is int and abs(value) < 2**53)


def kind_of(value: Any) -> str:
    """What a value is, for an error."""
    return "an undefined value" if isinstance(value, StrictUndefined) else f"a {type(value).__name__}"


def text_of(value: Any) -> str:
    """The value, which must be text of a size that may be written."""
    if type(value) is not str:
        raise InvalidValue(f"a filter for text got {kind_of(value)}", do="Give it a text.")
    if len(value) > MAX_CHARACTERS:
        raise too_long()
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= 1000:
        raise InvalidValue(f"a width of {str(value)[:40]!r}", do="Give a whole number from 0 to 1000.")
    return value


def _plain_list(value: Any) -> list[Any]:
    if type(value) not in (list, tuple, str, dict, Counted):
        raise InvalidValue(f"a filter for lists got {kind_of(value)}", do="Give it a list.")
    return list.copy(value) if isinstance(value, list) else list(value)


def printed(value: Any) -> str:
    """How a value is printed: as in the default syntax, so that both agree."""
    if type(value) is str:
        return value
    if isinstance(value, StrictUndefined):
        return str(value)  # raises UndefinedError, naming it
    return json.dumps(value, ensure_ascii=False)
