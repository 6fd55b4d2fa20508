"""Clients of our own models: their calls keep to the policy, outside of a scope too."""

from __future__ import annotations

import ssl
from functools import cache
from typing import Any

import httpx2

from steelyard.lm.policy import POLICY, Policy
from steelyard.lm.scope import current
from steelyard.lm.transport import exchange, exchange_async

__all__ = ["async_client", "sync_client"]

_LIMITS = httpx2.Limits(max_connections=1000, max_keepalive_connections=100)  # what the openai package takes


@cache
def _authorities() -> ssl.SSLContext:
    # Reading the authorities takes 18 ms of CPU, and an asynchronous client is made for every event loop.
    return httpx2.create_ssl_context()


class _Client(httpx2.Client):
    policy: Policy

    def send(self, request: httpx2.Request, *, stream: bool = False, **more: Any) -> httpx2.Response:
        request.extensions[POLICY] = self.policy
        if current() is not None:  # the hook beneath does it, after it has looked for a recording
            return super().send(request, stream=stream, **more)
        super_send = super().send
        response = exchange(httpx2, lambda r: super_send(r, stream=True, **more), request)
        response.request = request
        if not stream:
            response.read()
        return response


class _AsyncClient(httpx2.AsyncClient):
    policy: Policy

    async def send(self, request: httpx2.Request, *, stream: bool = False, **more: Any) -> httpx2.Response:
        request.extensions[POLICY] = self.policy
        if current() is not None:
            return await super().send(request, stream=stream, **more)
        super_send = super().send
        response = await exchange_async(httpx2, lambda r: super_send(r, stream=True, **more), request)
        response.request = request
        if not stream:
            await response.aread()
        return response


def sync_client(policy: Policy, timeout_s: float, *, local: bool) -> httpx2.Client:
    """A client for one model.

    Args:
        policy: How its calls are treated.
        timeout_s: Seconds for each wait on the wire.
        local: A model on this machine: no proxy of the environment stands in between.
    """
    client = _Client(**_options(timeout_s, local=local))
    client.policy = policy
    return client


def async_client(policy: Policy, timeout_s: float, *, local: bool) -> httpx2.AsyncClient:
    """`sync_client`, asynchronous."""
    client = _AsyncClient(**_options(timeout_s, local=local))
    client.policy = policy
    return client


def _options(timeout_s: float, *, local: bool) -> dict[str, Any]:
    return {
        "timeout": timeout_s,
        "limits": _LIMITS,
        "verify": _authorities(),
        "trust_env": not local,
        "follow_redirects": False,
    }
