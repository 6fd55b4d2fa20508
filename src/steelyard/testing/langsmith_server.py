"""A LangSmith server on loopback: it speaks the API that the real client calls, and keeps what it got.

    with LangSmithServer() as server:
        client = langsmith.Client(api_url=server.url, api_key=server.api_key)

It stores and checks: ids, shapes, references between runs and examples. What it does not know it answers
with 404, and tells `server.unknown`, so that a test can see that nothing went astray. It is not a LangSmith:
no UI, no filters' language, no statistics beyond means.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from typing import Any
from urllib.parse import parse_qs, urlsplit

from steelyard.testing.langsmith_routes import ROUTES, Request
from steelyard.testing.langsmith_state import Problem, State

__all__ = ["LangSmithServer", "Request"]


class LangSmithServer:
    """The server; a context manager. It listens once it is entered.

    Args:
        api_key: The key that requests must bear in `x-api-key`.
        version: The server's version as `/info` gives it; clients older or newer behave by it.
        flags: `instance_flags` of `/info`.
        multipart: Whether runs may come as multipart; if not, the client falls back to batches.
    """

    def __init__(
        self,
        *,
        api_key: str = "lsv2-test",
        version: str = "0.13.0",
        flags: Mapping[str, Any] | None = None,
        multipart: bool = True,
    ) -> None:
        self.api_key, self.version, self.multipart = api_key, version, multipart
        self.flags: dict[str, Any] = {
            "dataset_examples_multipart_enabled": True,
            "zstd_compression_enabled": find_spec("zstandard") is not None,
            **(flags or {}),
        }
        self.state = State()
        self.requests: list[Request] = []
        self.unknown: list[str] = []
        """Requests that no route takes, as `METHOD path`."""
        self.answer: Callable[[Request], int | None] = lambda _: None
        """A fault to inject: gives the status that a request is to be answered with, None to go on."""
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """The API's address, for `api_url` and `LANGSMITH_ENDPOINT`."""
        assert self._server is not None, "enter the server first"
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> LangSmithServer:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        server.daemon_threads = True
        self._server = server
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def handle(self, request: Request) -> tuple[int, Any]:
        """Status and JSON of the answer."""
        with self.state.lock:
            self.requests.append(request)
            status = self.answer(request)
            if status is not None:
                return status, {"detail": "a fault was asked for"}
            if request.headers.get("x-api-key") != self.api_key:
                return 401, {"detail": "Invalid token"}
            try:
                for method, pattern, function in ROUTES:
                    match = pattern.fullmatch(request.path)
                    if method == request.method and match is not None:
                        return 200, function(self, request, match)
            except Problem as problem:
                return problem.status, {"detail": problem.detail}
            self.unknown.append(f"{request.method} {request.path}")
            return 404, {"detail": "Not Found"}


def _zstd(data: bytes) -> bytes:
    """The bytes that `langsmith` compressed; its own dependency takes them apart."""
    from io import BytesIO

    import zstandard

    with zstandard.ZstdDecompressor().stream_reader(BytesIO(data), read_across_frames=True) as reader:
        return reader.read()


def _handler(server: LangSmithServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _answer(self) -> None:
            headers = {k.lower(): v for k, v in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", 0)))
            if headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            elif headers.get("content-encoding") == "zstd":
                body = _zstd(body)
            parts = urlsplit(self.path)
            path = re.sub(r"^(/api)?(/v1)?(/platform)?", "", parts.path) or "/"
            query = parse_qs(parts.query, keep_blank_values=True)
            status, value = server.handle(Request(self.command, path, query, headers, body))
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
