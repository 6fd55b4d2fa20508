"""One request at the HTTP transport: answered from a recording, or sent, measured and recorded.

`httpx2` and `httpx` have the same classes under two names, so everything here takes the module as a value.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Protocol, cast

from steelyard.core.clock import monotonic
from steelyard.core.errors import Corrupt, ReplayMiss
from steelyard.core.results import Usage
from steelyard.core.score import Failure
from steelyard.lm.cost import price
from steelyard.lm.failures import failure_of, kind_of_status
from steelyard.lm.key import key_of_request
from steelyard.lm.scope import Call, Calls, active_sessions, current
from steelyard.lm.server import identity_of, route
from steelyard.lm.tape import Recording
from steelyard.lm.wire import is_model_call, read_reply

__all__ = ["MARK", "exchange", "exchange_async", "guard"]

MARK = "steelyard"
"""The response extension that holds the `Usage` of a completed call made in a scope."""

_KEPT_HEADERS = ("content-type", "content-encoding")


class _Request(Protocol):  # what httpx2.Request and httpx.Request have in common
    method: str
    url: Any
    headers: Any
    stream: Any
    extensions: Any

    @property
    def content(self) -> bytes: ...
    def read(self) -> bytes: ...
    async def aread(self) -> bytes: ...


def exchange(module: Any, send: Callable[[Any], Any], request: _Request) -> Any:
    """The response to a request, by `send` where it must go out."""
    calls = current()
    if calls is None:
        guard(request)
        return send(_routed(module, request))
    request.read()
    one = _Exchange(module, calls, request)
    if (found := one.recorded()) is not None:
        return found
    try:
        routed = _routed(module, request)
        one.start()  # a local server's own start is no latency of the answer
        response = send(routed)
        if not one.streams(response):
            try:
                raw = b"".join(one.timed(response.stream))
            finally:
                response.close()
            return one.whole(response, raw)
    except BaseException as error:
        one.failed(error)
        raise
    return module.Response(
        response.status_code,
        headers=response.headers,
        stream=_tee(module, one, response),
        extensions=response.extensions,
    )


async def exchange_async(module: Any, send: Callable[[Any], Awaitable[Any]], request: _Request) -> Any:
    """`exchange`, awaited."""
    calls = current()
    if calls is None:
        guard(request)
        return await send(await _routed_async(module, request))
    await request.aread()
    one = _Exchange(module, calls, request)
    if (found := one.recorded()) is not None:
        return found
    try:
        routed = await _routed_async(module, request)
        one.start()
        response = await send(routed)
        if not one.streams(response):
            try:
                raw = b"".join([part async for part in one.timed_async(response.stream)])
            finally:
                await response.aclose()
            return one.whole(response, raw)
    except BaseException as error:
        one.failed(error)
        raise
    return module.Response(
        response.status_code,
        headers=response.headers,
        stream=_tee_async(module, one, response),
        extensions=response.extensions,
    )


def guard(request: _Request) -> None:
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


class _Exchange:
    """The state of one request in a scope."""

    def __init__(self, module: Any, calls: Calls, request: _Request) -> None:
        self.module, self.calls, self.request = module, calls, request
        target = request.url.raw_path.decode("ascii", "replace")
        self.path = target.partition("?")[0]
        self.asked = f"{request.method} {self.path}"
        self.model_call = is_model_call(request.method, self.path)
        self.identity = identity_of(request.url.host)
        self.base = key_of_request(
            method=request.method,
            target=target,
            content_type=request.headers.get("content-type", ""),
            body=request.content,
            identity=self.identity,
            host=None if self.model_call else request.url.host,
        )
        self.n = calls.take(self.base)
        self.key = calls.key(self.base, self.n)
        self.seconds = 0.0
        self.ended = False
        self._since = 0.0

    def recorded(self) -> Any | None:
        session = self.calls.session
        if session is None:
            return None
        try:
            found = session.find(self.key, self.asked)
        except (ReplayMiss, Corrupt) as error:
            self.calls.give_back(self.base, self.n)
            self.calls.refuse(error, self.asked, self.key)
            raise
        if found is None:
            return None
        usage = found.usage + Usage(replayed=1) if found.usage is not None else None
        self.calls.add(
            Call(asked=self.asked, source="recorded", key=self.key, usage=usage, status=found.status)
        )
        return self.module.Response(
            found.status,
            headers=dict(found.headers),
            stream=self.module.ByteStream(found.body),
            extensions={MARK: usage},
        )

    def start(self) -> None:
        if self.calls.session is not None:
            self.calls.session.count("live")
        self._since = monotonic()

    def streams(self, response: Any) -> bool:
        """Whether the caller gets the body piece by piece; ends the time to the response's head."""
        self.seconds += monotonic() - self._since
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        return kind in ("text/event-stream", "application/x-ndjson") and response.status_code < 300

    def timed(self, parts: Any) -> Iterator[bytes]:
        """The parts; only the waiting for them counts as latency, not what the caller does in between."""
        iterator = iter(parts)
        while True:
            since = monotonic()
            try:
                part = next(iterator)
            except StopIteration:
                return
            finally:
                self.seconds += monotonic() - since
            yield part

    async def timed_async(self, parts: Any) -> AsyncIterator[bytes]:
        iterator = aiter(parts)
        while True:
            since = monotonic()
            try:
                part = await anext(iterator)
            except StopAsyncIteration:
                return
            finally:
                self.seconds += monotonic() - since
            yield part

    def whole(self, response: Any, raw: bytes) -> Any:
        """The response with its body read, after it was judged and recorded."""
        usage = self.finish(response, raw)
        return self.module.Response(
            response.status_code,
            headers=response.headers,
            stream=self.module.ByteStream(raw),
            extensions={**response.extensions, MARK: usage},
        )

    def finish(self, response: Any, raw: bytes) -> Usage | None:
        """The usage of a whole reply; logged, and recorded where it is a full success."""
        self.ended = True
        status = int(response.status_code)
        if not 200 <= status < 300:
            said = " ".join(raw[:200].decode("utf-8", "replace").split())
            self._fail(
                Failure(kind=kind_of_status(status), message=f"status {status}: {said}", status=status)
            )
            return None
        headers = {k: response.headers[k] for k in _KEPT_HEADERS if k in response.headers}
        usage, about = None, {"method": self.request.method, "path": self.path}
        if self.model_call:
            body = self.module.Response(200, headers=headers, content=raw).content
            reply = read_reply(self.path, headers.get("content-type", ""), body)
            cost = self._cost(reply.model, reply.input_tokens, reply.output_tokens, reply.cached_tokens)
            usage = Usage(
                calls=0 if reply.problem else 1,
                input_tokens=reply.input_tokens,
                output_tokens=reply.output_tokens,
                cost_usd=cost if reply.counted else (0.0 if self.identity else None),
                latency_s=self.seconds,
            )
            if reply.problem is not None:
                failure = Failure(kind="provider", message=reply.problem, status=status)
                self._fail(failure, usage if reply.counted else None)
                return None
            about["model"] = reply.model or ""
        self.calls.add(Call(asked=self.asked, source="live", key=self.key, usage=usage, status=status))
        if self.calls.session is not None:
            self.calls.session.keep(
                Recording(key=self.key, status=status, headers=headers, body=raw, usage=usage, about=about)
            )
        return usage

    def failed(self, error: BaseException) -> None:
        """Log an attempt that the transport gave up; a local server that hangs is ended."""
        if self.ended:
            return
        self.ended = True
        failure = failure_of(error)
        if failure is None:
            words = str(error) or type(error).__name__
            failure = Failure(kind="transport" if isinstance(error, OSError) else "cancelled", message=words)
        self._fail(failure)
        server = route(self.request.url.host)
        if server is not None and failure.kind == "timeout":
            server.after_timeout()

    def closed(self, response: Any, raw: bytes) -> None:
        """The caller closed a stream: whole if the answer had ended (`[DONE]` comes before the last byte)."""
        if self.ended:
            return
        if read_reply(self.path, response.headers.get("content-type", ""), raw).problem is None:
            self.finish(response, raw)
            return
        self.ended = True
        self._fail(Failure(kind="cancelled", message="the caller closed the stream before its end"))

    def _fail(self, failure: Failure, consumed: Usage | None = None) -> None:
        self.calls.give_back(self.base, self.n)
        self.calls.add(
            Call(asked=self.asked, source="live", key=self.key, failure=failure, status=failure.status),
            consumed,
        )

    def _cost(self, model: str | None, given: int, made: int, cached: int) -> float | None:
        if self.identity is not None:
            return 0.0
        url = str(self.request.url)
        return price(model, url=url, input_tokens=given, output_tokens=made, cached_tokens=cached)


def _cut(one: _Exchange) -> Exception | None:
    # A stream that ends early looks like a short answer to most clients; it must not become a row.
    last = one.calls.last_failure
    if last is None or last.kind != "provider":
        return None
    return cast("Exception", one.module.RemoteProtocolError(last.message))


def _tee(module: Any, one: _Exchange, response: Any) -> Any:
    class Tee(module.SyncByteStream):
        def __init__(self) -> None:
            self.parts: list[bytes] = []

        def __iter__(self) -> Iterator[bytes]:
            try:
                for part in one.timed(response.stream):
                    self.parts.append(part)
                    yield part
            except GeneratorExit:
                raise
            except Exception as error:
                one.failed(error)
                raise
            if not one.ended and one.finish(response, b"".join(self.parts)) is None and (cut := _cut(one)):
                raise cut

        def close(self) -> None:
            one.closed(response, b"".join(self.parts))
            response.close()

    return Tee()


def _tee_async(module: Any, one: _Exchange, response: Any) -> Any:
    class Tee(module.AsyncByteStream):
        def __init__(self) -> None:
            self.parts: list[bytes] = []

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for part in one.timed_async(response.stream):
                    self.parts.append(part)
                    yield part
            except GeneratorExit:
                raise
            except Exception as error:
                one.failed(error)
                raise
            if not one.ended and one.finish(response, b"".join(self.parts)) is None and (cut := _cut(one)):
                raise cut

        async def aclose(self) -> None:
            one.closed(response, b"".join(self.parts))
            await response.aclose()

    return Tee()


def _routed(module: Any, request: _Request) -> Any:
    server = route(request.url.host)
    return request if server is None else _to(module, request, server.address())


async def _routed_async(module: Any, request: _Request) -> Any:
    server = route(request.url.host)
    if server is None:
        return request
    import anyio.to_thread

    return _to(module, request, await anyio.to_thread.run_sync(server.address))


def _to(module: Any, request: _Request, address: Any) -> Any:
    headers = [(k, v) for k, v in request.headers.raw if k.lower() not in (b"host", b"authorization")]
    headers.append((b"Host", f"{address.host}:{address.port}".encode()))
    headers.append((b"Authorization", f"Bearer {address.key}".encode()))
    url = request.url.copy_with(scheme="http", host=address.host, port=address.port)
    return module.Request(
        request.method, url, headers=headers, stream=request.stream, extensions=request.extensions
    )
