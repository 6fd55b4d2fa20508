"""HTML and SVG by construction: what is not `Markup` is escaped, so nobody can forget to."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TypeAlias

from steelyard.report.text import cut, one_line, visible

__all__ = ["Child", "Markup", "el", "join"]


class Markup(str):
    """Text that is markup already. Only `el` and `join` make it."""

    __slots__ = ()


Child: TypeAlias = "str | int | Iterable[Child] | None"
"""What an element holds: markup, text (escaped, invisible characters shown), lists of them, or nothing."""

# No text on the page is longer: a name or a message of megabytes must not make a page nobody can open.
_MOST_CHARACTERS = 10_000
# What a person hears or sees of an attribute; geometry (`d`, `points`) is ours and stays whole.
_SPOKEN = frozenset({"aria_label", "title", "alt"})
_MOST_SPOKEN = 400

_VOID = frozenset({"br", "hr", "meta", "link", "wbr"})


def el(tag: str, *children: Child, cls: str | None = None, **attributes: str | int | float | None) -> Markup:
    """An element; an attribute that is None is left out, `_` in a name becomes `-`.

    Args:
        tag: The element's name.
        *children: What it holds.
        cls: Its classes.
        **attributes: Its attributes; values are escaped. There is no `style`: the content security policy
            forbids it.
    """
    named = ({"class": cls} if cls else {}) | attributes
    parts = [f"<{tag}"]
    for name, value in named.items():
        if value is not None:
            if isinstance(value, str) and name in _SPOKEN:
                value = value[:_MOST_SPOKEN]
            shown = escape(one_line(value) if isinstance(value, str) else f"{value:g}", quote=True)
            parts.append(f' {name.strip("_").replace("_", "-")}="{shown}"')
    parts.append(">")
    if tag not in _VOID:
        parts += [join(children), f"</{tag}>"]
    return Markup("".join(parts))


def join(children: Iterable[Child]) -> Markup:
    """Children one after the other."""
    return Markup("".join(_render(child) for child in children))


def _render(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, str):
        kept, note = cut(child, _MOST_CHARACTERS)
        return escape(f"{visible(kept)} {note}" if note else visible(kept), quote=True)
    if isinstance(child, int):
        return str(child)
    return join(child)
