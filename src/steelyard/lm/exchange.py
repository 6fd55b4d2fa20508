"""One request and its answer: what is judged, counted, recorded, tried again or refused.

`httpx2` and `httpx` have the same classes under two names, so everything here takes the module as a value.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from steelyard.core.errors import CallFailed, Corrupt, ReplayMiss
from steelyard.core.results import Usage
from steelyard.core.score import Failure
from steelyard.lm.body import BodyRefused, decode
from steelyard.lm.failures import failure_of, kind_of_status, refusal
from steelyard.lm.key import key_of_request
from steelyard.lm.notes import noted, redirected, said
from steelyard.lm.passage import Passage
from steelyard.lm.policy import is_retryable, is_throttle, retry_after
from steelyard.lm.scope import Call, Calls
from steelyard.lm.scrub import scrub, secrets_of
from steelyard.lm.server import identity_of, route
from steelyard.lm.steps import Sleep, Step, Steps
from steelyard.lm.stopwatch import Request, Stopwatch
from steelyard.lm.streams import tee
from steelyard.lm.tape import KEPT_HEADERS, Recording
from steelyard.lm.wire import Reply, is_model_call, read_reply

__all__ = ["MARK", "Exchange"]

MARK = "steelyard"
"""The response extension that holds the `Usage` of a completed call made in a scope."""

_NOTHING_SENT = ("ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol")
_OF_THE_BODY = ("content-encoding", "content-length", "transfer-encoding")


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
        self.watch = Stopwatch(module, request, bounded=self.model_call)
        self.ended = False
        self._way: Passage | None = None
        self._problem: Failure | None = None

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
            found = session.find(self.key, self.asked, self._problem_of if self.model_call else None)
        except (ReplayMiss, Corrupt) as error:
            calls.give_back(self.base, self.n)
            calls.refuse(error, self.asked, self.key)
            raise
        if found is None:
            return None
        headers, body = dict(found.headers), found.body
        if self.model_call and (encoding := headers.pop("content-encoding", None)):
            body = decode(body, encoding)
        usage = found.usage + Usage(replayed=1) if found.usage is not None else None
        call = Call(asked=self.asked, source="recorded", key=self.key, usage=usage, status=found.status)
        calls.add(call)
        return self._built(found.status, headers, body, {MARK: usage})

    def _problem_of(self, found: Recording) -> str | None:
        # A checksum keeps accidents out, not what other people put in: a recording is judged like an answer.
        try:
            body = decode(found.body, found.headers.get("content-encoding"))
        except BodyRefused as error:
            return f"its body cannot be read: {error}"
        return read_reply(self.path, found.headers.get("content-type", ""), body).problem

    # -- sending ---------------------------------------------------------------------------------------
    def steps(self, send: Callable[[], Step]) -> Steps:
        """The course of the request: slot, money, attempt, wait, and the same again; returns the response."""
        if not self.model_call:
            return (yield from self._once(send))
        way = self._way = Passage(self.request, self.path, self.identity, self.calls)
        throttled = True
        while True:
            try:
                yield from way.admission()
            except BaseException as error:
                self._give_back()
                self._log(self._failure(error), source="refused")
                if isinstance(error, CallFailed):
                    raise refusal(error.kind, error.what, status=error.status) from None
                raise
            try:
                response, raw = yield send()
            except BaseException as error:
                throttled = False
                wait = self._attempt_failed(way, error)
            else:
                status = int(response.status_code)
                if 200 <= status < 300:
                    way.confirm()
                    return self._streamed(response) if raw is None else self._accept(response, raw)
                throttled = throttled and is_throttle(status)
                wait, refused = self._attempt_refused(way, response, raw or b"", throttled=throttled)
                if refused is not None:
                    return refused
            yield Sleep(wait)

    def _once(self, send: Callable[[], Step]) -> Steps:
        try:
            response, raw = yield send()
        except BaseException as error:
            self._log(self._failure(error))
            self._give_back()
            raise
        if raw is None:
            return self._streamed(response)
        usage = self.finish(response, raw, raw)
        return self._built(response.status_code, response.headers, raw, {**response.extensions, MARK: usage})

    def _attempt_failed(self, way: Passage, error: BaseException) -> float:
        """Seconds before the next attempt; raises where there is none."""
        failure = self._failure(error, sent=True)
        again = isinstance(error, Exception) and failure.kind in ("timeout", "transport")
        wait = way.wait() if again else None
        self._log(failure, wait)
        used = None if type(error).__name__ not in _NOTHING_SENT else 0
        way.over(used, timed_out=failure.kind == "timeout")
        if wait is not None:
            return wait
        self._give_back()
        if isinstance(error, CallFailed):
            raise refusal(error.kind, failure.message, status=error.status) from error
        openai = sys.modules.get("openai")
        ours = "OpenAI/" in self.request.headers.get("user-agent", "") and isinstance(error, Exception)
        if openai is None or not ours:
            raise error
        # As that package's own error it is not tried again by the package.
        kind = openai.APITimeoutError if failure.kind == "timeout" else openai.APIConnectionError
        raise kind(request=self.request) from error

    def _attempt_refused(
        self, way: Passage, response: Any, raw: bytes, *, throttled: bool
    ) -> tuple[float, Any | None]:
        """Seconds before the next attempt, or the response to give up with."""
        status = int(response.status_code)
        try:
            body = decode(raw, response.headers.get("content-encoding"))
        except BodyRefused as error:
            body = f"the answer cannot be read: {error}".encode()
        repeatable = is_retryable(status) and response.headers.get("x-should-retry") != "false"
        repeatable = repeatable and b"insufficient_quota" not in body  # a 429 that no waiting mends
        asked_s = retry_after(response.headers) if repeatable else None
        wait = way.wait(asked_s, throttled=throttled) if repeatable else None
        elsewhere = redirected(self.request.url, response, follows=way.follows) if status < 400 else None
        note = elsewhere or way.note(status, asked_s, wait)
        text = f"status {status}: {said(body, way.secrets)}{note}"
        failure = Failure(kind=kind_of_status(status), message=text, status=status)
        self._log(failure, wait)
        way.refused(failure, status, asked_s, wait)
        if wait is not None:
            return wait, None
        self._give_back()
        dropped = {*_OF_THE_BODY, "x-should-retry", *(("location",) if elsewhere else ())}
        headers = [(k, v) for k, v in response.headers.multi_items() if k.lower() not in dropped]
        headers.append(("x-should-retry", "false"))  # the openai package then tries no more
        return 0.0, self._built(status, headers, noted(body, note, way.secrets), response.extensions)

    # -- for the sender --------------------------------------------------------------------------------
    def clip(self) -> None:
        """Give the next attempt the time that is left, at most."""
        if self._way is not None:
            self._way.clip()
            self.watch.until = self._way.until

    def start(self) -> None:
        """The attempt goes out now."""
        if self.calls is not None and self.calls.session is not None:
            self.calls.session.count("live")
        self.watch.start()

    def streams(self, response: Any) -> bool:
        """Whether the caller gets the body piece by piece; ends the time to the response's head."""
        self.watch.lap()
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        return kind in ("text/event-stream", "application/x-ndjson") and response.status_code < 300

    # -- an answer -------------------------------------------------------------------------------------
    def _accept(self, response: Any, raw: bytes) -> Any:
        headers = {k: response.headers[k] for k in KEPT_HEADERS if k in response.headers}
        try:
            body = decode(raw, headers.get("content-encoding"))
        except BodyRefused as error:
            problem = f"the provider's answer cannot be read: {error}"
            self._settle(Reply(problem=problem))
            failure = self._fail(problem, int(response.status_code))
            raise refusal("provider", failure.message, status=failure.status) from None
        usage = self.finish(response, raw, body)
        if usage is None:
            assert self._problem is not None
            raise refusal("provider", self._problem.message, status=self._problem.status)
        extensions = {**response.extensions, MARK: usage} if self.calls is not None else response.extensions
        kept = [(k, v) for k, v in response.headers.multi_items() if k.lower() not in _OF_THE_BODY]
        return self._built(response.status_code, kept, body, extensions)

    def finish(self, response: Any, raw: bytes, body: bytes) -> Usage | None:
        """The usage of a whole answer; logged, and recorded where it is a full success."""
        self.ended = True
        status, calls = int(response.status_code), self.calls
        if not 200 <= status < 300:  # of something that is no model
            text = said(raw, self._secrets)
            failure = Failure(kind=kind_of_status(status), message=f"status {status}: {text}", status=status)
            self._log(failure)
            self._give_back()
            return None
        headers = {k: response.headers[k] for k in KEPT_HEADERS if k in response.headers}
        usage, about = None, {"method": self.request.method, "path": self.path}
        if self.model_call:
            reply = read_reply(self.path, headers.get("content-type", ""), body)
            assert self._way is not None
            counts = reply.input_tokens, reply.output_tokens, reply.cached_tokens
            cost = self._way.cost(reply.model, *counts)
            usage = Usage(
                calls=0 if reply.problem else 1,
                input_tokens=reply.input_tokens,
                output_tokens=reply.output_tokens,
                cost_usd=cost if reply.counted else (0.0 if self.identity else None),
                latency_s=self.watch.seconds,
            )
            self._settle(reply, usage.cost_usd)
            if reply.problem is not None:
                self._fail(reply.problem, status, usage if reply.counted else None)
                return None
            about["model"] = reply.model or ""
        if calls is not None:
            call = Call(asked=self.asked, source="live", key=self.key, usage=usage, status=status)
            calls.add(replace(call, attempt=self._attempt))
            if calls.session is not None:
                found = Recording(
                    key=self.key, status=status, headers=headers, body=raw, usage=usage, about=about
                )
                secrets = self._secrets
                calls.session.keep(found, private=any(s.encode() in body for s in secrets))
        return usage

    def _settle(self, reply: Reply, usd: float | None = None) -> None:
        if self._way is not None:
            tokens = reply.input_tokens + reply.output_tokens if reply.counted else None
            self._way.succeeded(tokens, usd if reply.counted else None)

    def _fail(self, problem: str, status: int, consumed: Usage | None = None) -> Failure:
        text = said(problem.encode("utf-8", "replace"), self._secrets, most=500)
        self._problem = Failure(kind="provider", message=text, status=status)
        self._log(self._problem, consumed=consumed)
        self._give_back()
        return self._problem

    # -- a stream --------------------------------------------------------------------------------------
    def _streamed(self, response: Any) -> Any:
        if self.calls is None:
            self._settle(Reply())  # nobody tells when a stream outside of a scope is forgotten
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
            failure = self._failure(error)
            self._log(failure)
            self._give_back()
            if self._way is not None:
                self._way.over(None, timed_out=failure.kind == "timeout")
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
                self._log(Failure(kind="cancelled", message=what))
                self._give_back()
        self.abandon()

    def abandon(self) -> None:
        """Free the slot and what is reserved, if that was not done yet."""
        if self.calls is not None:
            self.calls.streams.discard(self)
        if self._way is not None:
            self._way.over(None)

    @property
    def _secrets(self) -> frozenset[str]:
        return self._way.secrets if self._way is not None else secrets_of(self.request)

    # -- books -----------------------------------------------------------------------------------------
    def _failure(self, error: BaseException, *, sent: bool = False) -> Failure:
        failure = failure_of(error)
        if failure is None:
            words = scrub(str(error), self._secrets) or type(error).__name__
            failure = Failure(kind="transport" if isinstance(error, OSError) else "cancelled", message=words)
        server = route(self.request.url.host)
        if server is not None and failure.kind == "timeout" and sent:
            server.after_timeout()  # a local server that hangs is ended
        return failure

    @property
    def _attempt(self) -> int:
        return max(1, self._way.attempt) if self._way is not None else 1

    def _give_back(self) -> None:
        if self.calls is not None:
            self.calls.give_back(self.base, self.n)

    def _log(
        self,
        failure: Failure,
        wait: float | None = None,
        *,
        source: Literal["live", "refused"] = "live",
        consumed: Usage | None = None,
    ) -> None:
        if self.calls is not None:
            call = Call(
                asked=self.asked,
                source=source,
                key=self.key,
                failure=failure,
                status=failure.status,
                attempt=self._attempt,
                retry_in_s=wait,
            )
            self.calls.add(call, consumed)

    def _built(self, status: int, headers: Any, body: bytes, extensions: Any) -> Any:
        return self.module.Response(
            status, headers=headers, stream=self.module.ByteStream(body), extensions=extensions
        )
