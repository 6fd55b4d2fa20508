"""LangChain's templates: the objects, and the JSON that `dumpd` makes of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from steelyard.core.errors import InvalidValue, MissingExtra
from steelyard.prompts.foreign.format import Exported, Imported
from steelyard.prompts.foreign.json_text import looks_like, read_json
from steelyard.prompts.foreign.manifest_reader import is_manifest, read_manifest
from steelyard.prompts.foreign.manifest_writer import differences, sequence_node
from steelyard.prompts.prompt import Prompt

__all__ = ["FORMAT", "from_langchain"]


class _LangChain:
    name = "langchain"

    def read(self, text: str, name: str) -> tuple[Imported, ...]:
        """The prompt in `dumpd`'s JSON."""
        return (read_manifest(read_json(text, "LangChain's JSON"), name).done(),)

    def write(self, prompt: Prompt) -> Exported:
        """`dumpd`'s JSON of a `ChatPromptTemplate`, with a `ChatOpenAI` after it where there are settings."""
        text = json.dumps(sequence_node(prompt), indent=2, ensure_ascii=False) + "\n"
        return Exported(text=text, left=differences(prompt))

    def matches(self, text: str) -> bool:
        """Whether it is JSON with `lc` and `id`."""
        return looks_like(text, is_manifest)


FORMAT = _LangChain()


def from_langchain(template: Any, name: str) -> Imported:
    """The prompt of a LangChain template: `PromptTemplate`, `ChatPromptTemplate`, or one with a `ChatOpenAI`.

    Args:
        template: The object; it is taken apart by LangChain's own `dumpd`, never rendered.
        name: What the prompt is to be called.

    Raises:
        InvalidValue: it holds code, or more than plain names in its templates.
        MissingExtra: LangChain is not installed.
    """
    try:
        from langchain_core.load import dumpd
    except ModuleNotFoundError as error:
        raise MissingExtra(
            error.name or "langchain-core", extra="langchain", needed_for="from_langchain()"
        ) from None
    value: Any = dumpd(template)
    if not isinstance(value, Mapping):
        raise InvalidValue(
            f"a {type(template).__name__} is no template of LangChain's", do="Give a prompt template."
        )
    return read_manifest(json.loads(json.dumps(value)), name).done()
