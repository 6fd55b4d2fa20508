"""What must hold of a prompt, wherever it comes from: file, store, lock or code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from steelyard.core.canonical import JSON
from steelyard.core.errors import closest
from steelyard.prompts.template import VARIABLE, Fault, Where, parse, strings
from steelyard.prompts.variable import TYPES, Variable

if TYPE_CHECKING:
    from steelyard.prompts.prompt import Prompt

__all__ = ["check_messages", "check_variables", "nearest"]

_ROLES = ("system", "developer", "user", "assistant", "tool")


def check_messages(messages: tuple[Mapping[str, JSON], ...]) -> None:
    """Roles are known and every message has content. Raises `Fault`."""
    if not messages:
        raise Fault("the prompt has no message", do="Give at least one message.", where=("messages",))
    for i, message in enumerate(messages):
        where: Where = ("messages", i)
        role, content = message.get("role"), message.get("content")
        if role not in _ROLES:
            raise Fault(f"{role!r} is no role", do=f"Use one of {', '.join(_ROLES)}.", where=(*where, "role"))
        parts = cast("list[Any]", content) if isinstance(content, list) else []
        for j, part in enumerate(parts):
            kind = cast("dict[str, Any]", part).get("type") if isinstance(part, dict) else None
            if not isinstance(kind, str) or (kind == "text" and not isinstance(part.get("text"), str)):
                raise Fault(
                    "a part of a message has no 'type', or is a text part without 'text'",
                    do="Write {type: text, text: ...} or another OpenAI content part.",
                    where=(*where, "content", j),
                )
        called = role == "assistant" and message.get("tool_calls")
        if not (isinstance(content, str) or parts or (content is None and called)):
            raise Fault(
                f"the {role} message has no content",
                do="Give it a text, or a list of content parts.",
                where=(*where, "content") if "content" in message else where,
            )


def check_variables(prompt: Prompt) -> None:
    """Every template parses, and the names used are exactly the names declared. Raises `Fault`."""
    for name, variable in prompt.variables.items():
        where: Where = ("variables", name)
        if not VARIABLE.fullmatch(name):
            raise Fault(
                f"{name[:80]!r} is no name of a variable",
                do="Use letters, digits and '_', beginning with a letter.",
                where=where,
            )
        if variable.type not in TYPES:
            raise Fault(f"{variable.type!r} is no type", do=f"Use one of {', '.join(TYPES)}.", where=where)
        if not variable.required and not variable.accepts(variable.default):
            raise Fault(
                f"the default of variable {name!r} is no {variable.type}",
                do=f"Give a default of type {variable.type}.",
                where=(*where, "default"),
            )
    used: set[str] = set()
    for key in ("messages", "tools", "response_format"):
        for where, text in strings(getattr(prompt, key), (key,)):
            for name, offset in _names(text, where, prompt.syntax):
                if name not in prompt.variables:
                    raise Fault(
                        f"the variable {name!r} is used but not declared",
                        do=f"Declare it under variables, '{name}: {{type: str}}', or mend the name"
                        f"{nearest(name, prompt.variables)}.",
                        where=where,
                        offset=offset,
                    )
                used.add(name)
    for name in prompt.variables:
        if name not in used:
            raise Fault(
                f"the variable {name!r} is declared but nothing uses it",
                do=f"Write {{{{ {name} }}}} where it belongs, or take it out.",
                where=("variables", name),
            )


def _names(text: str, where: Where, syntax: str) -> list[tuple[str, int]]:
    if "{" not in text:
        return []
    if syntax == "jinja":
        from steelyard.prompts.sandbox import JinjaTemplate

        found = JinjaTemplate(text, where).names
        return sorted(((n, max(text.find(n), 0)) for n in found), key=lambda pair: pair[1])
    out: list[tuple[str, int]] = []
    at = 0
    for segment in parse(text, where):
        if segment.variable:
            at = text.index("{{", at)
            while (
                text[at + 2 :].lstrip()[: len(segment.text)] != segment.text
            ):  # a literal '{{' stands before
                at = text.index("{{", at + 2)
            out.append((segment.text, at))
            at += 2
    return out


def nearest(name: str, known: Mapping[str, Variable]) -> str:
    """` (did you mean …?)` where a known name is close, else nothing."""
    close = closest(name, known)
    return f" (did you mean {close!r}?)" if close is not None else ""
