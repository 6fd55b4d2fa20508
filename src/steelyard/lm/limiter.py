"""How many calls a provider gets at once: additive increase, multiplicative decrease, one pause for all.

One limiter a provider (host and model), shared by every thread and event loop of the process.
"""

from __future__ import annotations

import os
import random
import threading
from dataclasses import dataclass

from steelyard.core.clock import monotonic
from steelyard.lm.line import NEVER, Line

__all__ = ["CONTACTS", "Limiter", "Slot", "limiter_of"]

CONTACTS = 3
"""Most calls under way with a credential that no answer has confirmed yet."""


@dataclass(slots=True, eq=False)
class Slot:
    """One admitted call: whose it is, and in which period of the limit it began."""

    credential: int
    epoch: int
    contact: bool


class Limiter(Line["int | None", Slot]):
    """Slots for calls to one provider, in the order of arrival.

    The limit starts at `cap`. A 429, a 503 or a timeout halves it (once for all calls that were under way
    then), to 1 at least; as many successes as the limit raise it by 1, up to `cap`. After a pause calls begin
    one by one, `ramp_s` apart at random, until one succeeds. A credential that no answer has confirmed gets
    `CONTACTS` calls at once, so that a wrong key is noticed before it was tried fifty times.

    Args:
        cap: Most calls at once; None: no limit until the provider asks for one.
        adaptive: False keeps the limit at `cap`.
        ramp_s: Mean seconds between two first calls after a pause.

    Attributes:
        limit: Most calls at once, now.
        under_way: Calls that hold a slot.
        paused_until: Monotonic seconds before which nobody calls.
    """

    def __init__(self, cap: int | None = None, *, adaptive: bool = True, ramp_s: float = 0.25) -> None:
        super().__init__()
        self.cap, self.adaptive, self.ramp_s = cap, adaptive, ramp_s
        self.limit: float = cap or NEVER
        self.under_way = 0
        self._epoch = self._successes = self._contacts = 0
        self._bound = self._careful = False
        self.paused_until = self._next_at = -NEVER
        self._known: set[int] = set()

    def raise_cap(self, cap: int | None) -> None:
        """Let one more client's word on the most calls at once count; the largest word does."""
        if cap is None or (self.cap is not None and cap <= self.cap):
            return
        with self._lock:
            self.limit = cap if self.cap is None else self.limit + cap - self.cap
            self.cap = cap
            self._serve()

    def beside(self, credential: int = 0) -> Slot:
        """A slot over the limit, for a call of somebody who holds one and would wait for himself."""
        with self._lock:
            return self._take(credential, monotonic())

    # -- leaving ---------------------------------------------------------------------------------------
    def succeeded(self, slot: Slot | None) -> None:
        """The call was answered."""
        if slot is None:
            return
        with self._lock:
            self._careful = False
            self._successes += 1
            if self._successes >= self.limit:
                self._successes = 0
                if self._bound and (self.cap is None or self.limit < self.cap):
                    self.limit += 1
                    self._bound = False
            self._leave(slot)

    def throttled(self, slot: Slot | None, pause_s: float = 0.0) -> None:
        """The provider asked for less, or gave no answer in time; nobody calls for `pause_s` seconds."""
        if slot is None:
            return
        with self._lock:
            if self.adaptive and slot.epoch == self._epoch:
                self.limit = max(1, int(min(self.limit, self.under_way) // 2))
                self._epoch += 1
                self._successes = 0
            if pause_s > 0 and self.adaptive:
                self.paused_until = max(self.paused_until, monotonic() + pause_s)
                self._careful = True
            self._leave(slot)

    def left(self, slot: Slot | None) -> None:
        """The call is over and says nothing about the load."""
        if slot is not None:
            with self._lock:
                self._leave(slot)

    def confirm(self, slot: Slot | None) -> None:
        """The provider took the credential of this call."""
        if slot is not None and slot.credential not in self._known:
            with self._lock:
                self._known.add(slot.credential)
                self._serve()

    def doubt(self, slot: Slot | None) -> None:
        """The provider refused the credential of this call."""
        if slot is not None:
            with self._lock:
                self._known.discard(slot.credential)

    # -- the line --------------------------------------------------------------------------------------
    def _opens(self, ask: int | None, now: float) -> float:
        if self.under_way >= self.limit:
            self._bound = True
            return NEVER
        if self._contacts >= CONTACTS and ask not in self._known:
            return NEVER
        return max(self.paused_until, self._next_at if self._careful else -NEVER)

    def _take(self, ask: int | None, now: float) -> Slot:
        credential = ask or 0
        contact = credential not in self._known
        self.under_way += 1
        self._contacts += contact
        if self._careful:
            self._next_at = now + self.ramp_s * random.uniform(0.5, 1.5)  # noqa: S311  (jitter, no secret)
        return Slot(credential, self._epoch, contact)

    def _drop(self, ticket: Slot) -> None:
        self.under_way -= 1
        self._contacts -= ticket.contact

    def _leave(self, slot: Slot) -> None:
        self._drop(slot)
        if self._waiting:
            self._serve()


_LIMITERS: dict[tuple[str, str], Limiter] = {}
_lock = threading.Lock()


def limiter_of(
    host: str, model: str, *, cap: int | None = None, adaptive: bool = True, ramp_s: float = 0.25
) -> Limiter:
    """The process's limiter of a provider.

    Args:
        host: Host and port.
        model: The model's name.
        cap: What a client says of the most calls at once; the largest word counts, None is no word.
        adaptive: False for a local model, whose one slot is no guess.
        ramp_s: As in `Limiter`.
    """
    found = _LIMITERS.get((host, model))
    if found is None:
        with _lock:
            made = Limiter(cap, adaptive=adaptive, ramp_s=ramp_s)
            found = _LIMITERS.setdefault((host, model), made)
    found.raise_cap(cap)
    return found


def _forked() -> None:
    """A child starts without the parent's calls, and without locks that a thread of the parent held."""
    global _lock
    _LIMITERS.clear()
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forked)
