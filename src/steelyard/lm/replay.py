"""Record and replay: beneath every client that stands on httpx, only while a session or scope is open."""

from __future__ import annotations

import importlib
import socket
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from steelyard.core.errors import ReplayMiss
from steelyard.lm.budget import Budget
from steelyard.lm.scope import Calls, Session, current, open_scope, open_session

__all__ = ["call_scope", "replaying"]


@contextmanager
def replaying(folder: Path, mode: str = "auto", *, budget: Budget | None = None) -> Generator[Session]:
    """A session: requests made in its scopes are answered from recordings, or recorded.

    Args:
        folder: Where the recordings lie.
        mode: `auto`: what is recorded is replayed, the rest goes out and is recorded. `live`: everything goes
            out and is recorded. `replay`: nothing goes out; a request without a recording raises
            `ReplayMiss`, a damaged one `Corrupt`, and any other connection of a scope is refused at the
            socket.
        budget: What the calls that go out may spend; recorded answers cost nothing.

    Threads see the session if they run in a copy of the context (`contextvars.copy_context().run`).
    """
    with _hooked(block_sockets=mode == "replay"), open_session(Path(folder), mode, budget) as session:
        yield session


@contextmanager
def call_scope(example_id: str, trial: int = 0, *, timeout_s: float | None = None) -> Generator[Calls]:
    """The calls of one trial of one example: usage, failures and log of what runs inside.

    Args:
        example_id: The example.
        trial: 0-based repetition.
        timeout_s: Seconds from now after which no call waits, retries or runs any more; None: no such end.

    Outside of a session it only counts. The key of a request holds the trial and how many identical requests
    came before it in this scope, not the example: two examples that ask the same share an answer at one
    trial.

    Raises:
        ReplayMiss, Corrupt: at its end, when a request was refused, even if the code inside caught that.
    """
    with _hooked(block_sockets=False), open_scope(example_id, trial, timeout_s) as calls:
        yield calls


_LOCK = threading.RLock()
_uses = {"http": 0, "sockets": 0}
_undo: dict[str, list[Callable[[], None]]] = {"http": [], "sockets": []}


@contextmanager
def _hooked(*, block_sockets: bool) -> Generator[None]:
    wanted = ("http", "sockets") if block_sockets else ("http",)
    with _LOCK:
        for kind in wanted:
            _uses[kind] += 1
            if _uses[kind] == 1:
                _undo[kind] = _hook_http() if kind == "http" else _hook_sockets()
    try:
        yield
    finally:
        with _LOCK:
            for kind in wanted:
                _uses[kind] -= 1
                if _uses[kind] == 0:
                    for undo in reversed(_undo[kind]):
                        undo()
                    _undo[kind] = []


def _hook_http() -> list[Callable[[], None]]:
    from steelyard.lm.transport import exchange, exchange_async

    undo: list[Callable[[], None]] = []
    for name in ("httpx2", "httpx"):
        if find_spec(name) is None:
            continue
        module = importlib.import_module(name)
        undo.append(_replace(module.HTTPTransport, "handle_request", _sync(module, exchange)))
        undo.append(
            _replace(module.AsyncHTTPTransport, "handle_async_request", _async(module, exchange_async))
        )
        if name == "httpx2" and "requests" in sys.modules:
            from steelyard.lm.requests_bridge import around_send

            adapter = importlib.import_module("requests.adapters").HTTPAdapter
            undo.append(_replace(adapter, "send", around_send(module, exchange)))
    return undo


def _sync(module: Any, exchange: Any) -> Callable[[Any], Any]:
    def around(original: Any) -> Any:
        def handle_request(self: Any, request: Any) -> Any:
            return exchange(module, partial(original, self), request)

        return handle_request

    return around


def _async(module: Any, exchange_async: Any) -> Callable[[Any], Any]:
    def around(original: Any) -> Any:
        async def handle_async_request(self: Any, request: Any) -> Any:
            return await exchange_async(module, partial(original, self), request)

        return handle_async_request

    return around


def _hook_sockets() -> list[Callable[[], None]]:
    """Refuse connections of a replayed scope that no hooked transport saw (requests, aiohttp, drivers)."""

    def around(original: Any) -> Any:
        def connect(self: socket.socket, address: Any) -> Any:
            calls = current()
            remote = self.family in (socket.AF_INET, socket.AF_INET6)
            if remote and calls is not None and calls.session is not None and calls.session.mode == "replay":
                asked = f"a connection to {address[0]}:{address[1]}"
                error = ReplayMiss(asked, key="connection", folder=calls.session.tape.folder)
                calls.refuse(error, asked, "")
                self.close()  # the caller, who expects an OSError here, would leave it open
                raise error
            return original(self, address)

        return connect

    return [_replace(socket.socket, name, around) for name in ("connect", "connect_ex")]


def _replace(owner: type, name: str, around: Callable[[Any], Any]) -> Callable[[], None]:
    own = name in vars(owner)
    original = getattr(owner, name)
    ours = around(original)
    setattr(owner, name, ours)

    def undo() -> None:
        if vars(owner).get(name) is not ours:
            return  # someone else stands on ours now; it does nothing outside of a scope
        if own:
            setattr(owner, name, original)
        else:
            delattr(owner, name)

    return undo
