"""What a foreign format is, and which there are.

Reading never runs anything of what is read: no template is rendered, no class is looked up, no environment
variable is read. What cannot be said in the other form is refused in one sentence, never left out silently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from steelyard.core.canonical import JSON
from steelyard.core.errors import InvalidValue
from steelyard.core.plugins import Registry
from steelyard.prompts.prompt import Prompt

__all__ = ["FORMATS", "Exported", "Format", "Imported", "detect"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A prompt that was read.

    Attributes:
        prompt: The prompt.
        left: What was not carried over or was decided on the way, one sentence each.
        examples: Rows of test data that came with it: `inputs`, and `reference_outputs` where there were any.
        evaluators: Evaluators that mean what its checks meant, as Python source.
    """

    prompt: Prompt
    left: tuple[str, ...] = ()
    examples: tuple[Mapping[str, JSON], ...] = ()
    evaluators: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A prompt that was written.

    Attributes:
        text: The file's text.
        left: What the other side does otherwise, one sentence each.
    """

    text: str
    left: tuple[str, ...] = ()


class Format(Protocol):
    """A format of prompts."""

    name: str

    def read(self, text: str, name: str) -> tuple[Imported, ...]:
        """The prompts in a file's text; most formats hold one.

        Args:
            text: The file's text.
            name: What the prompt is to be called; several get `-1`, `-2` … appended.

        Raises:
            InvalidValue: it is not of this format, or says what Steelyard's prompts cannot say.
        """
        ...

    def write(self, prompt: Prompt) -> Exported:
        """The prompt in this format.

        Raises:
            InvalidValue: the format cannot say it; the sentence names what.
        """
        ...

    def matches(self, text: str) -> bool:
        """Whether a text bears the marks of this format."""
        ...


FORMATS: Registry[Format] = Registry("prompt format", "steelyard.prompt_formats")
"""The formats by name; loaded when they are used."""


def _loader(module: str) -> Callable[[], Format]:
    return lambda: cast("Format", import_module(f"steelyard.prompts.foreign.{module}").FORMAT)


for _name, _module in (
    ("steelyard", "own"),
    ("f-string", "fstring"),
    ("langchain", "langchain"),
    ("langsmith", "langsmith"),
    ("github", "github"),
    ("mlflow", "mlflow"),
    ("promptfoo", "promptfoo"),
):
    FORMATS.add(_name, _loader(_module))


def detect(text: str) -> Format:
    """The one format whose marks a text bears.

    Raises:
        InvalidValue: none's, or those of several.
    """
    found = [f for f in (FORMATS.get(n) for n in FORMATS) if f.matches(text)]
    if len(found) != 1:
        what = " and of ".join(f.name for f in found)
        raise InvalidValue(
            f"the text bears the marks of {what}" if found else "the text bears the marks of no format",
            do=f"Say which it is: --from {'|'.join(FORMATS)}.",
        )
    return found[0]
