"""A prompt made ready to be filled in: every check and every text worked out once, the rest quick.

What a rendering costs matters: it stands in the path of every call of an application.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, TypeAlias, cast

from steelyard.core.canonical import JSON, plain
from steelyard.prompts.template import parse, to_text
from steelyard.prompts.variable import Variable

__all__ = ["Fill", "compiled", "compiled_plain", "shower", "sure_types"]

Fill: TypeAlias = Callable[[Mapping[str, Any]], Any]
"""What gives a fresh copy of a JSON value with its texts filled in."""

_SURE: dict[str, frozenset[type]] = {
    "str": frozenset((str,)),
    "int": frozenset((int,)),
    "float": frozenset((int,)),  # a float may be NaN
    "bool": frozenset((bool,)),
    "list": frozenset((list, tuple)),
    "object": frozenset((dict,)),
}
_SCALARS = (str, int, float, bool, type(None))


def sure_types(variable: Variable) -> frozenset[type]:
    """The types whose values a variable accepts whatever they hold; others are looked at one by one."""
    return _SURE[variable.type]


def shower(variable: Variable, syntax: str) -> Callable[[Any], Any]:
    """What a value of a variable becomes before it is filled in: text, or for Jinja a plain value."""
    if syntax == "jinja":
        return _jinja_value
    return _text if variable.type == "str" else _shown


def compiled(value: JSON, syntax: str) -> Fill:
    """What fills a JSON value in; what holds no variable is copied at once."""
    text = _jinja_text if syntax == "jinja" else _default_text
    fill, _ = _compile(value, text)
    return fill


def compiled_plain(value: Mapping[str, JSON]) -> Fill:
    """What gives fresh copies of a JSON object whose texts are no templates."""
    return _copier(dict(value))


def _compile(value: JSON, text: Callable[[str], Fill | str]) -> tuple[Fill, bool]:
    """What fills a value in, and whether it is the same every time."""
    if isinstance(value, str):
        made = text(value)
        return (made, False) if callable(made) else ((lambda _: made), True)
    if isinstance(value, dict):
        members = {k: _compile(v, text) for k, v in cast("dict[str, JSON]", value).items()}
        frame = {k: fill({}) if same else None for k, (fill, same) in members.items()}
        if all(same for _, same in members.values()):
            return _copier(frame), True
        # What may be changed by whoever gets it is made anew each time, scalars are shared.
        moving = [
            (k, fill) for k, (fill, same) in members.items() if not same or not isinstance(frame[k], _SCALARS)
        ]
        return _filler(frame, moving), False
    if isinstance(value, list):
        items = [_compile(v, text) for v in cast("list[JSON]", value)]
        if all(same for _, same in items):
            return _copier([fill({}) for fill, _ in items]), True
        fills = [fill for fill, _ in items]
        return (lambda values: [fill(values) for fill in fills]), False
    return (lambda _: value), True


def _filler(frame: dict[str, Any], moving: list[tuple[str, Fill]]) -> Fill:
    if len(moving) == 1:
        ((only, fill_only),) = moving

        def one(values: Mapping[str, Any]) -> dict[str, Any]:
            made = frame.copy()
            made[only] = fill_only(values)
            return made

        return one

    def some(values: Mapping[str, Any]) -> dict[str, Any]:
        made = frame.copy()
        for key, fill in moving:
            made[key] = fill(values)
        return made

    return some


def _copier(value: dict[str, Any] | list[Any]) -> Fill:
    """What gives a fresh copy of a JSON value."""
    copy: Callable[[], Any] = value.copy
    members = value.values() if isinstance(value, dict) else value
    if all(isinstance(m, _SCALARS) for m in members):
        return lambda _: copy()
    data = marshal.dumps(value)  # bytes of our own making, read back in this process only
    return lambda _: marshal.loads(data)  # noqa: S302


def _default_text(source: str) -> Fill | str:
    segments = parse(source)
    names = [s.text for s in segments if s.variable]
    if not names:
        return "".join(s.text for s in segments)
    form = "".join("%s" if s.variable else s.text.replace("%", "%%") for s in segments)
    chosen = itemgetter(*names)  # one name gives its text, several a tuple; `%` takes both
    return lambda values: form % chosen(values)


def _jinja_text(source: str) -> Fill | str:
    if "{" not in source:
        return source
    from steelyard.prompts.sandbox import JinjaTemplate

    template = JinjaTemplate(source)
    names = template.names
    return lambda values: template.render({k: values[k] for k in names})


def _jinja_value(value: Any) -> Any:
    from steelyard.prompts.sandbox import plain_value

    return plain_value(plain(value))


def _text(value: str) -> str:
    return value if type(value) is str else "".join((value,))  # a subclass may show itself otherwise


def _shown(value: Any) -> str:
    return int.__repr__(value) if type(value) is int else to_text(plain(value))
