"""Where requests go through: what a scope, or a client of ours, adds beneath `httpx2` and `httpx`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from steelyard.core.errors import ReplayMiss
from steelyard.lm.exchange import MARK, Exchange
from steelyard.lm.policy import POLICY
from steelyard.lm.scope import active_sessions, current
from steelyard.lm.server import route
from steelyard.lm.steps import adrive, drive
from steelyard.lm.stopwatch import Request
from steelyard.lm.wire import is_model_call

__all__ = ["MARK", "exchange", "exchange_async", "guard"]


def exchange(module: Any, send: Callable[[Any], Any], request: Request) -> Any:
    """The response to a request, by `send` where it must go out."""
    calls = current()
    if calls is None:
        guard(request)
        if POLICY not in request.extensions:
            return send(_routed(module, request))
    request.read()
    one = Exchange(module, calls, request)
    if (found := one.recorded()) is not None:
        return found
    return drive(one.steps(lambda: _Send(one, module, send)))


async def exchange_async(module: Any, send: Callable[[Any], Awaitable[Any]], request: Request) -> Any:
    """`exchange`, awaited."""
    calls = current()
    if calls is None:
        guard(request)
        if POLICY not in request.extensions:
            return await send(await _routed_async(module, request))
    await request.aread()
    one = Exchange(module, calls, request)
    if (found := one.recorded()) is not None:
        return found
    return await adrive(one.steps(lambda: _Send(one, module, send)))


def guard(request: Request) -> None:
    """Refuse a model call that no scope covers while a session replays: a thread started without the context.

    Raises:
        ReplayMiss: such a call.
    """
    path = request.url.path
    for session in active_sessions():
        if session.mode == "replay" and is_model_call(request.method, path):
            raise ReplayMiss(
                f"{request.method} {path}, called outside of any example (in a thread of the task's own? "
                "Start it with contextvars.copy_context().run)",
                key="unknown",
                folder=session.tape.folder,
            )


@dataclass(frozen=True, slots=True)
class _Send:
    """One attempt: the response, and its raw body unless it is streamed."""

    one: Exchange
    module: Any
    send: Callable[[Any], Any]

    def run(self) -> tuple[Any, bytes | None]:
        one = self.one
        one.clip()
        routed = _routed(self.module, one.request)
        one.start()  # a local server's own start is no latency of the answer
        response = self.send(routed)
        if one.streams(response):
            return response, None
        try:
            return response, b"".join(one.watch.timed(response.stream))
        finally:
            response.close()

    async def arun(self) -> tuple[Any, bytes | None]:
        one = self.one
        one.clip()
        routed = await _routed_async(self.module, one.request)
        one.start()
        response = await self.send(routed)
        if one.streams(response):
            return response, None
        try:
            return response, b"".join([part async for part in one.watch.timed_async(response.stream)])
        finally:
            await response.aclose()


def _routed(module: Any, request: Request) -> Any:
    server = route(request.url.host)
    return request if server is None else _to(module, request, server.address())


async def _routed_async(module: Any, request: Request) -> Any:
    server = route(request.url.host)
    if server is None:
        return request
    import anyio.to_thread

    return _to(module, request, await anyio.to_thread.run_sync(server.address))


def _to(module: Any, request: Request, address: Any) -> Any:
    headers = [(k, v) for k, v in request.headers.raw if k.lower() not in (b"host", b"authorization")]
    headers.append((b"Host", f"{address.host}:{address.port}".encode()))
    headers.append((b"Authorization", f"Bearer {address.key}".encode()))
    url = request.url.copy_with(scheme="http", host=address.host, port=address.port)
    return module.Request(
        request.method, url, headers=headers, stream=request.stream, extensions=request.extensions
    )
