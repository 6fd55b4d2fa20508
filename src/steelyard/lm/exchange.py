"""One request and its answer: what is judged, counted, recorded, tried again or refused.

`httpx2` and `httpx` have the same classes under two names, so everything here takes the module as a value.
"""

from __future__ import annotations

import math
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any, Literal, Protocol

from steelyard.core.clock import monotonic
from steelyard.core.errors import CallFailed, Corrupt, ReplayMiss
from steelyard.core.results import Usage
from steelyard.core.score import Failure
from steelyard.lm.asking import most_input_tokens, read_request
from steelyard.lm.body import MAX_BODY, BodyRefused, decode
from steelyard.lm.budget import Reservation
from steelyard.lm.cost import price
from steelyard.lm.failures import failure_of, kind_of_status, refusal
from steelyard.lm.key import key_of_request
from steelyard.lm.limiter import Slot, limiter_of
from steelyard.lm.notes import noted, redirected, said
from steelyard.lm.policy import POLICY, Policy, is_retryable, is_throttle, retry_after
from steelyard.lm.scope import Call, Calls
from steelyard.lm.scrub import secrets_of
from steelyard.lm.server import identity_of, route
from steelyard.lm.steps import Enter, Reserve, Sleep, Step, Steps
from steelyard.lm.streams import tee
from steelyard.lm.tape import KEPT_HEADERS, Recording
from steelyard.lm.wire import Reply, is_model_call, read_reply

__all__ = ["MARK", "Exchange", "Request"]

MARK = "steelyard"
"""The response extension that holds the `Usage` of a completed call made in a scope."""

_DEFAULT = Policy()
_NOTHING_SENT = ("ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol")
_OF_THE_BODY = ("content-encoding", "content-length", "transfer-encoding")


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


class Exchange:
    """The state of one request, over all its attempts.

    Args:
        module: `httpx2` or `httpx`.
        calls: The scope, or None: then nothing is recorded or counted.
        request: The request, its body read.
    """

    def __init__(self, module: Any, calls: Calls | None, request: Request) -> None:
        self.module, self.calls, self.request = module, calls, request
        target = request.url.raw_path.decode("ascii", "replace")
        self.path = target.partition("?")[0]
        self.asked = f"{request.method} {self.path}"
        self.model_call = is_model_call(request.method, self.path)
        self.identity = identity_of(request.url.host)
        self.key = ""
        if calls is not None:
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
        self.deadline = calls.deadline if calls is not None else math.inf
        self.attempt, self.seconds, self.ended = 0, 0.0, False
        self._since, self._until = 0.0, math.inf
        self._slot: Slot | None = None
        self._reserved: Reservation | None = None

    # -- from a recording ------------------------------------------------------------------------------
    def recorded(self) -> Any | None:
        """The response that was recorded, or None where the request must go out.

        Raises:
            ReplayMiss, Corrupt: replay mode, and there is no sound recording.
        """
        calls = self.calls
        session = calls.session if calls is not None else None
        if calls is None or session is None:
            return None
        try:
            found = session.find(self.key, self.asked)
        except (ReplayMiss, Corrupt) as error:
            calls.give_back(self.base, self.n)
            calls.refuse(error, self.asked, self.key)
            raise
        if found is None:
            return None
        headers, body = dict(found.headers), found.body
        try:
            if self.model_call and (encoding := headers.pop("content-encoding", None)):
                body = decode(body, encoding)
        except BodyRefused as refused:
            error = Corrupt(session.tape.path(self.key), str(refused), do="Delete it and record again.")
            calls.give_back(self.base, self.n)
            calls.refuse(error, self.asked, self.key)
            raise error from None
        usage = found.usage + Usage(replayed=1) if found.usage is not None else None
        call = Call(asked=self.asked, source="recorded", key=self.key, usage=usage, status=found.status)
        calls.add(call)
        return self._built(found.status, headers, body, {MARK: usage})

    # -- sending ---------------------------------------------------------------------------------------
    def steps(self, send: Callable[[], Step]) -> Steps:
        """The course of the request: slot, money, attempt, wait, and the same again; returns the response."""
        if not self.model_call:
            return (yield from self._once(send))
        self._prepare()
        throttled = True
        while True:
            yield from self._admission()
            self.attempt += 1
            asked_s: float | None = None
            try:
                response, raw = yield send()
            except BaseException as error:
                failure = self._failure(error)
                again = isinstance(error, Exception) and failure.kind in ("timeout", "transport")
                throttled = False
                wait = self._wait(None, throttled=False) if again else None
                self._log(failure, wait)
                self._over(None if _was_sent(error) else 0)
                if wait is None:
                    self._give_back()
                    if isinstance(error, CallFailed):
                        raise refusal(error.kind, failure.message, status=error.status) from error
                    raise self._final(error, failure) from error
            else:
                status = int(response.status_code)
                if 200 <= status < 300:
                    return self._accept(response, raw)
                body = self._readable(response, raw)
                asked_s = retry_after(response.headers) if is_retryable(status) else None
                throttled = throttled and is_throttle(status)
                wait = self._wait(asked_s, throttled=throttled) if self._may_repeat(response, body) else None
                note = self._note(status, asked_s, wait)
                location = redirected(self.request.url, response) if 300 <= status < 400 else None
                note = location or note
                failure = Failure(
                    kind=kind_of_status(status),
                    message=f"status {status}: {said(body, self._secrets)}{note}",
                    status=status,
                )
                self._log(failure, wait)
                self._refused(failure, status, asked_s, wait)
                if wait is None:
                    self._give_back()
                    return self._refusal(response, body, note, redirect=location is not None)
            yield Sleep(wait)

    def _once(self, send: Callable[[], Step]) -> Steps:
        try:
            response, raw = yield send()
        except BaseException as error:
            self._log(self._failure(error), None)
            self._give_back()
            raise
        if raw is None:
            return self._streamed(response)
        usage = self.finish(response, raw, raw)
        headers = response.headers
        return self._built(response.status_code, headers, raw, {**response.extensions, MARK: usage})

    def _prepare(self) -> None:
        request = self.request
        policy: Policy = request.extensions.get(POLICY) or _DEFAULT
        if request.headers.get("x-stainless-retry-count", "0") != "0":
            policy = replace(policy, max_retries=0)  # another client's own retry, after we gave up
        self._policy = policy
        self._body = request.content
        self._model = read_request(self.path, self._body)
        self._secrets = secrets_of(request)
        self._credential = hash(self._secrets) or 1
        self._origin = f"{request.url.host}:{request.url.port or request.url.scheme}"
        request.headers["accept-encoding"] = "gzip, deflate"  # what can be decoded within bounds
        self._given: dict[str, float | None] = dict(request.extensions.get("timeout") or {})
        self._limiter = limiter_of(
            self._origin,
            self._model.model if self.identity is None else "",
            cap=policy.concurrency if self.identity is None else 1,
            adaptive=self.identity is None,
            ramp_s=policy.ramp_s,
        )

    def _admission(self) -> Steps:
        calls = self.calls
        nested = calls is not None and bool(calls.streams)
        try:
            if monotonic() < self.deadline > self._limiter.paused_until:
                if nested:  # who holds a stream would wait for himself
                    self._slot = self._limiter.beside(self._credential)
                else:
                    self._slot = yield Enter(self._limiter, self._credential, self.deadline)
            if self._slot is None or monotonic() >= self.deadline:
                raise self._too_late()
            session = calls.session if calls is not None else None
            if session is None:
                return
            if (stop := session.stopped(*self._providers())) is not None:
                what = f"not sent, because {self._origin} refused the credential before: {stop.message}"
                raise refusal("auth", what, status=stop.status)
            if session.budget is not None:
                tokens, usd = self._estimate(session.budget.max_cost_usd is not None)
                self._reserved = yield Reserve(session.budget, tokens, usd, self.deadline, not nested)
        except BaseException as error:
            self._limiter.left(self._slot)
            self._slot = None
            self._give_back()
            self._log(self._failure(error), None, source="refused")
            if isinstance(error, CallFailed):
                raise refusal(error.kind, error.what, status=error.status) from None
            raise

    def _too_late(self) -> CallFailed:
        now, until = monotonic(), self._limiter.paused_until
        if until >= self.deadline:
            left = f"and the row has {max(0.0, self.deadline - now):.1f} s left"
            return refusal(
                "rate_limit",
                f"not sent: the provider asks everybody to wait {until - now:.1f} s more, {left}",
            )
        return refusal("timeout", "the row's time was over before this call could be made")

    def _estimate(self, priced: bool) -> tuple[int, float]:
        given, made = most_input_tokens(self._body), self._model.output_tokens
        if not priced:
            return given + made, 0.0
        usd = self._cost(self._model.model, given, made, 0)
        if usd is None:
            raise CallFailed(
                "budget",
                f"the price of the model {self._model.model!r} at {self.request.url.host} is unknown, so "
                "max_cost_usd cannot be kept; cap the run with max_tokens_total instead",
            )
        return given + made, usd

    def _providers(self) -> tuple[object, ...]:
        if self.identity is not None:
            return ()
        return (self._origin, self._credential), (self._origin, self._credential, self._model.model)

    # -- the clock -------------------------------------------------------------------------------------
    def clip(self) -> None:
        """Give the next attempt the time that is left, at most."""
        if not self.model_call:
            return
        now = monotonic()
        longest = self._policy.timeout_s
        self._until = min(self.deadline, now + longest if longest is not None else math.inf)
        left = self._until - now
        if left < math.inf:
            names = ("connect", "read", "write", "pool")
            limits = {k: min(left, math.inf if (v := self._given.get(k)) is None else v) for k in names}
            self.request.extensions = {**self.request.extensions, "timeout": limits}

    def start(self) -> None:
        """The attempt goes out now."""
        if self.calls is not None and self.calls.session is not None:
            self.calls.session.count("live")
        self.seconds, self._since = 0.0, monotonic()

    def streams(self, response: Any) -> bool:
        """Whether the caller gets the body piece by piece; ends the time to the response's head."""
        self.seconds += monotonic() - self._since
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        return kind in ("text/event-stream", "application/x-ndjson") and response.status_code < 300

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
            size = self._bounded(size + len(part))
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
            size = self._bounded(size + len(part))
            yield part

    def _bounded(self, size: int) -> int:
        if self.model_call:
            if size > MAX_BODY:
                raise refusal("provider", f"the provider's answer is larger than {MAX_BODY // 2**20} MB")
            if monotonic() > self._until:
                raise self.module.ReadTimeout("the answer took too long", request=self.request)
        return size

    # -- an answer -------------------------------------------------------------------------------------
    def _accept(self, response: Any, raw: bytes | None) -> Any:
        self._limiter.confirm(self._slot)
        if raw is None:
            return self._streamed(response)
        headers = {k: response.headers[k] for k in KEPT_HEADERS if k in response.headers}
        try:
            body = decode(raw, headers.get("content-encoding"))
        except BodyRefused as error:
            problem = f"the provider's answer cannot be read: {error}"
            self.settle(Reply(problem=problem))
            failure = self._fail(problem, int(response.status_code), None)
            raise refusal("provider", failure.message, status=failure.status) from None
        usage = self.finish(response, raw, body)
        if usage is None:
            assert self._problem is not None
            raise refusal("provider", self._problem.message, status=self._problem.status)
        extensions = {**response.extensions, MARK: usage} if self.calls is not None else response.extensions
        kept = [(k, v) for k, v in response.headers.multi_items() if k.lower() not in _OF_THE_BODY]
        return self._built(response.status_code, kept, body, extensions)

    _problem: Failure | None = None

    def finish(self, response: Any, raw: bytes, body: bytes) -> Usage | None:
        """The usage of a whole answer; logged, and recorded where it is a full success."""
        self.ended = True
        status, calls = int(response.status_code), self.calls
        if not 200 <= status < 300:  # of something that is no model
            text = said(raw, secrets_of(self.request))
            failure = Failure(kind=kind_of_status(status), message=f"status {status}: {text}", status=status)
            self._log(failure, None)
            self._give_back()
            return None
        headers = {k: response.headers[k] for k in KEPT_HEADERS if k in response.headers}
        usage, about = None, {"method": self.request.method, "path": self.path}
        if self.model_call:
            reply = read_reply(self.path, headers.get("content-type", ""), body)
            cost = self._cost(reply.model, reply.input_tokens, reply.output_tokens, reply.cached_tokens)
            usage = Usage(
                calls=0 if reply.problem else 1,
                input_tokens=reply.input_tokens,
                output_tokens=reply.output_tokens,
                cost_usd=cost if reply.counted else (0.0 if self.identity else None),
                latency_s=self.seconds,
            )
            self.settle(reply, usage.cost_usd)
            if reply.problem is not None:
                self._fail(reply.problem, status, usage if reply.counted else None)
                return None
            about["model"] = reply.model or ""
        if calls is not None:
            call = Call(asked=self.asked, source="live", key=self.key, usage=usage, status=status)
            calls.add(replace(call, attempt=max(self.attempt, 1)))
            if calls.session is not None:
                found = Recording(
                    key=self.key, status=status, headers=headers, body=raw, usage=usage, about=about
                )
                secrets = self._secrets if self.model_call else secrets_of(self.request)
                calls.session.keep(found, private=any(s.encode() in body for s in secrets))
        return usage

    def settle(self, reply: Reply, usd: float | None = None) -> None:
        """Free the slot and settle the budget with what an answer used."""
        if self.model_call:
            self._limiter.succeeded(self._slot)
            self._slot = None
            tokens = reply.input_tokens + reply.output_tokens if reply.counted else None
            self._pay(tokens, usd if reply.counted else None)

    def _fail(self, problem: str, status: int, consumed: Usage | None) -> Failure:
        text = said(problem.encode("utf-8", "replace"), self._secrets, most=500)
        self._problem = Failure(kind="provider", message=text, status=status)
        self._log(self._problem, None, consumed=consumed)
        self._give_back()
        return self._problem

    # -- a stream --------------------------------------------------------------------------------------
    def _streamed(self, response: Any) -> Any:
        if self.calls is None:
            self._over(0, good=True)  # nobody tells when a stream outside of a scope is forgotten
        elif self.model_call:
            self.calls.streams.add(self)
        headers = [(k, v) for k, v in response.headers.raw if k.decode("latin-1").lower() not in _OF_THE_BODY]
        stream = tee(self.module, self, response)
        return self.module.Response(
            response.status_code, headers=headers, stream=stream, extensions=response.extensions
        )

    def stream_broke(self, error: BaseException) -> None:
        """The transport, or the caller's clock, ended a stream."""
        if not self.ended:
            self.ended = True
            self._log(self._failure(error), None)
            self._give_back()
        self.abandon()

    def stream_ended(self, response: Any, raw: bytes, body: bytes) -> CallFailed | None:
        """Judge and record a stream; an error to raise where it is no whole answer."""
        if self.ended or self.finish(response, raw, body) is not None or not self.model_call:
            self.abandon()
            return None
        self.abandon()
        assert self._problem is not None
        # A stream that ends early looks like a short answer to most clients; it must not become a row.
        return refusal("provider", self._problem.message, status=self._problem.status)

    def stream_problem(self, response: Any, body: bytes) -> bool:
        """Whether what came so far, to its end mark, is no whole answer."""
        kind = response.headers.get("content-type", "")
        return self.model_call and read_reply(self.path, kind, body).problem is not None

    def stream_closed(self, response: Any, raw: bytes, body: bytes) -> None:
        """The caller closed a stream: whole if the answer had ended (`[DONE]` comes before the last byte)."""
        if not self.ended:
            if not self.stream_problem(response, body):
                self.finish(response, raw, body)
            else:
                self.ended = True
                what = "the caller closed the stream before its end"
                self._log(Failure(kind="cancelled", message=what), None)
                self._give_back()
        self.abandon()

    def abandon(self) -> None:
        """Free the slot and what is reserved, if that was not done yet."""
        if self.calls is not None:
            self.calls.streams.discard(self)
        if self.model_call:
            self._over(None)

    # -- failures --------------------------------------------------------------------------------------
    def _failure(self, error: BaseException) -> Failure:
        failure = failure_of(error)
        if failure is None:
            words = str(error) or type(error).__name__
            failure = Failure(kind="transport" if isinstance(error, OSError) else "cancelled", message=words)
        server = route(self.request.url.host)
        if server is not None and failure.kind == "timeout" and self._slot is not None:
            server.after_timeout()  # a local server that hangs is ended
        return failure

    def _final(self, error: BaseException, failure: Failure) -> BaseException:
        openai = sys.modules.get("openai")
        if openai is None or "OpenAI/" not in self.request.headers.get("user-agent", ""):
            return error
        # As that package's own error it is not tried again by the package.
        if failure.kind == "timeout":
            return openai.APITimeoutError(request=self.request)
        return openai.APIConnectionError(request=self.request) if isinstance(error, Exception) else error

    def _may_repeat(self, response: Any, body: bytes) -> bool:
        if not is_retryable(int(response.status_code)) or response.headers.get("x-should-retry") == "false":
            return False
        return b"insufficient_quota" not in body  # a 429 that no waiting mends

    def _wait(self, asked_s: float | None, *, throttled: bool) -> float | None:
        left = self.deadline - monotonic()
        return self._policy.wait(self.attempt, asked_s=asked_s, throttled=throttled, left_s=left)

    def _note(self, status: int, asked_s: float | None, wait: float | None) -> str:
        if wait is not None or not is_retryable(status):
            return ""
        left = max(0.0, self.deadline - monotonic())
        if asked_s is not None and self.attempt <= self._policy.max_retries:
            limit = f"the row has {left:.1f} s left" if left < math.inf else "that is too long"
            return f" (not tried again: the provider asks to wait {asked_s:g} s and {limit})"
        return f" (after {self.attempt} attempts)" if self.attempt > 1 else ""

    def _refused(self, failure: Failure, status: int, asked_s: float | None, wait: float | None) -> None:
        session = self.calls.session if self.calls is not None else None
        slot, self._slot = self._slot, None
        if is_throttle(status):
            pause = self._policy.jittered(asked_s) if asked_s is not None else None
            if pause is None and status == 429:  # a 503 without a time may speak for one machine of many
                pause = wait
            self._limiter.throttled(slot, min(pause or 0.0, self._policy.longest_asked_s))
        else:
            if status in (401, 403):
                self._limiter.doubt(slot)
                if session is not None and (providers := self._providers()):
                    session.stop(providers[0] if status == 401 else providers[1], failure)
            elif status < 500:
                self._limiter.confirm(slot)
            self._limiter.left(slot)
        self._pay(0, 0.0)

    def _refusal(self, response: Any, body: bytes, note: str, *, redirect: bool) -> Any:
        dropped = {*_OF_THE_BODY, *(("location",) if redirect else ())}
        headers = [(k, v) for k, v in response.headers.multi_items() if k.lower() not in dropped]
        headers = [*(h for h in headers if h[0].lower() != "x-should-retry"), ("x-should-retry", "false")]
        shown = noted(body, note, self._secrets)
        return self._built(response.status_code, headers, shown, response.extensions)

    def _readable(self, response: Any, raw: bytes | None) -> bytes:
        try:
            return decode(raw or b"", response.headers.get("content-encoding"))
        except BodyRefused as error:
            return f"the answer cannot be read: {error}".encode()

    # -- books -----------------------------------------------------------------------------------------
    def _over(self, tokens: int | None, *, good: bool = False) -> None:
        """The attempt is over: free its slot, and settle with the tokens it used (None: nobody knows)."""
        slot, self._slot = self._slot, None
        if good:
            self._limiter.confirm(slot)
            self._limiter.succeeded(slot)
        elif self._timed_out:
            self._limiter.throttled(slot)
        else:
            self._limiter.left(slot)
        self._pay(tokens, 0.0 if tokens == 0 else None)

    _timed_out = False

    def _pay(self, tokens: int | None, usd: float | None) -> None:
        reserved, self._reserved = self._reserved, None
        if reserved is not None and self.calls is not None and self.calls.session is not None:
            assert self.calls.session.budget is not None
            self.calls.session.budget.settle(reserved, tokens, usd)

    def _give_back(self) -> None:
        if self.calls is not None:
            self.calls.give_back(self.base, self.n)

    def _log(
        self,
        failure: Failure,
        wait: float | None,
        *,
        source: Literal["live", "refused"] = "live",
        consumed: Usage | None = None,
    ) -> None:
        self._timed_out = failure.kind == "timeout"
        if self.calls is not None:
            call = Call(
                asked=self.asked,
                source=source,
                key=self.key,
                failure=failure,
                status=failure.status,
                attempt=max(self.attempt, 1),
                retry_in_s=wait,
            )
            self.calls.add(call, consumed)

    def _cost(self, model: str | None, given: int, made: int, cached: int) -> float | None:
        if self.identity is not None:
            return 0.0
        url = str(self.request.url)
        return price(model, url=url, input_tokens=given, output_tokens=made, cached_tokens=cached)

    def _built(self, status: int, headers: Any, body: bytes, extensions: Any) -> Any:
        return self.module.Response(
            status, headers=headers, stream=self.module.ByteStream(body), extensions=extensions
        )


def _was_sent(error: BaseException) -> bool:
    return type(error).__name__ not in _NOTHING_SENT
