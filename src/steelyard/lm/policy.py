"""When a call is tried again, and after how long."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from steelyard.core.clock import utc_now
from steelyard.core.errors import InvalidValue

__all__ = ["MAX_RETRIES", "POLICY", "Policy", "is_retryable", "is_throttle", "retry_after"]

MAX_RETRIES = 5
POLICY = "steelyard_policy"
"""The request extension that holds the `Policy` of the client that made the request."""

_THROTTLES = (429, 503, 529)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a client wants its model calls treated.

    Attributes:
        max_retries: Attempts after the first, at most 5.
        concurrency: Most calls at once to this provider; None: no limit until the provider asks for one.
        timeout_s: Seconds for one attempt from sending to the last byte; None: what the client says for each
            read.
        base_s: Longest wait before the first retry; it doubles with each. The wait is drawn evenly from 0 to
            that ("full jitter", M. Brooker, AWS Architecture Blog, 2015).
        longest_s: Longest wait of that kind.
        patience_s: Shortest waits before the last retries of a call that was throttled every time: such a
            storm is longer than the provider says. Cut to what the row's time allows.
        longest_asked_s: Longest `Retry-After` that is waited for without a deadline.
        ramp_s: Mean seconds between two first calls after a pause.
    """

    max_retries: int = MAX_RETRIES
    concurrency: int | None = None
    timeout_s: float | None = None
    base_s: float = 0.5
    longest_s: float = 30.0
    patience_s: tuple[float, float] = (20.0, 40.0)
    longest_asked_s: float = 600.0
    ramp_s: float = 0.25

    def __post_init__(self) -> None:
        if not 0 <= self.max_retries <= MAX_RETRIES:
            raise InvalidValue(f"max_retries = {self.max_retries}", do=f"Give 0 to {MAX_RETRIES}.")

    def wait(self, attempt: int, *, asked_s: float | None, throttled: bool, left_s: float) -> float | None:
        """Seconds before the next attempt, or None where there is to be none.

        Args:
            attempt: How many attempts failed so far, 1 or more.
            asked_s: What `Retry-After` said.
            throttled: Whether every attempt so far was answered with 429, 503 or 529.
            left_s: Seconds until the row's deadline; infinite without one.
        """
        if attempt > self.max_retries or left_s <= min(0.1, self.base_s):
            return None
        longest = min(self.longest_s, self.base_s * 2 ** (attempt - 1))
        own = random.uniform(0, longest)  # noqa: S311  (jitter, no secret)
        late = attempt - (MAX_RETRIES - len(self.patience_s)) - 1
        if throttled and late >= 0:
            own = max(own, self.patience_s[late])
        own = min(own, 0.6 * left_s)
        if asked_s is None:
            return own
        if asked_s >= (left_s if left_s < float("inf") else self.longest_asked_s):
            return None
        fitting = min(self.jittered(asked_s), (asked_s + left_s) / 2)
        return max(fitting, own if throttled and late >= 0 else 0.0)

    def jittered(self, asked_s: float) -> float:
        """A wait that the provider asked for and up to 5 % more, so that not everybody comes back at once."""
        return asked_s * random.uniform(1.0, 1.05)  # noqa: S311  (as above)


def is_throttle(status: int) -> bool:
    """Whether a status asks for fewer calls."""
    return status in _THROTTLES


def is_retryable(status: int) -> bool:
    """Whether the same request may succeed later."""
    return status in (408, 409, 429) or status >= 500


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait as the provider says, or None where it says nothing usable.

    `retry-after-ms`, `Retry-After` in seconds, or as an HTTP date (RFC 9110, 10.2.3): a date counts from the
    response's own `Date`, so that a wrong clock on this machine does no harm.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        try:
            seconds = float(text) * unit
        except ValueError:
            continue
        return seconds if 0 <= seconds < float("inf") else None
    then, now = _date(headers.get("retry-after")), _date(headers.get("date")) or utc_now()
    return max(0.0, (then - now).total_seconds()) if then is not None else None


def _date(text: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(text) if text else None
    except (ValueError, OverflowError):
        return None
    return found.replace(tzinfo=UTC) if found is not None and found.tzinfo is None else found
