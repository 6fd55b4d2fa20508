"""How long an answer takes, and where it ends: the parts of a body, timed and bounded."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol

from steelyard.core.clock import monotonic
from steelyard.lm.body import MAX_BODY
from steelyard.lm.failures import refusal

__all__ = ["Request", "Stopwatch"]


class Request(Protocol):
    """What `httpx2.Request` and `httpx.Request` have in common."""

    method: str
    url: Any
    headers: Any
    stream: Any
    extensions: Any

    @property
    def content(self) -> bytes:
        """The body."""
        ...

    def read(self) -> bytes:
        """The body, read."""
        ...

    async def aread(self) -> bytes:
        """The body, read."""
        ...


class Stopwatch:
    """The time of one attempt, waiting for the provider only.

    Args:
        module: `httpx2` or `httpx`.
        request: The request.
        bounded: Whether the body ends at `MAX_BODY` and at `until`.

    Attributes:
        seconds: Waited so far in this attempt.
        until: Monotonic seconds at which the attempt is over.
    """

    def __init__(self, module: Any, request: Request, *, bounded: bool) -> None:
        self.seconds, self.until = 0.0, math.inf
        self._module, self._request, self._bounded = module, request, bounded
        self._since = 0.0

    def start(self) -> None:
        """Another attempt begins."""
        self.seconds, self._since = 0.0, monotonic()

    def lap(self) -> None:
        """The head of the response is here."""
        self.seconds += monotonic() - self._since

    def timed(self, parts: Any) -> Iterator[bytes]:
        """The parts; only the waiting for them counts as latency, not what the caller does in between."""
        iterator, size = iter(parts), 0
        while True:
            since = monotonic()
            try:
                part = next(iterator)
            except StopIteration:
                return
            finally:
                self.seconds += monotonic() - since
            size = self._bound(size + len(part))
            yield part

    async def timed_async(self, parts: Any) -> AsyncIterator[bytes]:
        """`timed`, awaited."""
        iterator, size = aiter(parts), 0
        while True:
            since = monotonic()
            try:
                part = await anext(iterator)
            except StopAsyncIteration:
                return
            finally:
                self.seconds += monotonic() - since
            size = self._bound(size + len(part))
            yield part

    def _bound(self, size: int) -> int:
        if self._bounded:
            if size > MAX_BODY:
                raise refusal("provider", f"the provider's answer is larger than {MAX_BODY // 2**20} MB")
            if monotonic() > self.until:
                raise self._module.ReadTimeout("the answer took too long", request=self._request)
        return size
