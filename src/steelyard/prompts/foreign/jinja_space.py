"""Jinja between two habits of white space.

Steelyard trims the line of a block and keeps the last line break; LangChain and MLflow (Jinja's defaults) do
neither. So white space is fixed on the way: `{%+ … +%}` says "as it stands" to any environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, TemplateError, nodes

from steelyard.core.errors import InvalidValue
from steelyard.prompts.foreign.text import write_jinja
from steelyard.prompts.template import Segment

__all__ = ["constant", "from_jinja", "guessed_types", "simple_segments", "to_jinja"]

_DEFAULTS = Environment(autoescape=False)  # noqa: S701 - only its lexer and parser are used, nothing is rendered
_OURS = Environment(autoescape=False, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)  # noqa: S701 - likewise


def simple_segments(text: str, where: str) -> list[Segment] | None:
    """The segments of a Jinja text that only puts names in, as Jinja's defaults read it; else None.

    Raises:
        InvalidValue: it does not parse.
    """
    return _simple(_parsed(text, where, _DEFAULTS))


def constant(text: str) -> str | None:
    """What a text in Steelyard's Jinja syntax always renders to; None if that depends on a variable."""
    segments = _simple(_parsed(text, "the text", _OURS))
    if segments is None or any(s.variable for s in segments):
        return None
    return "".join(s.text for s in segments)


def _simple(tree: nodes.Template) -> list[Segment] | None:
    segments: list[Segment] = []
    for node in tree.body:
        for part in node.nodes if isinstance(node, nodes.Output) else (node,):
            if isinstance(part, nodes.TemplateData):
                segments.append(Segment(part.data, variable=False))
            elif isinstance(part, nodes.Const) and isinstance(part.value, str):
                segments.append(Segment(part.value, variable=False))
            elif isinstance(part, nodes.Name):
                segments.append(Segment(part.name, variable=True))
            else:
                return None
    return segments


def from_jinja(text: str) -> str:
    """A text for Jinja's defaults as one that Steelyard's environment renders alike; comments are dropped."""
    marks = {"block_begin": ("{%", "{%+"), "block_end": ("%}", "+%}")}
    return _rewritten(text, _DEFAULTS, marks)


def to_jinja(text: str) -> str:
    """A text in Steelyard's Jinja syntax as one that Jinja's defaults render alike; comments are dropped."""
    out = _rewritten(text, _OURS, {"block_end": ("%}\n", "%}")})
    return out + "\n" if out.endswith("\n") else out  # the last line break is dropped there


def _rewritten(text: str, environment: Environment, marks: Mapping[str, tuple[str, str]]) -> str:
    """The text token by token, as the environment's lexer trims it, with some marks written otherwise."""
    out, raw = "", False
    for _, token, value in environment.lexer.tokeniter(text, None):
        if token in ("raw_begin", "raw_end"):
            raw = token == "raw_begin"  # noqa: S105 - a kind of token
        elif not token.startswith("comment"):
            plain, instead = marks.get(token, ("", ""))
            value = instead if plain and value == plain else value
            out += write_jinja([Segment(value, variable=False)]) if raw else value
    return out


def guessed_types(text: str, where: str) -> dict[str, str]:
    """Types of the variables of a Jinja text, from how it uses them: `list`, `object`, `bool`, else `str`."""
    tree = _parsed(text, where, _DEFAULTS)
    found: dict[str, set[str]] = {}

    def use(node: Any, kind: str) -> None:
        if isinstance(node, nodes.Name) and node.ctx == "load":
            found.setdefault(node.name, set()).add(kind)

    for loop in tree.find_all(nodes.For):
        use(loop.iter, "list")
    for index in tree.find_all(nodes.Getitem):
        key = index.arg
        use(index.node, "object" if isinstance(key, nodes.Const) and isinstance(key.value, str) else "list")
    for filtered in tree.find_all(nodes.Filter):
        kind = {"items": "object", "join": "list", "first": "list", "last": "list", "sort": "list"}.get(
            filtered.name
        )
        use(filtered.node, kind or "")
    tested = {id(n.test) for n in tree.find_all((nodes.If, nodes.CondExpr))}
    tested |= {id(n.node) for n in tree.find_all(nodes.Not)}
    for name in tree.find_all(nodes.Name):
        use(name, "bool" if id(name) in tested else "")
    out: dict[str, str] = {}
    for name, kinds in found.items():
        firm = kinds - {"", "bool"}
        if len(firm) == 1:
            out[name] = firm.pop()
        elif kinds == {"bool"}:
            out[name] = "bool"
    return out


def _parsed(text: str, where: str, environment: Environment) -> nodes.Template:
    try:
        return environment.parse(text)
    except (TemplateError, RecursionError, ValueError, OverflowError) as error:
        raise InvalidValue(
            f"{where} does not parse as Jinja ({' '.join(str(error).split())[:120]})", do="Mend the template."
        ) from None
