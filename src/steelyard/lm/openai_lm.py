"""An OpenAI-compatible endpoint as an `LM`, through the `openai` package."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit, urlunsplit

from steelyard.core.canonical import digest
from steelyard.core.chat import ChatRequest, Completion
from steelyard.core.clock import monotonic
from steelyard.core.errors import CallFailed, InvalidValue, MissingExtra
from steelyard.core.results import Usage
from steelyard.lm.cost import price
from steelyard.lm.exchange import MARK
from steelyard.lm.failures import call_failed
from steelyard.lm.policy import MAX_RETRIES, Policy
from steelyard.lm.wire import Reply, read_reply

if TYPE_CHECKING:
    import openai

__all__ = ["MAX_RETRIES", "OpenAILM"]

_PATH = "/chat/completions"


class OpenAILM:
    """A chat model behind an OpenAI-compatible endpoint.

    Args:
        model: The model's name, used where a request names none.
        base_url: Address ending in `/v1`; OpenAI's own if left out.
        api_key: The key; never written anywhere, never part of the identity.
        timeout_s: Seconds for one attempt.
        max_retries: Attempts after the first, at most 5; `Retry-After` is honoured.
        concurrency: Most calls at once.
        policy: Waits and retries in detail; its `max_retries`, `timeout_s` and `concurrency` are those above.
    """

    _local = False

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = 60.0,
        max_retries: int = MAX_RETRIES,
        concurrency: int = 8,
        policy: Policy | None = None,
    ) -> None:
        self._policy = replace(
            policy or Policy(), max_retries=max_retries, timeout_s=timeout_s, concurrency=concurrency
        )
        if not model:
            raise InvalidValue(
                "an endpoint needs a model's name", do="Write openai:MODEL, as in openai:gpt-5-mini."
            )
        self.name = model
        self.digest = digest({"api": "openai", "model": model})
        self.concurrency = concurrency
        base_url, headers = _without_userinfo(base_url)
        # Retries are the transport's: one policy for every client, and each attempt in the log.
        self._options: dict[str, Any] = {"base_url": base_url, "timeout": timeout_s, "max_retries": 0}
        self._options |= {"default_headers": headers} if headers else {}
        self._key = api_key
        self._sync: openai.OpenAI | None = None
        self._of_loops: dict[asyncio.AbstractEventLoop, _Held] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def openai_client(self) -> openai.OpenAI:
        """The `openai.OpenAI` client that calls go through, for tasks that want the package itself."""
        with self._lock:
            client = self._sync
            if client is None:
                module = _openai()
                with _as_call_failed():
                    from steelyard.lm.clients import sync_client

                    http = sync_client(self._policy, self._options["timeout"], local=self._local)
                    client = module.OpenAI(api_key=self._key, http_client=http, **self._options)
                self._sync = client
            return client

    def async_openai_client(self) -> openai.AsyncOpenAI:
        """A new `openai.AsyncOpenAI` client; a client belongs to one event loop, so close it there."""
        module = _openai()
        with _as_call_failed():
            from steelyard.lm.clients import async_client

            http = async_client(self._policy, self._options["timeout"], local=self._local)
            return module.AsyncOpenAI(api_key=self._key, http_client=http, **self._options)

    def complete(self, request: ChatRequest) -> Completion:
        """The completion of a request.

        Raises:
            CallFailed: no usable completion, with its kind. ReplayMiss: replay mode and no recording.
        """
        arguments, client = self._arguments(request), self.openai_client()
        since = monotonic()
        with _as_call_failed():
            raw = client.chat.completions.with_raw_response.create(**arguments)
            return self._completion(raw.http_response, monotonic() - since)

    async def acomplete(self, request: ChatRequest) -> Completion:
        """`complete`, awaited."""
        arguments = self._arguments(request)
        async with self._client_of_this_loop() as client:
            since = monotonic()
            with _as_call_failed():
                raw = await client.chat.completions.with_raw_response.create(**arguments)
                return self._completion(raw.http_response, monotonic() - since)

    @asynccontextmanager
    async def _client_of_this_loop(self) -> AsyncGenerator[openai.AsyncOpenAI]:
        """One client for the calls that are under way in this loop; the last one closes it."""
        loop = asyncio.get_running_loop()
        held = self._of_loops.get(loop)
        if held is None:
            held = self._of_loops[loop] = _Held(self.async_openai_client())
        held.calls += 1
        try:
            yield held.client
        finally:
            held.calls -= 1
            if held.calls == 0:
                del self._of_loops[loop]
                await held.client.close()

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        with self._lock:
            client, self._sync = self._sync, None
        if client is not None:
            client.close()

    def _arguments(self, request: ChatRequest) -> dict[str, Any]:
        arguments = {"model": self.name, **request.to_openai()}
        if arguments.get("stream"):
            raise InvalidValue(
                "a prompt asks for stream: true, and a completion comes whole",
                do="Leave it out, or stream with openai_client() inside the task.",
            )
        known = _known_arguments()
        if extra := {k: arguments.pop(k) for k in list(arguments) if k not in known}:
            # Parameters of other servers (grammar, top_k) go into the body as they are.
            given: Any = arguments.get("extra_body") or {}
            if not isinstance(given, dict):
                raise InvalidValue(f"extra_body = {given!r} is no object", do="Give names and their values.")
            arguments["extra_body"] = {**cast("dict[str, Any]", given), **extra}
        return arguments

    def _completion(self, response: Any, seconds: float) -> Completion:
        reply = read_reply(_PATH, response.headers.get("content-type", ""), response.content)
        if reply.problem is not None or reply.data is None:
            what = reply.problem or "the provider answered with a stream to a request for a whole answer"
            raise CallFailed("provider", what, status=response.status_code, retryable=True)
        choice = reply.data["choices"][0]
        message = choice["message"]
        usage = response.extensions.get(MARK)
        if usage is None:
            usage = Usage(
                calls=1,
                input_tokens=reply.input_tokens,
                output_tokens=reply.output_tokens,
                cost_usd=self._cost(reply, str(response.request.url)),
                latency_s=seconds,
            )
        return Completion(
            text=message.get("content") or message.get("refusal") or "",
            tool_calls=tuple(message.get("tool_calls") or ()),
            finish_reason=choice.get("finish_reason"),
            model=reply.model,
            usage=usage,
        )

    def _cost(self, reply: Reply, url: str) -> float | None:
        if not reply.counted:
            return None
        return price(
            reply.model,
            url=url,
            input_tokens=reply.input_tokens,
            output_tokens=reply.output_tokens,
            cached_tokens=reply.cached_tokens,
        )


@dataclass(slots=True)
class _Held:
    client: openai.AsyncOpenAI
    calls: int = 0


def _without_userinfo(url: str | None) -> tuple[str | None, dict[str, str]]:
    """The address without `user:password@`, which logs would show, and the header that says the same."""
    if url is None or "@" not in url:
        return url, {}
    parts = urlsplit(url)
    userinfo, at, place = parts.netloc.rpartition("@")
    if not at:
        return url, {}
    basic = base64.b64encode(unquote(userinfo).encode()).decode()
    return urlunsplit(parts._replace(netloc=place)), {"Authorization": f"Basic {basic}"}


def _openai() -> Any:
    if find_spec("openai") is None:
        raise MissingExtra("openai", extra="evals", needed_for="A language model")
    import openai

    return openai


_KNOWN: list[frozenset[str]] = []


def _known_arguments() -> frozenset[str]:
    if not _KNOWN:
        import inspect

        from openai.resources.chat.completions import Completions

        _KNOWN.append(frozenset(inspect.signature(Completions.create).parameters) - {"self"})
    return _KNOWN[0]


class _as_call_failed:
    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, CallFailed):
            from steelyard.core.errors import SteelyardError

            if not isinstance(error, SteelyardError) and (failed := call_failed(error)) is not None:
                raise failed from error
