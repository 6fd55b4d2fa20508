"""A prompt: messages with typed variables, known by the digest of everything that changes the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, cast

from steelyard.core.canonical import JSON, canonical, digest, plain
from steelyard.core.chat import ChatRequest
from steelyard.core.errors import Corrupt, InvalidValue, SteelyardError
from steelyard.core.ref import check_name
from steelyard.prompts.checks import check_messages, check_variables, nearest
from steelyard.prompts.filling import compiled, compiled_plain, shower, sure_types
from steelyard.prompts.order import order_of, reordered
from steelyard.prompts.variable import REQUIRED, Variable

if TYPE_CHECKING:
    from langchain_core.prompts import ChatPromptTemplate

__all__ = ["Prompt", "Syntax"]

Syntax = Literal["default", "jinja"]
FORMAT = 1


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
        object.__setattr__(self, "messages", tuple(_in_order(m) for m in self.messages))
        object.__setattr__(self, "parameters", dict(sorted(self.parameters.items())))
        object.__setattr__(self, "variables", dict(self.variables))
        check_messages(self.messages)
        check_variables(self)
        canonical(self.content())

    # -- identity ---------------------------------------------------------------------------------
    def content(self) -> dict[str, JSON]:
        """Everything that changes the answer, as a JSON object; its digest is the prompt's identity."""
        order = order_of(list(self.tools), "/tools") | order_of(self.response_format, "/response_format")
        for key, value in self.parameters.items():
            order |= order_of(value, f"/parameters/{key}")
        return ({"order": order} if order else {}) | {
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
        if odd := sorted((set(content) - {"order"}) ^ _KEYS):
            raise InvalidValue(
                f"the stored content of prompt {name!r} has unknown or missing keys: {', '.join(odd[:5])}",
                do="Push the prompt again, or update Steelyard.",
            )
        try:
            order = cast("Mapping[str, JSON]", content.get("order", {}))
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
                parameters={
                    k: reordered(v, f"/parameters/{k}", order) for k, v in content["parameters"].items()
                },
                tools=tuple(reordered(list(content["tools"]), "/tools", order)),
                response_format=reordered(content["response_format"], "/response_format", order),
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
        ready = self._ready
        values = ready.values(variables)
        return ChatRequest(
            messages=tuple([fill(values) for fill in ready.messages]),
            model=self.model,
            parameters=ready.parameters(values),
            tools=tuple([fill(values) for fill in ready.tools]) if ready.tools else (),
            response_format=ready.response_format(values) if ready.response_format is not None else None,
            prompt=ready.ref,
        )

    def to_langchain(self) -> ChatPromptTemplate:
        """The messages as LangChain's `ChatPromptTemplate`; defaults become partial variables.

        Everything else is in `langchain_options()`: `prompt.to_langchain() | model.bind(**options)`.

        Raises:
            InvalidValue: LangChain's templates cannot express it; the sentence names what.
            MissingExtra: LangChain is not installed.
        """
        from steelyard.prompts.foreign.manifest_writer import chat_prompt

        return chat_prompt(self)

    def langchain_options(self) -> dict[str, JSON]:
        """Model, parameters, tools and response format, as arguments of a LangChain chat model's `bind`.

        Raises:
            InvalidValue: tools or response format hold variables: take `render(...).options()` instead.
        """
        from steelyard.prompts.foreign.manifest_writer import options

        return options(self)

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
        for name, variable in sorted(self.variables.items()):
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
    @cached_property
    def _ready(self) -> _Ready:
        return _Ready(self)


class _Ready:
    """The prompt with all that rendering needs worked out once."""

    def __init__(self, prompt: Prompt) -> None:
        self._prompt, syntax = prompt, prompt.syntax
        self.ref = f"{prompt.name}@{prompt.digest}"
        self.messages = [compiled(m, syntax) for m in prompt.messages]
        self.tools = [compiled(t, syntax) for t in prompt.tools]
        self.parameters = compiled_plain(prompt.parameters)
        format_ = prompt.response_format
        self.response_format = compiled(format_, syntax) if format_ is not None else None
        self._declared = prompt.variables.keys()
        self._plan = [
            (name, v.default, sure_types(v), v.accepts, shower(v, syntax))
            for name, v in prompt.variables.items()
        ]

    def values(self, given: dict[str, Any]) -> dict[str, Any]:
        """What each variable is filled in with, checked."""
        if not given.keys() <= self._declared:
            raise _unknown(self._prompt, next(name for name in given if name not in self._declared))
        out: dict[str, Any] = {}
        for name, default, sure, accepts, show in self._plan:
            value = given.get(name, default)
            if type(value) not in sure and (value is REQUIRED or not accepts(value)):
                raise _unfit(self._prompt, name, value)
            out[name] = show(value)
        return out


_KEYS = frozenset(
    ("format", "syntax", "messages", "variables", "model", "parameters", "tools", "response_format")
)


def _unfit(prompt: Prompt, name: str, value: Any) -> InvalidValue:
    wanted = prompt.variables[name].type
    if value is REQUIRED:
        return InvalidValue(
            f"prompt {prompt.name!r} lacks a value for its variable {name!r} ({wanted})",
            do=f"Hand it in: render({name}=...).",
        )
    return InvalidValue(
        f"variable {name!r} of prompt {prompt.name!r} is {wanted}, not {_type(value)}",
        do=f"Hand in a value of type {wanted}.",
    )


def _type(value: object) -> str:
    return f"{type(value).__name__} {value}" if isinstance(value, float) else type(value).__name__


def _in_order(message: Mapping[str, JSON]) -> JSON:
    """A message with its keys in one order: theirs does not reach the model, so it tells nothing apart."""
    first = {k: message[k] for k in ("role", "content") if k in message}
    return reordered(first, "", {"": list(first)}) | reordered(
        {k: v for k, v in message.items() if k not in first}, "", {}
    )


def _unknown(prompt: Prompt, name: str) -> InvalidValue:
    known = ", ".join(prompt.variables) or "none"
    near = nearest(name, prompt.variables)
    return InvalidValue(
        f"prompt {prompt.name!r} has no variable {name[:80]!r}{near}; it has {known}",
        do="Hand in its variables only.",
    )
