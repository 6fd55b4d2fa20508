"""Time: wall time for people, monotonic time for durations."""

from __future__ import annotations

import time
from datetime import UTC, datetime

__all__ = ["monotonic", "stamp", "utc_now"]


def utc_now() -> datetime:
    """The wall clock, in UTC."""
    return datetime.now(UTC)


def stamp(moment: datetime | None = None) -> str:
    """An RFC 3339 text in UTC with milliseconds, `2026-01-31T09:30:00.000Z`."""
    moment = moment or utc_now()
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def monotonic() -> float:
    """Seconds that only ever go up; differences are durations even when the wall clock jumps."""
    return time.perf_counter()
