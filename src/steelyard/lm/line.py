"""A first-in-first-out queue that threads and event loops stand in together, for limiter and budget."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from steelyard.core.clock import monotonic

__all__ = ["NEVER", "Line"]

Ask = TypeVar("Ask")
Ticket = TypeVar("Ticket")
NEVER = math.inf
"""Not by waiting: only when somebody leaves."""


class _Waiter(Generic[Ask, Ticket]):
    __slots__ = ("ask", "ticket", "wake")

    def __init__(self, ask: Ask, wake: Callable[[], object]) -> None:
        self.ask, self.wake = ask, wake
        self.ticket: Ticket | None = None


class Line(Generic[Ask, Ticket]):
    """Admission in the order of arrival. A subclass says who may enter and when.

    One lock, no thread and no timer of its own: the first in line watches the clock for all.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[_Waiter[Ask, Ticket]] = deque()

    # -- for the subclass, under the lock ------------------------------------------------------------
    def _opens(self, ask: Ask, now: float) -> float:
        """Monotonic time from which this ask may enter; `now` or less: at once; `NEVER`: after a leave."""
        raise NotImplementedError

    def _take(self, ask: Ask, now: float) -> Ticket:
        """Let it in."""
        raise NotImplementedError

    def _drop(self, ticket: Ticket) -> None:
        """Undo `_take`."""
        raise NotImplementedError

    def _serve(self, me: _Waiter[Ask, Ticket] | None = None) -> None:
        """Let in who may enter; called after every change."""
        waiting, now = self._waiting, monotonic()
        while waiting:
            first = waiting[0]
            opens = self._opens(first.ask, now)
            if opens > now:
                if opens < NEVER and first is not me:
                    first.wake()  # to watch the clock
                return
            waiting.popleft()
            first.ticket = self._take(first.ask, now)
            first.wake()

    # -- for everybody ---------------------------------------------------------------------------------
    def enter(self, ask: Ask, deadline: float = NEVER) -> Ticket | None:
        """A ticket when it is this one's turn, or None when the deadline (monotonic) came first."""
        with self._lock:
            if (ticket := self._at_once(ask)) is not None:
                return ticket
            woken = threading.Event()
            waiter: _Waiter[Ask, Ticket] = _Waiter(ask, woken.set)
            self._waiting.append(waiter)
        try:
            while (left := self._left(waiter, deadline)) > 0:
                woken.wait(None if left == NEVER else left)
                woken.clear()
        except BaseException:
            self._forget(waiter)
            raise
        return self._ticket_of(waiter)

    async def aenter(self, ask: Ask, deadline: float = NEVER) -> Ticket | None:
        """`enter`, awaited."""
        with self._lock:
            if (ticket := self._at_once(ask)) is not None:
                return ticket
            loop, woken = asyncio.get_running_loop(), asyncio.Event()

            def wake() -> None:
                with contextlib.suppress(RuntimeError):  # the loop was closed; nobody waits there any more
                    loop.call_soon_threadsafe(woken.set)

            waiter: _Waiter[Ask, Ticket] = _Waiter(ask, wake)
            self._waiting.append(waiter)
        try:
            while (left := self._left(waiter, deadline)) > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if left == NEVER else left):
                        await woken.wait()
                woken.clear()
        except BaseException:
            self._forget(waiter)
            raise
        return self._ticket_of(waiter)

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return len(self._waiting)

    def _at_once(self, ask: Ask) -> Ticket | None:
        now = monotonic()
        return self._take(ask, now) if not self._waiting and self._opens(ask, now) <= now else None

    def _left(self, waiter: _Waiter[Ask, Ticket], deadline: float) -> float:
        """Seconds to wait before looking again; 0: it has a ticket, or its time is over."""
        with self._lock:
            if waiter.ticket is None:
                self._serve(waiter)
            now = monotonic()
            if waiter.ticket is not None or now >= deadline:
                return 0.0
            until = deadline
            if self._waiting[0] is waiter:
                until = min(until, self._opens(waiter.ask, now))
            return until if until == NEVER else max(until - now, 1e-4)

    def _ticket_of(self, waiter: _Waiter[Ask, Ticket]) -> Ticket | None:
        with self._lock:
            if waiter.ticket is None:  # the deadline
                self._waiting.remove(waiter)
                self._serve()
            return waiter.ticket

    def _forget(self, waiter: _Waiter[Ask, Ticket]) -> None:
        with self._lock:
            if waiter.ticket is not None:  # let in and interrupted at the same moment
                self._drop(waiter.ticket)
            else:
                self._waiting.remove(waiter)
            self._serve()
