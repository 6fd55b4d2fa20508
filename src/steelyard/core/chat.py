"""A chat request and its completion, in OpenAI's form: what prompts render to and what models answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from steelyard.core.canonical import JSON
from steelyard.core.errors import InvalidOutput, InvalidValue, MissingExtra
from steelyard.core.results import Usage

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

__all__ = ["ChatRequest", "Completion"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """What is asked of a chat model.

    Attributes:
        messages: OpenAI chat messages, `{"role": "user", "content": "…"}`.
        model: A model name, or None for the one that is configured.
        parameters: Sampling parameters by OpenAI's names: `temperature`, `max_tokens`, `seed`, `stop` …
        tools: OpenAI tool definitions.
        response_format: OpenAI `response_format`, or None for free text.
        prompt: `name@sha256:…` of the prompt that rendered it, for traces; not sent.
    """

    messages: tuple[Mapping[str, JSON], ...]
    model: str | None = None
    parameters: Mapping[str, JSON] = field(default_factory=dict[str, Any])
    tools: tuple[Mapping[str, JSON], ...] = ()
    response_format: Mapping[str, JSON] | None = None
    prompt: str | None = None

    def to_openai(self) -> dict[str, JSON]:
        """Keyword arguments of `client.chat.completions.create`, `model` left out when it is None."""
        return {"messages": [dict(m) for m in self.messages], **self.options()}

    def options(self) -> dict[str, JSON]:
        """Everything but the messages: what a LangChain chat model's `bind` takes."""
        out: dict[str, JSON] = dict(self.parameters)
        if self.model is not None:
            out["model"] = self.model
        if self.tools:
            out["tools"] = [dict(t) for t in self.tools]
        if self.response_format is not None:
            out["response_format"] = dict(self.response_format)
        return out

    def to_langchain(self) -> list[BaseMessage]:
        """The messages as LangChain's message objects; `options()` has the rest.

        Raises:
            MissingExtra: LangChain is not installed.
            InvalidValue: a message has no form there, such as a tool call without JSON arguments.
        """
        try:
            from langchain_core.messages import convert_to_messages
        except ModuleNotFoundError as error:
            raise MissingExtra(
                error.name or "langchain-core", extra="langchain", needed_for="to_langchain()"
            ) from None
        try:
            return convert_to_messages([{"content": "", **m} for m in self.messages])
        except (
            ValueError,
            KeyError,
            TypeError,
        ) as error:  # say arguments that are no JSON
            raise InvalidValue(
                f"a message has no form in LangChain ({' '.join(str(error).split())[:120]})",
                do="Mend its tool calls or content.",
            ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What a model answered.

    Attributes:
        text: The content; empty where the answer is only tool calls.
        tool_calls: OpenAI tool calls, arguments as the text the model wrote.
        finish_reason: `stop`, `length`, `tool_calls`, `content_filter`; None if it was not given.
        model: The model's name as the provider gave it.
        usage: Tokens, cost and latency of this call.
    """

    text: str
    tool_calls: tuple[Mapping[str, JSON], ...] = ()
    finish_reason: str | None = None
    model: str | None = None
    usage: Usage = field(default_factory=Usage)

    def json(self) -> Any:
        """The text read as JSON.

        Raises:
            InvalidOutput: it is none; the row then scores the worst value, labelled `invalid_output`.
        """
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError) as error:
            cut = " (cut off at max_tokens)" if self.finish_reason == "length" else ""
            raise InvalidOutput(f"not JSON{cut}: {error}", output=self.text) from None
