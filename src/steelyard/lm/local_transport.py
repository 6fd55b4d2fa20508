"""Clients for local models: they reach the running server outside of a scope too."""

from __future__ import annotations

import httpx2

from steelyard.lm.scope import current
from steelyard.lm.server import route
from steelyard.lm.transport import exchange, exchange_async

__all__ = ["async_client", "sync_client"]


class _Transport(httpx2.HTTPTransport):
    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if current() is not None:  # the hook beneath routes it, after it has looked for a recording
            return super().handle_request(request)
        try:
            return exchange(httpx2, super().handle_request, request)
        except httpx2.TimeoutException:
            _after_timeout(request)
            raise


class _AsyncTransport(httpx2.AsyncHTTPTransport):
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if current() is not None:
            return await super().handle_async_request(request)
        try:
            return await exchange_async(httpx2, super().handle_async_request, request)
        except httpx2.TimeoutException:
            _after_timeout(request)
            raise


def sync_client(timeout_s: float) -> httpx2.Client:
    """A client that finds local models; no proxy of the environment stands in between."""
    return httpx2.Client(transport=_Transport(trust_env=False), timeout=timeout_s, trust_env=False)


def async_client(timeout_s: float) -> httpx2.AsyncClient:
    """`sync_client`, asynchronous."""
    return httpx2.AsyncClient(transport=_AsyncTransport(trust_env=False), timeout=timeout_s, trust_env=False)


def _after_timeout(request: httpx2.Request) -> None:
    if (server := route(request.url.host)) is not None:
        server.after_timeout()
