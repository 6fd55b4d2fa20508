"""Steelyard's own prompt files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steelyard.core.canonical import JSON
from steelyard.core.errors import InvalidValue
from steelyard.prompts.foreign.format import Exported, Imported
from steelyard.prompts.foreign.json_text import looks_like
from steelyard.prompts.prompt import Prompt

__all__ = ["FORMAT"]


class _Own:
    name = "steelyard"

    def read(self, text: str, name: str) -> tuple[Imported, ...]:
        """The prompt of a prompt file's text."""
        from steelyard.prompts.reader import read_prompt

        return (
            Imported(prompt=read_prompt(name, Path(f"{name}.yaml"), text.encode("utf-8", "surrogatepass"))),
        )

    def write(self, prompt: Prompt) -> Exported:
        """A prompt file that reads back to the same digest.

        Raises:
            InvalidValue: no file can say it (a name under 'parameters' that files do not know).
        """
        from steelyard.prompts.strict_yaml import dump_ordered

        value: dict[str, JSON] = {}
        if prompt.description:
            value["description"] = prompt.description
        if prompt.syntax != "default":
            value["syntax"] = prompt.syntax
        value["messages"] = list(prompt.messages)
        if prompt.variables:
            value["variables"] = {
                n: {"type": v.type}
                | ({"description": v.description} if v.description else {})
                | ({} if v.required else {"default": v.default})
                for n, v in prompt.variables.items()
            }
        for key in ("model", "parameters", "tools", "response_format"):
            if (given := getattr(prompt, key)) not in (None, {}, ()):
                value[key] = list(given) if isinstance(given, tuple) else given
        text = dump_ordered(value)
        again = self.read(text, prompt.name)[0].prompt
        if again.digest != prompt.digest:
            raise InvalidValue(
                f"prompt {prompt.name!r} has something that a prompt file cannot hold",
                do="Look at its content with: steelyard prompts show --json.",
            )
        return Exported(text=text)

    def matches(self, text: str) -> bool:
        """Whether it is YAML with messages or a template, and variables or another key of ours alone."""
        return looks_like(text, _ours, yaml=True)


def _ours(value: Mapping[str, Any]) -> bool:
    known = {"description", "messages", "template", "variables", "model", "parameters", "tools"}
    known |= {"response_format", "syntax"}
    marks = {"variables", "parameters", "syntax", "response_format"}
    return bool(set(value) & marks) and set(value) <= known


FORMAT = _Own()
