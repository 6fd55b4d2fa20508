"""The way of one model call to its provider: slot, money, time, and when it is tried again."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from steelyard.core.clock import monotonic
from steelyard.core.errors import CallFailed
from steelyard.core.score import Failure
from steelyard.lm.asking import most_input_tokens, read_request
from steelyard.lm.budget import Reservation
from steelyard.lm.cost import price
from steelyard.lm.failures import refusal
from steelyard.lm.limiter import Slot, limiter_of
from steelyard.lm.policy import POLICY, Policy, is_retryable, is_throttle
from steelyard.lm.scope import Calls
from steelyard.lm.scrub import secrets_of
from steelyard.lm.steps import Enter, Reserve, Steps

__all__ = ["Passage"]

_DEFAULT = Policy()


class Passage:
    """What one model call holds and waits for, over all its attempts.

    Args:
        request: The request, its body read.
        path: Its path.
        identity: Digest of the local model that is asked, or None.
        calls: The scope, or None outside of any.
    """

    def __init__(self, request: Any, path: str, identity: str | None, calls: Calls | None) -> None:
        policy: Policy = request.extensions.get(POLICY) or _DEFAULT
        self.follows = POLICY not in request.extensions  # clients of ours follow no redirect
        if request.headers.get("x-stainless-retry-count", "0") != "0":
            policy = replace(policy, max_retries=0)  # another client's own retry, after we gave up
        self.request, self.identity, self.calls, self.policy = request, identity, calls, policy
        self.session = calls.session if calls is not None else None
        self.deadline = calls.deadline if calls is not None else math.inf
        self.until = math.inf
        self.secrets = secrets_of(request)
        self.attempt = 0
        self._body: bytes = request.content
        self._asked = read_request(path, self._body)
        self._credential = hash(self.secrets) or 1
        self._origin = f"{request.url.host}:{request.url.port or request.url.scheme}"
        self._given: dict[str, float | None] = dict(request.extensions.get("timeout") or {})
        self._limiter = limiter_of(
            self._origin,
            self._asked.model if identity is None else "",
            cap=policy.concurrency if identity is None else 1,
            adaptive=identity is None,
            ramp_s=policy.ramp_s,
        )
        self._slot: Slot | None = None
        self._reserved: Reservation | None = None
        request.headers["accept-encoding"] = "gzip, deflate"  # what can be decoded within bounds

    # -- before an attempt -------------------------------------------------------------------------------
    def admission(self) -> Steps:
        """Wait for a slot and for money.

        Raises:
            CallFailed: the call is not to be made: `auth`, `budget`, `rate_limit`, `timeout`.
        """
        nested = self.calls is not None and bool(self.calls.streams)
        try:
            if monotonic() < self.deadline > self._limiter.paused_until:
                if nested:  # who holds a stream would wait for himself
                    self._slot = self._limiter.beside(self._credential)
                else:
                    self._slot = yield Enter(self._limiter, self._credential, self.deadline)
            if self._slot is None or monotonic() >= self.deadline:
                raise self._too_late()
            if self.session is not None:
                if (stop := self.session.stopped(*self._providers())) is not None:
                    what = f"not sent, because {self._origin} refused the credential before: {stop.message}"
                    raise refusal("auth", what, status=stop.status)
                if (budget := self.session.budget) is not None:
                    tokens, usd = self._estimate(budget.max_cost_usd is not None)
                    self._reserved = yield Reserve(budget, tokens, usd, self.deadline, not nested)
        except BaseException:
            self.over(0)
            raise
        self.attempt += 1

    def clip(self) -> None:
        """Give the attempt the time that is left, at most."""
        now, longest = monotonic(), self.policy.timeout_s
        self.until = min(self.deadline, now + longest if longest is not None else math.inf)
        left = self.until - now
        if left < math.inf:
            names = ("connect", "read", "write", "pool")
            limits = {k: min(left, math.inf if (v := self._given.get(k)) is None else v) for k in names}
            self.request.extensions = {**self.request.extensions, "timeout": limits}

    # -- after an attempt --------------------------------------------------------------------------------
    def confirm(self) -> None:
        """The provider took the credential."""
        self._limiter.confirm(self._slot)

    def succeeded(self, tokens: int | None, usd: float | None) -> None:
        """The attempt was answered.

        Args:
            tokens: What it used, prompt and completion; None where the provider did not say.
            usd: What that cost; None where nobody knows.
        """
        slot, self._slot = self._slot, None
        self._limiter.succeeded(slot)
        self._pay(tokens, usd)

    def over(self, tokens: int | None, *, timed_out: bool = False) -> None:
        """The attempt is over without an answer, if it is not over already; `tokens` as in `succeeded`."""
        slot, self._slot = self._slot, None
        if timed_out:
            self._limiter.throttled(slot)
        else:
            self._limiter.left(slot)
        self._pay(tokens, 0.0 if tokens == 0 else None)

    def refused(self, failure: Failure, status: int, asked_s: float | None, wait: float | None) -> None:
        """The attempt was answered with a status that is no success."""
        slot, self._slot = self._slot, None
        if is_throttle(status):
            pause = self.policy.jittered(asked_s) if asked_s is not None else None
            if pause is None and status == 429:  # a 503 without a time may speak for one machine of many
                pause = wait
            self._limiter.throttled(slot, min(pause or 0.0, self.policy.longest_asked_s))
        else:
            if status in (401, 403):
                self._limiter.doubt(slot)
                if self.session is not None and (providers := self._providers()):
                    self.session.stop(providers[0] if status == 401 else providers[1], failure)
            elif status < 500:
                self._limiter.confirm(slot)
            self._limiter.left(slot)
        self._pay(0, 0.0)

    def wait(self, asked_s: float | None = None, *, throttled: bool = False) -> float | None:
        """Seconds before the next attempt, or None where there is to be none."""
        left = self.deadline - monotonic()
        return self.policy.wait(self.attempt, asked_s=asked_s, throttled=throttled, left_s=left)

    def note(self, status: int, asked_s: float | None, wait: float | None) -> str:
        """Why there is no further attempt, where that is not plain from the status."""
        if wait is not None or not is_retryable(status):
            return ""
        left = max(0.0, self.deadline - monotonic())
        if asked_s is not None and self.attempt <= self.policy.max_retries:
            limit = f"the row has {left:.1f} s left" if left < math.inf else "that is too long"
            return f" (not tried again: the provider asks to wait {asked_s:g} s and {limit})"
        return f" (after {self.attempt} attempts)" if self.attempt > 1 else ""

    def cost(self, model: str | None, given: int, made: int, cached: int) -> float | None:
        """US dollars of so many tokens; None where the price is unknown."""
        if self.identity is not None:
            return 0.0
        url = str(self.request.url)
        return price(model, url=url, input_tokens=given, output_tokens=made, cached_tokens=cached)

    # -- parts -------------------------------------------------------------------------------------------
    def _too_late(self) -> CallFailed:
        now, until = monotonic(), self._limiter.paused_until
        if until >= self.deadline:
            left = f"and the row has {max(0.0, self.deadline - now):.1f} s left"
            what = f"not sent: the provider asks everybody to wait {until - now:.1f} s more, {left}"
            return refusal("rate_limit", what)
        return refusal("timeout", "not sent: the row's time was over before this call could be made")

    def _estimate(self, priced: bool) -> tuple[int, float]:
        given, made = most_input_tokens(self._body), self._asked.output_tokens
        usd = self.cost(self._asked.model, given, made, 0) if priced else 0.0
        if usd is None:
            raise CallFailed(
                "budget",
                f"the price of the model {self._asked.model!r} at {self.request.url.host} is unknown, so "
                "max_cost_usd cannot be kept; cap the run with max_tokens_total instead",
            )
        return given + made, usd

    def _providers(self) -> tuple[object, ...]:
        if self.identity is not None:
            return ()
        return (self._origin, self._credential), (self._origin, self._credential, self._asked.model)

    def _pay(self, tokens: int | None, usd: float | None) -> None:
        reserved, self._reserved = self._reserved, None
        if reserved is not None and self.session is not None and self.session.budget is not None:
            self.session.budget.settle(reserved, tokens, usd)
