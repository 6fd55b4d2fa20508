"""What a change of the working files amounts to, for whoever is editing them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steelyard.core.errors import SteelyardError
from steelyard.core.settings import Settings
from steelyard.prompts.files import names, read_working
from steelyard.prompts.lint import Advice, lint
from steelyard.prompts.prompt import Prompt
from steelyard.prompts.variable import Variable

__all__ = ["Change", "Watcher", "rendered"]

_EXAMPLES: dict[str, Any] = {"int": 0, "float": 0.5, "bool": True, "list": [], "object": {}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What became of one prompt.

    Attributes:
        name: The prompt.
        before: The last version that could be used; None if there was none.
        after: The version now; None if the file is gone or cannot be used.
        advice: What `steelyard prompts lint` says of it; an unusable file's error is among it.
    """

    name: str
    before: Prompt | None
    after: Prompt | None
    advice: tuple[Advice, ...] = ()


class Watcher:
    """Knows the working files as they were at the last look.

    Args:
        settings: Where they are.
        wanted: Names; all files, also those that come later, if left out.
    """

    def __init__(self, settings: Settings, wanted: tuple[str, ...] = ()) -> None:
        self._settings, self._wanted = settings, wanted
        self._good: dict[str, Prompt] = {}
        self._seen: dict[str, str | None] = {}
        self.changes()

    def changes(self) -> list[Change]:
        """What changed since the last look, by name. A file that is saved as it was is no change."""
        found: list[Change] = []
        there = set(names(self._settings))
        for name in sorted(self._wanted or {*there, *self._seen}):
            after, state = self._now(name) if name in there else (None, None)
            if name in self._seen and self._seen[name] == state:
                continue
            known, self._seen[name] = name in self._seen, state
            before = self._good.get(name)
            if after is not None:
                self._good[name] = after
            if known or state is not None:
                advice = self._advice(name) if name in there else ()
                found.append(Change(name=name, before=before, after=after, advice=advice))
        return found

    def _advice(self, name: str) -> tuple[Advice, ...]:
        try:
            return tuple(lint(self._settings, (name,)))
        except SteelyardError as error:  # a name that is none, or a file that went just now
            return (Advice(name=name, rule="error", text=str(error)),)

    def _now(self, name: str) -> tuple[Prompt | None, str]:
        try:
            prompt = read_working(name, self._settings)
        except SteelyardError as error:
            return None, str(error)
        return prompt, f"{prompt.digest} {prompt.description} {_described(prompt.variables)}"


def rendered(prompt: Prompt, given: Mapping[str, Any]) -> str:
    """The prompt's messages filled in, for people.

    Args:
        prompt: The prompt.
        given: Values by variable; those it does not have are left out. Texts that are missing stand as
            `{{ name }}`, other types as an example.

    Raises:
        InvalidValue: a value has the wrong type, or a Jinja template cannot be rendered.
    """
    values = {k: v for k, v in given.items() if k in prompt.variables}
    for name, variable in prompt.variables.items():
        if variable.required and name not in values:
            values[name] = _EXAMPLES.get(variable.type, f"{{{{ {name} }}}}")
    lines: list[str] = []
    for message in prompt.render(**values).messages:
        content = message.get("content")
        text = content if isinstance(content, str) else json.dumps(content, indent=2, ensure_ascii=False)
        lines += [f"[{message['role']}]", text, ""]
    return "\n".join(lines).rstrip() + "\n"


def _described(variables: Mapping[str, Variable]) -> str:
    return " ".join(f"{k}={v.description}" for k, v in variables.items())
