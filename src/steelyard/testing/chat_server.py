"""A scriptable OpenAI-compatible server on loopback, for tests: what providers do on bad days.

    with ChatServer([failing(429, retry_after="1"), "hello"]) as server:
        lm = OpenAILM("m", server.base_url, "key")
        assert lm.complete(request).text == "hello"
        assert [call.status for call in server.calls] == [429, 200]

Standard library only. Nothing here waits by itself: a delay is written in the script.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from steelyard.core.clock import monotonic, utc_now

__all__ = [
    "MALFORMED",
    "ChatCall",
    "ChatServer",
    "Reply",
    "Script",
    "calling",
    "completion",
    "failing",
    "redirecting",
    "streaming",
]

_USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer of the server.

    Attributes:
        status: HTTP status.
        body: JSON value, text, or bytes as they go out. None: the answer that fits the request (`fitting`).
        headers: Added to, or in place of, those made from the body.
        content_type: Of the body.
        delay_s: Seconds before the first byte.
        cut_at: Close the connection after that many bytes of the body.
        drip_s: Seconds between the events of a stream.
        retry_at_s: `Retry-After` as the HTTP date that many seconds after the `Date` of the response.
    """

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    content_type: str = "application/json"
    delay_s: float = 0.0
    cut_at: int | None = None
    drip_s: float = 0.0
    retry_at_s: float | None = None


@dataclass(slots=True, kw_only=True)
class ChatCall:
    """One request that came in.

    Attributes:
        n: 0-based, in the order of arrival.
        path: Path and query.
        headers: Names in lower case.
        json: The body read as JSON; None where it is none.
        peer: The client's end of the connection; equal for calls on one connection.
        at: Monotonic seconds of its arrival.
        ended: Monotonic seconds when it was answered; None before.
        status: What it was answered with; 0 before.
    """

    n: int
    path: str
    headers: Mapping[str, str]
    json: Any
    peer: tuple[str, int]
    at: float
    ended: float | None = None
    status: int = 0


Answer = Reply | str
Script = Answer | Sequence[Answer] | Callable[[ChatCall], Answer]


def completion(text: str | None, *, model: str = "m", usage: Any = _USAGE, **choice: Any) -> dict[str, Any]:
    """A chat completion as JSON; `choice` adds to or replaces the choice's fields."""
    message = {"role": "assistant", "content": text}
    one = {"index": 0, "message": message, "finish_reason": "stop", **choice}
    body: dict[str, Any] = {"id": "c", "object": "chat.completion", "created": 1, "model": model}
    return body | {"choices": [one]} | ({"usage": usage} if usage is not None else {})


def calling(name: str, arguments: Any, **more: Any) -> Reply:
    """A reply that calls a tool; arguments that are no text are written as JSON."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    call = {"id": "t", "type": "function", "function": {"name": name, "arguments": text}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    return Reply(body=completion(None, message=message, finish_reason="tool_calls"), **more)


def streaming(text: str, *, usage: Any = _USAGE, done: bool = True, **more: Any) -> Reply:
    """A reply in server-sent events, a word an event."""
    base: dict[str, Any] = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    words = text.split(" ")
    pieces = [w if i == 0 else " " + w for i, w in enumerate(words)]
    events: list[Any] = [
        base
        | {"choices": [{"index": 0, "delta": {"role": "assistant", "content": p}, "finish_reason": None}]}
        for p in pieces
    ]
    events.append(base | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if usage is not None:
        events.append(base | {"choices": [], "usage": usage})
    body = "".join(f"data: {json.dumps(e)}\n\n" for e in events) + ("data: [DONE]\n\n" if done else "")
    return Reply(body=body, content_type="text/event-stream", **more)


def failing(status: int, *, retry_after: str | None = None, **more: Any) -> Reply:
    """An error as providers send it.

    Args:
        status: HTTP status.
        retry_after: The `Retry-After` header as it is.
        **more: Fields of `Reply`.
    """
    headers: dict[str, str] = dict(more.pop("headers", {}))
    if retry_after is not None:
        headers["retry-after"] = retry_after
    more.setdefault("body", {"error": {"message": f"scripted {status}", "type": "scripted", "code": None}})
    return Reply(status=status, headers=headers, **more)


def redirecting(to: str, status: int = 307) -> Reply:
    """A redirect."""
    return Reply(status=status, body="", headers={"location": to})


def _wrong(**message: Any) -> dict[str, Any]:
    return completion(None, message={"role": "assistant", **message})


_GOOD = json.dumps(completion("hello"))

MALFORMED: Mapping[str, Reply] = {
    "truncated JSON": Reply(body=_GOOD[: len(_GOOD) // 2]),
    "HTML with 200": Reply(body="<html><body>Sign in</body></html>", content_type="text/html"),
    "HTML called JSON": Reply(body="<html><body>Sign in</body></html>"),
    "no content type": Reply(body=_GOOD[:-9], content_type=""),
    "wrong content type": Reply(body="upstream connect error", content_type="text/plain"),
    "JSON called text": Reply(body=json.dumps("overloaded"), content_type="text/plain"),
    "empty body": Reply(body=""),
    "a list": Reply(body=[]),
    "a number": Reply(body=0),
    "null": Reply(body="null"),
    "error with 200": Reply(body={"error": {"message": "overloaded"}}),
    "empty choices": Reply(body=completion("x") | {"choices": []}),
    "null choices": Reply(body=completion("x") | {"choices": None}),
    "choice is a text": Reply(body=completion("x") | {"choices": ["hello"]}),
    "no message": Reply(body=completion("x", message=None)),
    "null content": Reply(body=completion(None)),
    "content is a number": Reply(body=_wrong(content=0)),
    "content is an object": Reply(body=_wrong(content={"text": "hello"})),
    "tool arguments are no JSON": calling("f", '{"x": '),
    "tool arguments are a list": calling("f", "[1]"),
    "tool arguments are an object": Reply(
        body=_wrong(content=None, tool_calls=[{"id": "t", "function": {"name": "f", "arguments": {}}}])
    ),
    "tool call without a function": Reply(body=_wrong(content=None, tool_calls=[{"id": "t"}])),
    "tool calls are an object": Reply(body=_wrong(content=None, tool_calls={"id": "t"})),
    "NaN": Reply(body=_GOOD.replace('"created": 1', '"created": NaN')),
    "usage twice": Reply(body=_GOOD[:-1] + ', "usage": {"prompt_tokens": 1, "completion_tokens": 1}}'),
    "negative usage": Reply(body=completion("x", usage={"prompt_tokens": -7, "completion_tokens": 3})),
    "usage is a text": Reply(body=completion("x", usage={"prompt_tokens": "7", "completion_tokens": 3})),
    "depth 10,000": Reply(body='{"choices":' + "[" * 10_000 + "]" * 10_000 + "}"),
    "no UTF-8": Reply(body=b'{"choices": [{"message": {"content": "\xff\xfe"}}]}'),
    "not gzip": Reply(body=_GOOD, headers={"content-encoding": "gzip"}),
}
"""Whole replies with status 200 that are no completion, by name."""


class ChatServer:
    """The server; a context manager. Safe for many clients at once.

    Args:
        script: One reply for every call; a sequence, one a call, then `otherwise`; or a function of the call,
            run in the call's own thread. A text is the completion that says it.
        otherwise: The reply after the end of a sequence; what fits the request if left out.

    Attributes:
        calls: Every call so far, in the order of arrival.
        most_at_once: The most calls that were under way at one time.
    """

    def __init__(self, script: Script = (), *, otherwise: Answer | None = None) -> None:
        self.calls: list[ChatCall] = []
        self.most_at_once = 0
        self._script, self._otherwise = script, otherwise or Reply()
        self._under_way = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.chat = self
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, name="chat-server", daemon=True
        )

    def __enter__(self) -> ChatServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def base_url(self) -> str:
        """What clients take, ending in `/v1`."""
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    @property
    def statuses(self) -> list[int]:
        """What the calls were answered with, in the order of arrival."""
        return [call.status for call in self.calls]

    def say(self, script: Script) -> None:
        """Another script from now on; a sequence begins with the next call."""
        with self._lock:
            self._script, self._begun = script, len(self.calls)

    _begun = 0

    def stop(self) -> None:
        """End the server and every delay in it."""
        self._stopped.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    # -- for the handler --------------------------------------------------------------------------
    def arrived(
        self, path: str, headers: Mapping[str, str], body: bytes, peer: tuple[str, int]
    ) -> tuple[ChatCall, Reply]:
        """The call that came in, and its reply."""
        try:
            value = json.loads(body)
        except ValueError:
            value = None
        with self._lock:
            call = ChatCall(
                n=len(self.calls), path=path, headers=headers, json=value, peer=peer, at=monotonic()
            )
            self.calls.append(call)
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
            script, n = self._script, call.n - self._begun
        answer: Answer
        if isinstance(script, (str, Reply)):
            answer = script
        elif isinstance(script, Sequence):
            answer = script[n] if n < len(script) else self._otherwise
        else:
            answer = script(call)
        reply = Reply(body=answer) if isinstance(answer, str) else answer
        return call, _fitting(reply, call, says=isinstance(answer, str))

    def answered(self, call: ChatCall) -> None:
        """Note that a call is over."""
        with self._lock:
            self._under_way -= 1
            call.ended = monotonic()

    def pause(self, seconds: float) -> None:
        """Wait, unless the server stops."""
        self._stopped.wait(seconds)


def _fitting(reply: Reply, call: ChatCall, *, says: bool) -> Reply:
    """The reply itself, or for a text or an empty one the completion that fits the request."""
    if not says and reply.body is not None:
        return reply
    asked: Any = call.json if isinstance(call.json, dict) else {}
    text = str(reply.body) if says else "ok"
    schema = ((asked.get("response_format") or {}).get("json_schema") or {}).get("schema")
    if schema is not None and not says:
        text = json.dumps(_instance(schema))
    if asked.get("stream"):
        made = streaming(text, delay_s=reply.delay_s, cut_at=reply.cut_at, drip_s=reply.drip_s)
        return replace(made, headers=reply.headers, status=reply.status)
    return replace(reply, body=completion(text, model=str(asked.get("model", "m"))))


def _instance(schema: Mapping[str, Any]) -> Any:
    """A small value of a JSON schema: enough for tests, no validator."""
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            properties = cast("dict[str, Any]", schema.get("properties", {}))
            return {name: _instance(part) for name, part in properties.items()}
        case "array":
            return [_instance(schema.get("items", {})) for _ in range(int(schema.get("minItems", 0)))]
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return False
        case "null":
            return None
        case _:
            return "x"


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    chat: ChatServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that go away are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def _chat(self) -> ChatServer:
        return cast("_Http", self.server).chat

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        chat = self._chat
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {k.lower(): v for k, v in self.headers.items()}
        call, reply = chat.arrived(self.path, headers, body, self.client_address)
        try:
            if reply.delay_s:
                chat.pause(reply.delay_s)
            call.status = reply.status
            self._send(reply)
        except OSError:  # the client went away
            self.close_connection = True
        finally:
            chat.answered(call)

    def _send(self, reply: Reply) -> None:
        raw = _bytes(reply.body)
        shown = raw if reply.cut_at is None else raw[: reply.cut_at]
        self.send_response_only(reply.status)
        now = utc_now().replace(microsecond=0)
        headers = {"date": format_datetime(now, usegmt=True)}
        headers |= {"content-type": reply.content_type, "content-length": str(len(raw))}
        if reply.retry_at_s is not None:
            at = now + timedelta(seconds=reply.retry_at_s)
            headers["retry-after"] = format_datetime(at, usegmt=True)
        headers |= {k.lower(): v for k, v in reply.headers.items()}
        for key, value in headers.items():
            if value or key != "content-type":
                self.send_header(key, value)
        if reply.cut_at is not None:
            self.close_connection = True
        if not reply.drip_s:
            buffered: list[bytes] = getattr(self, "_headers_buffer", [])
            head = b"".join(
                [*buffered, b"\r\n"]
            )  # in one piece with the body: two small writes wait for an ACK
            self._headers_buffer = []
            self.wfile.write(head + shown)
            return
        self.end_headers()
        for event in _events(shown):
            self.wfile.write(event)
            self.wfile.flush()
            self._chat.pause(reply.drip_s)


def _bytes(body: Any) -> bytes:
    if isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def _events(raw: bytes) -> Iterator[bytes]:
    while raw:
        event, mark, raw = raw.partition(b"\n\n")
        yield event + mark
