"""The body of a streamed answer: handed on piece by piece, kept, and judged at its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol

from steelyard.core.errors import CallFailed
from steelyard.lm.body import BodyRefused, Decoder
from steelyard.lm.failures import refusal
from steelyard.lm.stopwatch import Stopwatch

__all__ = ["Streamed", "tee"]

_DONE = b"[DONE]"


class Streamed(Protocol):
    """What a stream reports to."""

    watch: Stopwatch

    def stream_broke(self, error: BaseException) -> None:
        """It ended with an error."""
        ...

    def stream_ended(self, response: Any, raw: bytes, body: bytes) -> CallFailed | None:
        """It ended; an error where it is no whole answer."""
        ...

    def stream_problem(self, response: Any, body: bytes) -> bool:
        """Whether what came so far, to its end mark, is no whole answer."""
        ...

    def stream_closed(self, response: Any, raw: bytes, body: bytes) -> None:
        """The caller closed it."""
        ...


class _Kept:
    """What came so far."""

    def __init__(self, one: Streamed, response: Any) -> None:
        self.one, self.response = one, response
        self._raw: list[bytes] = []
        self._body: list[bytes] = []
        self._tail = b""
        self._decoder: Decoder | None = None

    def take(self, part: bytes) -> bytes:
        """The part, decoded; raises before the end mark of an answer that is none is handed on."""
        self._raw.append(part)
        try:
            if self._decoder is None:
                self._decoder = Decoder(self.response.headers.get("content-encoding"))
            made = self._decoder.feed(part)
        except BodyRefused as error:
            raise refusal("provider", f"the provider's stream cannot be read: {error}") from None
        self._body.append(made)
        seen = self._tail + made
        self._tail = seen[-len(_DONE) :]
        if _DONE in seen and self.one.stream_problem(self.response, self.body) and (error := self.end()):
            raise error
        return made

    @property
    def body(self) -> bytes:
        """The decoded bytes so far."""
        return b"".join(self._body)

    def end(self) -> CallFailed | None:
        """The stream is over."""
        return self.one.stream_ended(self.response, b"".join(self._raw), self.body)

    def close(self) -> None:
        """The caller has enough."""
        self.one.stream_closed(self.response, b"".join(self._raw), self.body)


class _Tee:
    def __init__(self, one: Streamed, response: Any) -> None:
        self._kept, self._one, self._response = _Kept(one, response), one, response

    def __iter__(self) -> Iterator[bytes]:
        try:
            for part in self._one.watch.timed(self._response.stream):
                if made := self._kept.take(part):
                    yield made
        except GeneratorExit:
            raise
        except BaseException as error:
            self._one.stream_broke(error)
            raise
        if error := self._kept.end():
            raise error

    def close(self) -> None:
        self._kept.close()
        self._response.close()


class _AsyncTee:
    def __init__(self, one: Streamed, response: Any) -> None:
        self._kept, self._one, self._response = _Kept(one, response), one, response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._one.watch.timed_async(self._response.stream):
                if made := self._kept.take(part):
                    yield made
        except GeneratorExit:
            raise
        except BaseException as error:
            self._one.stream_broke(error)
            raise
        if error := self._kept.end():
            raise error

    async def aclose(self) -> None:
        self._kept.close()
        await self._response.aclose()


_CLASSES: dict[tuple[str, bool], type] = {}


def tee(module: Any, one: Streamed, response: Any) -> Any:
    """A response's stream, of the module's own kind, that reports to `one`."""
    sync = isinstance(response.stream, module.SyncByteStream)
    key = (module.__name__, sync)
    if key not in _CLASSES:
        base = module.SyncByteStream if sync else module.AsyncByteStream
        _CLASSES[key] = type("Tee", (_Tee if sync else _AsyncTee, base), {})
    return _CLASSES[key](one, response)
