"""What is served for a ref: values, how they are said, and the prompt that a fallback is."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from steelyard.core.canonical import JSON, short
from steelyard.prompts.prompt import Prompt

if TYPE_CHECKING:
    from steelyard.store import Kind, LedgerEntry, Version

__all__ = ["Entry", "Fallback", "Readable", "Served", "from_fallback", "in_words"]

Fallback = Prompt | str | Sequence[Mapping[str, JSON]]
"""A prompt, the text of one user message, or messages; `{{ name }}` in texts are variables of type `str`."""


class Readable(Protocol):
    """What is asked of a store; every `steelyard.store.Store` has it."""

    @property
    def uri(self) -> str:
        """As in `Store`."""
        ...

    def aliases(self, kind: Kind, name: str) -> dict[str, str]:
        """As in `Store`."""
        ...

    def names(self, kind: Kind) -> list[str]:
        """As in `Store`."""
        ...

    def versions(self, kind: Kind, name: str) -> list[Version]:
        """As in `Store`."""
        ...

    def version(self, kind: Kind, name: str, selector: int | str) -> Version:
        """As in `Store`."""
        ...

    def history(self, kind: Kind, name: str, alias: str | None = None) -> list[LedgerEntry]:
        """As in `Store`."""
        ...

    def close(self) -> None:
        """As in `Store`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What is served for a ref, for health pages and logs.

    Attributes:
        ref: `support@production`.
        digest: Of the version.
        number: The registry's number; None where it has none.
        origin: `store`, `disk` (not confirmed since the process began), `lock`.
        age_s: Seconds since the store last confirmed it; None for what needs no store.
        error: Why the last refresh failed; None if it did not.
    """

    ref: str
    digest: str
    number: int | None
    origin: str
    age_s: float | None
    error: str | None


class Entry:
    """A prompt in memory; when it was asked for and is due to be asked for again, by the monotonic clock."""

    __slots__ = ("asked", "confirmed", "due", "number", "origin", "prompt")

    def __init__(
        self, prompt: Prompt, due: float, number: int | None, confirmed: float | None, origin: str
    ) -> None:
        self.prompt, self.due, self.number = prompt, due, number
        self.confirmed, self.origin, self.asked = confirmed, origin, 0.0


def from_fallback(name: str, fallback: Any) -> Prompt:
    """The prompt of a fallback's text or messages.

    Raises:
        InvalidValue: it is none.
    """
    from steelyard.prompts.template import parse, strings
    from steelyard.prompts.variable import Variable

    messages = ({"role": "user", "content": fallback},) if isinstance(fallback, str) else tuple(fallback)
    names = {
        segment.text: None
        for _, text in strings(list(messages))
        for segment in parse(text)
        if segment.variable
    }
    return Prompt(name=name, messages=messages, variables={n: Variable() for n in names})


def in_words(entry: Entry | None) -> str:
    """Which version an entry is, and how long ago the store confirmed it; nothing for no entry."""
    if entry is None:
        return ""
    version = f"version {entry.number} " if entry.number is not None else ""
    which = f"{version}({short(entry.prompt.digest)})"
    if entry.confirmed is None:
        return which
    seconds = max(0.0, time.time() - entry.confirmed)
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{which} confirmed {seconds / size:.0f} {unit} ago"
    return f"{which} confirmed {seconds:.0f} seconds ago"
