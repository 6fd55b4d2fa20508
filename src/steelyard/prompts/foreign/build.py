"""What the readers and writers of foreign formats share: building a prompt, and taking one apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from steelyard.core.canonical import JSON
from steelyard.core.errors import InvalidValue
from steelyard.prompts.foreign.format import Imported
from steelyard.prompts.foreign.text import write_default, write_jinja
from steelyard.prompts.prompt import Prompt
from steelyard.prompts.template import Segment, parse, to_text
from steelyard.prompts.variable import REQUIRED, Variable

__all__ = [
    "Building",
    "Jinja",
    "allowed",
    "keyed",
    "listed",
    "literal",
    "mapped",
    "segments_of",
    "text_variables",
    "typed_by_rows",
]


class Jinja(str):
    """A text that is in Steelyard's Jinja syntax already."""

    __slots__ = ()


class Building:
    """A prompt while it is read. Texts are kept as segments until it is known which syntax is needed.

    Args:
        name: The prompt's name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.messages: list[Any] = []
        self.defaults: dict[str, str] = {}
        self.types: dict[str, str] = {}
        self.model: str | None = None
        self.parameters: dict[str, JSON] = {}
        self.tools: list[JSON] = []
        self.response_format: JSON = None
        self.description = ""
        self.examples: list[Mapping[str, JSON]] = []
        self.evaluators: list[str] = []
        self.left: list[str] = []
        self._used: dict[str, None] = {}
        self._jinja = False

    def add(self, message: Mapping[str, Any]) -> None:
        """Append a message; its texts are what `segments` or `jinja` gave, or text without variables."""
        self.messages.append(message)

    def segments(self, segments: Iterable[Segment]) -> tuple[Segment, ...]:
        """The segments, their variables noted."""
        kept = tuple(segments)
        self._used |= {s.text: None for s in kept if s.variable}
        return kept

    def jinja(self, text: str, names: Iterable[str]) -> Jinja:
        """A text in our Jinja syntax, its variables noted; the whole prompt becomes a Jinja prompt."""
        self._jinja = True
        self._used |= dict.fromkeys(names)
        return Jinja(text)

    def note(self, sentence: str) -> None:
        """Say what was not carried over, once."""
        if sentence not in self.left:
            self.left.append(sentence)

    def done(self) -> Imported:
        """The prompt.

        Raises:
            InvalidValue: what was read makes no prompt.
        """
        write = write_jinja if self._jinja else write_default

        def escaped(text: str) -> str:
            return write([Segment(text, variable=False)])

        def finished(value: Any) -> Any:
            if isinstance(value, Jinja):
                return str(value)
            if isinstance(value, tuple):
                return write(cast("tuple[Segment, ...]", value))
            return mapped(value, escaped, finished)

        prompt = Prompt(
            name=self.name,
            messages=tuple(finished(m) for m in self.messages),
            variables={
                n: Variable(type=self.types.get(n, "str"), default=self.defaults.get(n, REQUIRED))
                for n in self._used
            },
            model=self.model,
            parameters=self.parameters,
            tools=tuple(finished(t) for t in self.tools),
            response_format=finished(self.response_format),
            syntax="jinja" if self._jinja else "default",
            description=" ".join(self.description.split()),
        )
        for unused in set(self.defaults) - set(self._used):
            self.note(f"The value of {unused!r} is used by nothing and was left out.")
        return Imported(
            prompt=prompt,
            left=tuple(self.left),
            examples=tuple(self.examples),
            evaluators=tuple(self.evaluators),
        )


def typed_by_rows(building: Building, rows: Iterable[Mapping[str, Any]]) -> None:
    """Give the variables the types of their values in test data, where these agree; else they stay `str`."""
    kinds: dict[str, set[str]] = {}
    words = {bool: "bool", int: "int", float: "float", str: "str"}
    for row in rows:
        for name, value in row["inputs"].items():
            kinds.setdefault(name, set()).add(
                words.get(type(value), "object" if isinstance(value, Mapping) else "list")
            )
    for name, found in kinds.items():
        if found in ({"int"}, {"bool"}, {"float"}, {"list"}, {"object"}):
            building.types[name] = found.pop()
        elif found == {"int", "float"}:
            building.types[name] = "float"
        elif found != {"str"}:
            building.note(f"The values of {name!r} are of several types: write them as text in the rows.")


def mapped(value: Any, text: Callable[[str], str], other: Callable[[Any], Any] | None = None) -> Any:
    """A copy of a JSON value with a function applied to each of its texts (keys stay as they are)."""
    if isinstance(value, str) and not isinstance(value, Jinja):
        return text(value)

    def same(member: Any) -> Any:
        return mapped(member, text)

    again = other or same
    if isinstance(value, Mapping):
        return {k: again(v) for k, v in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list):
        return [again(v) for v in cast("list[Any]", value)]
    return value


def allowed(value: Any, known: Iterable[str], where: str) -> dict[str, Any]:
    """The object, if it is one and all its keys are known.

    Raises:
        InvalidValue: it is no object, or has a key that is not known.
    """
    if not isinstance(value, Mapping) or not all(
        isinstance(k, str) for k in cast("Mapping[Any, Any]", value)
    ):
        raise InvalidValue(f"{where} is no object", do="Mend the file.")
    found = dict(cast("Mapping[str, Any]", value))
    if odd := sorted(set(found) - set(known)):
        raise InvalidValue(
            f"{where} has the unknown key {odd[0][:60]!r}",
            do=f"Known are {', '.join(sorted(known))}: take the key out if it does not matter.",
        )
    return found


def listed(value: Any, where: str) -> list[Any]:
    """The list; an empty one for None.

    Raises:
        InvalidValue: it is something else.
    """
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidValue(f"{where} is no list", do="Mend the file.")
    return cast("list[Any]", value)


def keyed(value: Any, where: str) -> dict[str, Any]:
    """The object, whatever its keys; an empty one for None.

    Raises:
        InvalidValue: it is something else.
    """
    found = {} if value is None else value
    return allowed(found, cast("Mapping[str, Any]", found) if isinstance(found, Mapping) else (), where)


def segments_of(prompt: Prompt, text: str, target: str, *, number: bool = True) -> list[Segment]:
    """The segments of a text of a prompt in the default syntax, every variable one that the target can fill.

    Args:
        prompt: The prompt.
        text: One of its texts.
        target: What it is exported to, in words.
        number: Whether the target writes whole and decimal numbers as JSON does.

    Raises:
        InvalidValue: the prompt is in Jinja syntax, or a variable goes in as JSON and has no default.
    """
    if prompt.syntax == "jinja":
        raise InvalidValue(
            f"prompt {prompt.name!r} uses Jinja, which {target} cannot express",
            do="Write it in the default syntax, with the finished list or choice as a variable.",
        )
    segments = parse(text)
    plain = ("str", "int", "float") if number else ("str",)
    for segment in segments:
        if segment.variable and prompt.variables[segment.text].type not in plain:
            variable = prompt.variables[segment.text]
            if variable.required:
                raise InvalidValue(
                    f"the variable {segment.text!r} of {prompt.name!r} is {variable.type} and goes in as "
                    f"JSON, which {target} cannot express",
                    do="Declare it as str and hand the JSON text in.",
                )
    return segments


def text_variables(prompt: Prompt) -> dict[str, str]:
    """The defaults of a prompt's variables as they stand in its text."""
    return {n: to_text(v.default) for n, v in prompt.variables.items() if not v.required}


def literal(prompt: Prompt, value: JSON, where: str) -> Any:
    """A value whose texts hold no variable, its escapes undone.

    Raises:
        InvalidValue: one does, so the target cannot express it.
    """
    from steelyard.prompts.foreign.jinja_space import constant

    def text(source: str) -> str:
        if prompt.syntax == "jinja":
            found = constant(source)
        else:
            segments = parse(source)
            found = None if any(s.variable for s in segments) else "".join(s.text for s in segments)
        if found is None:
            raise InvalidValue(
                f"{where} of prompt {prompt.name!r} holds variables, which cannot be expressed there",
                do="Write its texts out, or build the request with render().",
            )
        return found

    return mapped(value, text)
