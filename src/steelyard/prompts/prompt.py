"""A prompt: messages with typed variables, known by the digest of everything that changes the answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, cast

from steelyard.core.canonical import JSON, canonical, digest, plain
from steelyard.core.chat import ChatRequest
from steelyard.core.errors import Corrupt, InvalidValue, SteelyardError
from steelyard.core.ref import check_name
from steelyard.prompts.template import VARIABLE, Fault, Where, parse, strings, to_text

__all__ = ["REQUIRED", "TYPES", "Prompt", "Syntax", "Variable"]

Syntax = Literal["default", "jinja"]
FORMAT = 1
TYPES = ("str", "int", "float", "bool", "list", "object")
"""What a variable may be; an `int` is also a `float`, a `bool` is neither."""

_ROLES = ("system", "developer", "user", "assistant", "tool")


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


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A prompt version.

    Attributes:
        name: Its name, folders split by `/`.
        messages: OpenAI chat messages; every text in them may hold `{{ name }}`.
        variables: What it must be filled with, by name.
        model: A model name, or None for the one that is configured.
        parameters: Sampling parameters by OpenAI's names.
        tools: OpenAI tool definitions; texts in them may hold `{{ name }}`, keys may not.
        response_format: OpenAI `response_format`, or None.
        syntax: `default` or `jinja`.
        description: For people; not part of the identity.

    Raises:
        InvalidValue: a template that is not allowed, a variable that is used but not declared or declared but
            not used, a default of the wrong type, or a value that JSON cannot hold.
    """

    name: str
    messages: tuple[Mapping[str, JSON], ...]
    variables: Mapping[str, Variable] = field(default_factory=dict[str, Variable])
    model: str | None = None
    parameters: Mapping[str, JSON] = field(default_factory=dict[str, Any])
    tools: tuple[Mapping[str, JSON], ...] = ()
    response_format: Mapping[str, JSON] | None = None
    syntax: Syntax = "default"
    description: str = ""

    def __post_init__(self) -> None:
        check_name(self.name, kind="prompt name")
        for key in (
            "messages",
            "parameters",
            "tools",
            "response_format",
        ):  # copies: nobody changes them later
            value = plain(getattr(self, key))
            object.__setattr__(self, key, tuple(value) if isinstance(value, list) else value)
        object.__setattr__(self, "variables", dict(self.variables))
        _check_messages(self.messages)
        _check_variables(self)
        canonical(self.content())

    # -- identity ---------------------------------------------------------------------------------
    def content(self) -> dict[str, JSON]:
        """Everything that changes the answer, as a JSON object; its digest is the prompt's identity."""
        return {
            "format": FORMAT,
            "syntax": self.syntax,
            "messages": list(self.messages),
            "variables": {
                name: {"type": v.type} | ({} if v.required else {"default": v.default})
                for name, v in self.variables.items()
            },
            "model": self.model,
            "parameters": self.parameters,
            "tools": list(self.tools),
            "response_format": self.response_format,
        }

    @cached_property
    def digest(self) -> str:
        """`sha256:<hex>` of `content()`; the name and descriptions do not count."""
        return digest(self.content())

    @classmethod
    def from_content(
        cls,
        name: str,
        content: Mapping[str, JSON],
        *,
        description: str = "",
        described: Mapping[str, str] | None = None,
        expect: str | None = None,
    ) -> Prompt:
        """The prompt that `content()` describes, checked like one from a file.

        Args:
            name: Its name.
            content: What `content()` gave.
            description: For people.
            described: Descriptions of variables by name; others are ignored.
            expect: The digest it must have.

        Raises:
            InvalidValue: the content is of a newer format, has keys that are not known, or is not allowed.
            Corrupt: the digest is another.
        """
        words = described or {}
        if content.get("format") != FORMAT:
            raise InvalidValue(
                f"prompt {name!r} is stored in format {content.get('format')!r}, not {FORMAT}",
                do="Update Steelyard.",
            )
        if odd := sorted(set(content) ^ _KEYS):
            raise InvalidValue(
                f"the stored content of prompt {name!r} has unknown or missing keys: {', '.join(odd[:5])}",
                do="Push the prompt again, or update Steelyard.",
            )
        try:
            prompt = cls(
                name=name,
                messages=tuple(content["messages"]),
                variables={
                    k: Variable(
                        type=v["type"], default=v.get("default", REQUIRED), description=words.get(k, "")
                    )
                    for k, v in content["variables"].items()
                },
                model=content["model"],
                parameters=content["parameters"],
                tools=tuple(content["tools"]),
                response_format=content["response_format"],
                syntax=content["syntax"],
                description=description,
            )
        except SteelyardError:
            raise
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise InvalidValue(
                f"the stored content of prompt {name!r} has a wrong shape ({type(error).__name__}: {error})",
                do="Push the prompt again.",
            ) from None
        if expect is not None and prompt.digest != expect:
            raise Corrupt(f"prompt {name!r}", f"its content is not {expect}", do="Push the prompt again.")
        return prompt

    def __str__(self) -> str:
        return f"{self.name}@{self.digest}"

    # -- use --------------------------------------------------------------------------------------
    def render(self, **variables: Any) -> ChatRequest:
        """The chat request with the variables filled in.

        Text goes in as it is, every other value as JSON.

        Raises:
            InvalidValue: a variable is missing, unknown or of the wrong type; or a Jinja template goes over
                its limits of size, steps or time.
        """
        values = self._values(variables)
        return ChatRequest(
            messages=tuple(fill(values) for fill in self._compiled[0]),
            model=self.model,
            parameters=dict(self.parameters),
            tools=tuple(fill(values) for fill in self._compiled[1]),
            response_format=self._compiled[2](values) if self._compiled[2] else None,
            prompt=f"{self.name}@{self.digest}",
        )

    def to_text(self) -> str:
        """The prompt for people to read and to compare: messages first, then what else counts."""
        import json

        lines: list[str] = []
        for message in self.messages:
            content = message.get("content")
            text = content if isinstance(content, str) else json.dumps(content, indent=2, ensure_ascii=False)
            lines += [f"[{message['role']}]", text]
            rest = {k: v for k, v in message.items() if k not in ("role", "content")}
            if rest:
                lines.append(json.dumps(rest, indent=2, ensure_ascii=False))
            lines.append("")
        for name, variable in self.variables.items():
            shown = "" if variable.required else f" = {json.dumps(variable.default, ensure_ascii=False)}"
            lines.append(f"variable {name}: {variable.type}{shown}")
        if self.model is not None:
            lines.append(f"model: {self.model}")
        for key, value in sorted(self.parameters.items()):
            lines.append(f"{key}: {json.dumps(value, ensure_ascii=False)}")
        for key, value in (("tools", list(self.tools)), ("response_format", self.response_format)):
            if value:
                lines += [f"{key}:", json.dumps(value, indent=2, ensure_ascii=False)]
        if self.syntax != "default":
            lines.append(f"syntax: {self.syntax}")
        return "\n".join(lines).rstrip() + "\n"

    # -- inside -----------------------------------------------------------------------------------
    def _values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        declared = self.variables
        for name in given:
            if name not in declared:
                raise _unknown(self, name)
        out: dict[str, Any] = {}
        for name, variable in declared.items():
            value = given.get(name, variable.default)
            if value is REQUIRED:
                raise InvalidValue(
                    f"prompt {self.name!r} lacks a value for its variable {name!r} ({variable.type})",
                    do=f"Hand it in: render({name}=...).",
                )
            if not variable.accepts(value):
                raise InvalidValue(
                    f"variable {name!r} of prompt {self.name!r} is {variable.type}, not {_type(value)}",
                    do=f"Hand in a value of type {variable.type}.",
                )
            out[name] = value
        return out

    @cached_property
    def _compiled(self) -> tuple[list[_Fill], list[_Fill], _Fill | None]:
        """What builds the messages, tools and response format from the values."""
        text = _jinja_text if self.syntax == "jinja" else _default_text
        return (
            [_compile(m, text) for m in self.messages],
            [_compile(t, text) for t in self.tools],
            _compile(self.response_format, text) if self.response_format is not None else None,
        )


_Fill = Callable[[Mapping[str, Any]], Any]
_KEYS = frozenset(
    ("format", "syntax", "messages", "variables", "model", "parameters", "tools", "response_format")
)


def _compile(value: JSON, text: Callable[[str], _Fill | str]) -> _Fill:
    """What gives a fresh copy of a JSON value with its texts filled in."""
    if isinstance(value, str):
        made = text(value)
        return made if callable(made) else (lambda _: made)
    if isinstance(value, dict):
        members = [(k, _compile(v, text)) for k, v in cast("dict[str, JSON]", value).items()]
        return lambda values: {k: fill(values) for k, fill in members}
    if isinstance(value, list):
        items = [_compile(v, text) for v in cast("list[JSON]", value)]
        return lambda values: [fill(values) for fill in items]
    return lambda _: value


def _default_text(source: str) -> _Fill | str:
    segments = parse(source)
    if not any(s.variable for s in segments):
        return "".join(s.text for s in segments)
    parts = [(s.text, s.variable) for s in segments]

    def fill(values: Mapping[str, Any]) -> str:
        return "".join([_shown(values[text]) if variable else text for text, variable in parts])

    return fill


def _jinja_text(source: str) -> _Fill | str:
    if "{" not in source:
        return source
    from steelyard.prompts.sandbox import JinjaTemplate, plain_value

    template = JinjaTemplate(source)
    names = template.names
    return lambda values: template.render({k: plain_value(plain(values[k])) for k in names})


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else to_text(plain(value))


def _check_messages(messages: tuple[Mapping[str, JSON], ...]) -> None:
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


def _check_variables(prompt: Prompt) -> None:
    """Every template parses, and the names used are exactly the names declared."""
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
                        f"{_nearest(name, prompt.variables)}.",
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


def _names(text: str, where: Where, syntax: Syntax) -> list[tuple[str, int]]:
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


def _nearest(name: str, known: Mapping[str, Variable]) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _type(value: object) -> str:
    return f"{type(value).__name__} {value}" if isinstance(value, float) else type(value).__name__


def _unknown(prompt: Prompt, name: str) -> InvalidValue:
    known = ", ".join(prompt.variables) or "none"
    near = _nearest(name, prompt.variables)
    return InvalidValue(
        f"prompt {prompt.name!r} has no variable {name[:80]!r}{near}; it has {known}",
        do="Hand in its variables only.",
    )
