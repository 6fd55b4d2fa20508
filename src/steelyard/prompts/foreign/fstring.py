"""Plain f-string text: one user message, `{name}` for a variable."""

from __future__ import annotations

from steelyard.core.errors import InvalidValue
from steelyard.prompts.foreign.build import Building, segments_of, text_variables
from steelyard.prompts.foreign.format import Exported, Imported
from steelyard.prompts.foreign.text import read_fstring, write_fstring
from steelyard.prompts.prompt import Prompt

__all__ = ["FORMAT"]


class _FString:
    name = "f-string"

    def read(self, text: str, name: str) -> tuple[Imported, ...]:
        """The text as one user message."""
        building = Building(name)
        building.add({"role": "user", "content": building.segments(read_fstring(text, "the text"))})
        return (building.done(),)

    def write(self, prompt: Prompt) -> Exported:
        """The text of the one user message; defaults stay behind, and it says so."""
        where = f"prompt {prompt.name!r}"
        extra = [k for k in ("model", "parameters", "tools", "response_format") if getattr(prompt, k)]
        message = prompt.messages[0]
        if extra or len(prompt.messages) != 1 or set(message) != {"role", "content"}:
            what = f"its {extra[0]}" if extra else "several messages, or more than a text"
            raise InvalidValue(
                f"{where} cannot be an f-string text: it cannot hold {what}",
                do="Export to langchain instead.",
            )
        if message["role"] != "user" or not isinstance(message["content"], str):
            raise InvalidValue(
                f"{where} cannot be an f-string text: that is the text of a user message and no more",
                do="Export to langchain instead.",
            )
        segments = segments_of(prompt, message["content"], "an f-string text")
        left = [
            f"The default of {v!r} is not in the text: hand {t!r} in."
            for v, t in text_variables(prompt).items()
        ]
        return Exported(text=write_fstring(segments), left=tuple(left))

    def matches(self, text: str) -> bool:
        """Never: any text could be one."""
        return False


FORMAT = _FString()
