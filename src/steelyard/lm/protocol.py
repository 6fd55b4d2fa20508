"""Who answers: one protocol for every language model."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from steelyard.core.chat import ChatRequest, Completion

__all__ = ["LM"]


@runtime_checkable
class LM(Protocol):
    """A chat model. Safe to call from several threads.

    Attributes:
        name: For people: `"smollm2-135m"`, `"gpt-5-mini"`.
        digest: Identity of what answers, `sha256:<hex>`: the weights' digest for a local model, provider and
            model name for an endpoint. Host and port never count.
        concurrency: Most calls that make sense at once. A local model has one slot, because concurrent slots
            change temperature-0 answers.
    """

    name: str
    digest: str
    concurrency: int

    def complete(self, request: ChatRequest) -> Completion:
        """The completion of a request.

        Raises:
            CallFailed: no usable completion, with its kind. ReplayMiss: replay mode and no recording.
        """
        ...

    async def acomplete(self, request: ChatRequest) -> Completion:
        """`complete`, awaited."""
        ...

    def close(self) -> None:
        """Stop what was started (a local server); the next call starts it again."""
        ...
