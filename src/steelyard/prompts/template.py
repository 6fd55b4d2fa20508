"""Templates: `{{ name }}` substitution and nothing else. What Jinja adds is in `prompts.sandbox`.

A single brace is text, so JSON and code need no escaping; `{{ '{{' }}` writes two braces (as in Jinja), and
`{{ '{' }}` one, where it would otherwise touch the braces of a variable.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from steelyard.core.canonical import JSON
from steelyard.core.errors import InvalidValue

__all__ = ["VARIABLE", "Fault", "Segment", "Where", "parse", "strings", "to_text"]

Where: TypeAlias = tuple[str | int, ...]
"""The keys that lead to a value in the prompt's file: `("messages", 0, "content")`."""

VARIABLE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_TAG = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_LITERALS = {"'{{'": "{{", '"{{"': "{{", "'}}'": "}}", '"}}"': "}}", "'{'": "{", '"{"': "{"}


class Fault(InvalidValue):
    """Something wrong with a prompt, and where in it: `where` and, in a text, the character `offset`."""

    def __init__(self, what: str, *, do: str, where: Where = (), offset: int = 0) -> None:
        self.where, self.offset = where, offset
        super().__init__(what, do=do)


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a template: literal text, or the name of a variable."""

    text: str
    variable: bool


def parse(text: str, where: Where = ()) -> list[Segment]:
    """The segments of a text in the default syntax.

    Raises:
        Fault: `{{` is not closed, or what stands between the braces is not one plain name. The text between
            the braces is not repeated beyond its first 40 characters.
    """
    segments: list[Segment] = []
    at = 0
    while (start := text.find("{{", at)) >= 0:
        if start > at:
            segments.append(Segment(text[at:start], variable=False))
        tag = _TAG.match(text, start)
        if tag is None:
            raise Fault(
                "'{{' is not closed with '}}'",
                do="Close it, or write {{ '{{' }} for two braces as text.",
                where=where,
                offset=start,
            )
        inner = tag[1].strip()
        if inner in _LITERALS:
            segments.append(Segment(_LITERALS[inner], variable=False))
        elif VARIABLE.fullmatch(inner):
            segments.append(Segment(inner, variable=True))
        else:
            raise Fault(
                f"'{{{{ {inner[:40]} }}}}' is no variable: only one plain name may stand there",
                do="No attributes, indices, filters or formats; write {{ name }}, or set 'syntax: jinja' for "
                "loops and conditions over plain values.",
                where=where,
                offset=start,
            )
        at = tag.end()
    if at < len(text):
        segments.append(Segment(text[at:], variable=False))
    return segments


def strings(value: JSON, where: Where = ()) -> Iterator[tuple[Where, str]]:
    """Every text in a JSON value with the way to it, keys of objects not included.

    Raises:
        Fault: a key holds a template: names of fields are fixed.
    """
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, Mapping):
        for key, member in cast("Mapping[str, JSON]", value).items():
            if "{{" in key:
                raise Fault(
                    f"the key {key[:40]!r} holds a template",
                    do="Keys are fixed text; only values may hold {{ name }}.",
                    where=(*where, key),
                )
            yield from strings(member, (*where, key))
    elif isinstance(value, (list, tuple)):
        for i, member in enumerate(cast("list[JSON]", value)):
            yield from strings(member, (*where, i))


def to_text(value: Any) -> str:
    """How a value stands in a prompt: text as it is, everything else as JSON (`true`, `1.5`, `["a"]`)."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
