"""Sessions and scopes: which recordings are used, and which calls belong to which trial of which example."""

from __future__ import annotations

import logging
import math
import threading
from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from steelyard.core.clock import monotonic
from steelyard.core.errors import Corrupt, InvalidValue, ReplayMiss
from steelyard.core.results import Usage
from steelyard.core.score import Failure
from steelyard.core.settings import LM_MODES
from steelyard.lm.budget import Budget
from steelyard.lm.key import key_of_call
from steelyard.lm.tape import Recording, Tape

__all__ = [
    "Call",
    "Calls",
    "Counts",
    "Mode",
    "Open",
    "Session",
    "active_sessions",
    "current",
    "open_scope",
    "open_session",
]

Mode = Literal["auto", "live", "replay"]
_log = logging.getLogger("steelyard.lm")


@dataclass(slots=True)
class Counts:
    """What a session did, by count.

    Attributes:
        hits: Requests answered from recordings.
        misses: Requests that had none (in replay mode, refused).
        live: Requests that went out, retries included.
        recorded: Recordings written.
        corrupt: Damaged recordings met.
        unwritten: Answers that could not be recorded (full disk), or must not be (they repeat the key).
    """

    hits: int = 0
    misses: int = 0
    live: int = 0
    recorded: int = 0
    corrupt: int = 0
    unwritten: int = 0


class Session:
    """What `replaying` gives: a folder of recordings, a mode, counts, and what the run may spend."""

    def __init__(self, folder: Path, mode: Mode, budget: Budget | None = None) -> None:
        self.tape, self.mode, self.counts = Tape(folder), mode, Counts()
        self.budget = budget if budget is not None and budget.capped else None
        self._stops: dict[object, Failure] = {}
        self._lock = threading.Lock()

    def count(self, what: str) -> None:
        """One more of a count."""
        with self._lock:
            setattr(self.counts, what, getattr(self.counts, what) + 1)

    def stop(self, provider: object, failure: Failure) -> None:
        """Let no further call of this session reach a provider that refused the credential."""
        with self._lock:
            self._stops.setdefault(provider, failure)

    def stopped(self, *providers: object) -> Failure | None:
        """Why calls to one of these go nowhere any more, or None."""
        if not self._stops:
            return None
        return next((f for p in providers if (f := self._stops.get(p)) is not None), None)

    def find(
        self, key: str, asked: str, problem: Callable[[Recording], str | None] | None = None
    ) -> Recording | None:
        """The recording to answer with, or None where the request must go out.

        Args:
            key: Its key.
            asked: The request, for people.
            problem: Says why a recording is no answer; None where it is one.

        Raises:
            ReplayMiss, Corrupt: replay mode, and there is no sound recording.
        """
        if self.mode == "live":
            return None
        try:
            found = self.tape.get(key)
            if found is not None and problem is not None and (what := problem(found)) is not None:
                raise Corrupt(self.tape.path(key), what, do="Delete it and record again.")
        except Corrupt as error:
            self.count("corrupt")
            if self.mode == "replay":
                raise  # left where it is: replay changes nothing on disk
            try:
                _log.warning("%s Moved to %s.", error, self.tape.quarantine(key))
            except OSError as fault:  # a sick disk costs a recording, never an answer
                _log.warning("%s It cannot be moved away either: %s.", error, fault)
            found = None
        if found is not None:
            self.count("hits")
            return found
        self.count("misses")
        if self.mode == "replay":
            raise ReplayMiss(asked, key=key, folder=self.tape.folder)
        return None

    def keep(self, recording: Recording, *, private: bool = False) -> None:
        """Record; an answer that cannot be written, or repeats a key (`private`), is still an answer."""
        if private:
            self.count("unwritten")
            _log.warning("an answer repeats the key of its request, so it was not recorded")
            return
        try:
            self.tape.put(recording)
        except OSError as error:
            self.count("unwritten")
            _log.warning("an answer could not be recorded in %s: %s", self.tape.folder, error)
        else:
            self.count("recorded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request of a scope, for the record.

    Attributes:
        asked: Method and path.
        source: `recorded`, `live` (it went out) or `refused` (it did not).
        key: Its key.
        usage: What it consumed; None where it failed or no model was asked.
        failure: Why it failed, or None.
        status: HTTP status, where there was one.
        attempt: 1 for a first attempt, 2 for the first retry, and so on.
        retry_in_s: Seconds that were waited before the next attempt; None where there was none.
    """

    asked: str
    source: Literal["recorded", "live", "refused"]
    key: str
    usage: Usage | None = None
    failure: Failure | None = None
    status: int | None = None
    attempt: int = 1
    retry_in_s: float | None = None


class Open(Protocol):
    """A stream that its caller has not read to the end."""

    def abandon(self) -> None:
        """Free what it holds."""
        ...


@dataclass(eq=False, kw_only=True)
class Calls:
    """The calls of one trial of one example, as they come in. Safe to use from several threads.

    Attributes:
        example_id: The example.
        trial: 0-based repetition.
        session: The session, or None where calls are only counted.
        usage: Summed over the completed calls.
        log: Every request, failed attempts and refused ones too.
        refusal: The first ReplayMiss or Corrupt; the scope raises it at its end, even if the task caught it.
        deadline: Monotonic seconds after which no call waits or runs any more; infinite without one.
        streams: Streams under way.
    """

    example_id: str
    trial: int
    session: Session | None
    usage: Usage = field(default_factory=Usage)
    log: list[Call] = field(default_factory=list[Call])
    refusal: ReplayMiss | Corrupt | None = None
    deadline: float = math.inf
    streams: set[Open] = field(default_factory=set[Open])
    _taken: dict[str, set[int]] = field(default_factory=lambda: defaultdict[str, set[int]](set))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Why attempts failed, in their order; a retry may have mended them."""
        return tuple(c.failure for c in self.log if c.failure is not None)

    @property
    def last_failure(self) -> Failure | None:
        """The failure of the last request, or None where it went well: what a task that raised died of."""
        return self.log[-1].failure if self.log else None

    def take(self, request: str) -> int:
        """The n of this request: how many identical ones succeeded or are under way before it."""
        with self._lock:
            taken, n = self._taken[request], 0
            while n in taken:
                n += 1
            taken.add(n)
            return n

    def give_back(self, request: str, n: int) -> None:
        """Free an n whose attempt failed, so that the retry has the same key as a first success."""
        with self._lock:
            self._taken[request].discard(n)

    def key(self, request: str, n: int) -> str:
        """The key of the nth such request here."""
        return key_of_call(request, trial=self.trial, n=n)

    def add(self, call: Call, consumed: Usage | None = None) -> None:
        """Log a call; what it consumed is added to `usage`."""
        with self._lock:
            self.log.append(call)
            if (used := consumed or call.usage) is not None:
                self.usage = self.usage + used

    def refuse(self, error: ReplayMiss | Corrupt, asked: str, key: str) -> None:
        """Note that a request was refused."""
        failure = Failure(kind="replay_miss", message=str(error))
        self.add(Call(asked=asked, source="refused", key=key, failure=failure))
        if self.refusal is None:
            self.refusal = error


_SESSION: ContextVar[Session | None] = ContextVar("steelyard_lm_session", default=None)
_CALLS: ContextVar[Calls | None] = ContextVar("steelyard_lm_calls", default=None)
_ACTIVE: list[Session] = []


def current() -> Calls | None:
    """The scope that this thread or task is in."""
    return _CALLS.get()


def active_sessions() -> tuple[Session, ...]:
    """The sessions that are open anywhere in the process."""
    return tuple(_ACTIVE)


@contextmanager
def open_session(folder: Path, mode: str, budget: Budget | None = None) -> Generator[Session]:
    """A session for what runs inside; see `replay.replaying`."""
    if mode not in LM_MODES:
        raise InvalidValue(f"{mode!r} is no mode of record and replay", do=f"Use {' or '.join(LM_MODES)}.")
    session = Session(folder, mode, budget)
    token = _SESSION.set(session)
    _ACTIVE.append(session)
    try:
        yield session
    finally:
        _ACTIVE.remove(session)
        _SESSION.reset(token)


@contextmanager
def open_scope(example_id: str, trial: int, timeout_s: float | None = None) -> Generator[Calls]:
    """A scope for what runs inside; see `replay.call_scope`."""
    session = _SESSION.get()
    if session is None and len(_ACTIVE) == 1:  # a thread that was started without the context
        session = _ACTIVE[0]
    deadline = math.inf if timeout_s is None else monotonic() + timeout_s
    calls = Calls(example_id=example_id, trial=trial, session=session, deadline=deadline)
    token = _CALLS.set(calls)
    try:
        yield calls
    except Exception as error:
        if calls.refusal is not None and error is not calls.refusal:
            raise calls.refusal from error
        raise
    else:
        # A task that swallows the refusal would turn "not recorded" into an answer.
        if calls.refusal is not None:
            raise calls.refusal
    finally:
        for stream in tuple(calls.streams):
            stream.abandon()
        _CALLS.reset(token)
