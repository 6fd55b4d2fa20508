"""Where an application's prompts come from, and how they are kept fresh.

What serves, in this order: memory; the last good copy on disk; the store; the committed lock file; the
fallback. Only a first call of a ref that none of the first two knows waits for the store.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakSet

from steelyard.core.errors import (
    Corrupt,
    InvalidFile,
    InvalidValue,
    MissingExtra,
    NotFound,
    SteelyardError,
    StoreUnavailable,
)
from steelyard.core.ref import Ref
from steelyard.core.settings import Settings
from steelyard.prompts import refresher
from steelyard.prompts.copies import Copies, Copy
from steelyard.prompts.load import prompt_of
from steelyard.prompts.origins import FromFiles, FromLock, Working
from steelyard.prompts.prompt import Prompt
from steelyard.prompts.served import Entry, Fallback, Readable, Served, from_fallback, in_words
from steelyard.store.reading import open_reader, reader_uri

if TYPE_CHECKING:
    from steelyard.store import Version

__all__ = ["PromptSource"]

_FOREVER = float("inf")
_AGAIN_S = 1.0  # after a refresh was asked for, until it is asked for again
_clock = time.monotonic


@dataclass(frozen=True, slots=True)
class _Trouble:
    error: SteelyardError
    until: float
    failures: int


class PromptSource:
    """Serves prompts by ref. `steelyard.prompt` has one for each `Settings`; make one to hand in a store.

    Args:
        settings: `prompts_from`, `prompt_ttl_s`, and where files, lock, store and state are.
        store: A store to read from; the settings' store is opened when it is first needed if none is given.
    """

    def __init__(self, settings: Settings, *, store: Readable | None = None) -> None:
        self.settings = settings
        self.entries: dict[str, Entry] = {}
        self._given, self._reader = store, store
        self._copies: Copies | None = None
        self._working = Working(settings)
        self._fixed = {"lock": FromLock, "files": FromFiles}.get(settings.prompts_from)
        self._pinned = self._fixed(settings) if self._fixed else None
        self._spares: dict[str, tuple[Fallback, Prompt]] = {}
        self._said: set[str] = set()
        self._outage: _Trouble | None = None
        self._absent: dict[str, _Trouble] = {}
        self._unlock()
        _alive.add(self)

    # -- for callers ------------------------------------------------------------------------------
    def get(self, ref: str | Ref, *, fallback: Fallback | None = None, fresh: bool = False) -> Prompt:
        """The prompt that a ref names; see `steelyard.prompt`."""
        entry = None if fresh else self.entries.get(str(ref))
        if entry is None:
            return self._first(ref, fallback, fresh)
        if _clock() >= entry.due:
            self._refresh_behind(str(ref), entry)
        return entry.prompt

    def served(self) -> list[Served]:
        """What is served from memory just now, by ref."""
        outage = self._outage
        now = time.time()
        return [
            Served(
                ref=ref,
                digest=e.prompt.digest,
                number=e.number,
                origin=e.origin,
                age_s=None if e.confirmed is None else max(0.0, now - e.confirmed),
                error=str(outage.error) if outage and e.due != _FOREVER else None,
            )
            for ref, e in sorted(self.entries.items())
        ]

    def close(self) -> None:
        """Forget everything, and close the store if it was opened here."""
        self.entries.clear()
        reader, self._reader = self._reader, self._given
        if reader is not None and reader is not self._given:
            reader.close()

    # -- the first time ---------------------------------------------------------------------------
    def _first(self, given: str | Ref, fallback: Fallback | None, fresh: bool) -> Prompt:
        ref = Ref.parse(given) if isinstance(given, str) else given
        key = str(ref)
        if fresh and fallback is not None:
            raise InvalidValue(
                f"{key} is asked for both fresh and with a fallback", do="Leave one of them out."
            )
        spare = self._spare(ref, fallback)  # checked now: in need it is too late
        try:
            if ref.is_working:
                return self._working.read(ref.name)
            if isinstance(self._pinned, FromFiles):
                return self._pinned.read(ref, self._working)
            with self._one_at_a_time(key):
                entry = self.entries.get(key)
                if entry is None or fresh:
                    entry = self._load(ref, fresh, spare is not None)
        except SteelyardError as error:
            if spare is None or not isinstance(error, _REPLACED):
                raise
            self._say(f"fallback {key}", f"{error} {key} is served from the fallback given in the code.")
            return spare
        if _clock() >= entry.due:
            self._refresh_behind(key, entry)
        return entry.prompt

    def _load(self, ref: Ref, fresh: bool, spared: bool) -> Entry:
        """The entry of a ref that memory does not have."""
        if self._pinned is not None:
            return self._keep(ref, Entry(self._pinned.read(ref, self._working), _FOREVER, None, None, "lock"))
        # In the caller's thread, so not under `loading`: a store that hangs would hold it up.
        copy = None if fresh else self._disk().read(ref)
        if copy is not None:
            due = _FOREVER if ref.alias is None else 0.0
            return self._keep(ref, Entry(copy.prompt, due, copy.number, copy.confirmed, "disk"))
        trouble = self._outage or (self._absent.get(str(ref)) if spared else None)
        if trouble is not None and not fresh:
            waiting = _clock() < trouble.until
            if spared and not waiting:  # with a fallback nobody waits a second time
                self._refresh_behind(str(ref), None)
            if spared or waiting:
                raise trouble.error.with_traceback(None)
        try:
            return self._ask(ref, None)
        except _OUTAGES as error:
            if fresh:
                raise
            self._failed(error, None)
            try:
                locked = FromLock(self.settings).read(ref, self._working)
            except SteelyardError:
                raise error from None
            self._say(
                "outage", f"{error} {ref} is served from the lock file; the store is asked again in between."
            )
            return self._keep(ref, Entry(locked, self._again(), None, None, "lock"))
        except SteelyardError as error:  # the store answered: there is none, or none that can be used
            self._absent[str(ref)] = _Trouble(error, self._due(ref), 1)
            raise

    def _ask(self, ref: Ref, known: Entry | None) -> Entry:
        """The entry that the store gives, kept in memory and on disk."""
        asked = _clock()
        try:
            with refresher.loading():
                reader = self._opened()
            if getattr(reader, "is_light", False):
                got = self._resolve(reader, ref, known)
            else:  # MLflow and plugins load modules as they go
                with refresher.loading():
                    got = self._resolve(reader, ref, known)
        except SteelyardError:
            raise
        except Exception as error:  # a store plugin may raise anything; to a caller it is a store in trouble
            what = f"{type(error).__name__}: {error}"
            raise StoreUnavailable(self._disk().store, what, do="Look at the store's plugin.") from error
        self._answered(reader)
        self._absent.pop(str(ref), None)
        self._said -= {f"gone {ref}", f"fallback {ref}"}
        got.asked = asked
        with self._lock:
            kept = self.entries.get(str(ref))
            if kept is not None and kept.asked > asked:
                return kept  # another call asked later, and was answered earlier
            self.entries[str(ref)] = got
        if got.origin == "store":
            copy = Copy(prompt=got.prompt, number=got.number, confirmed=got.confirmed or time.time())
            try:
                self._disk().write(ref, copy)
            except OSError as error:
                self._say("disk", f"No copy of {ref} could be kept on disk ({error}); memory serves.")
        return got

    def _resolve(self, reader: Readable, ref: Ref, known: Entry | None) -> Entry:
        if ref.alias is None:
            version = reader.version("prompt", ref.name, ref.version or ref.digest or "")
            return Entry(_made(version), _FOREVER, version.number, time.time(), "store")
        digest = reader.aliases("prompt", ref.name).get(ref.alias)
        if digest is None:
            return self._never_set(reader, ref)
        if known is not None and known.prompt.digest == digest and known.number is not None:
            return Entry(known.prompt, self._due(ref), known.number, time.time(), "store")
        version = reader.version("prompt", ref.name, digest)
        return Entry(_made(version), self._due(ref), version.number, time.time(), "store")

    def _never_set(self, reader: Readable, ref: Ref) -> Entry:
        """The lock's version of an alias that the store has never known, as in a clean clone."""
        if not reader.history("prompt", ref.name, ref.alias) and self.settings.lock.is_file():
            try:
                locked = FromLock(self.settings).read(ref, self._working)
            except NotFound:
                pass
            else:
                return Entry(locked, self._due(ref), None, None, "lock")
        aliases = reader.aliases("prompt", ref.name)
        if not aliases and not reader.versions("prompt", ref.name):
            raise NotFound(
                "prompt",
                ref.name,
                existing=reader.names("prompt"),
                where=reader.uri,
                do="Register it with: steelyard prompts push",
            )
        raise NotFound(
            "alias",
            ref.alias or "",
            existing=aliases,
            where=f"prompt {ref.name!r}",
            do="Set the first one with: steelyard bless",
        )

    def _opened(self) -> Readable:
        with self._opening:
            if self._reader is None:
                self._reader = open_reader(self.settings)
            return self._reader

    def _disk(self) -> Copies:
        if self._copies is None:
            where = self._given.uri if self._given is not None else reader_uri(self.settings)
            self._copies = Copies(self.settings.home / "prompts", where)
        return self._copies

    def _keep(self, ref: Ref, entry: Entry) -> Entry:
        self.entries[str(ref)] = entry
        return entry

    def _spare(self, ref: Ref, fallback: Fallback | None) -> Prompt | None:
        if fallback is None or isinstance(fallback, Prompt):
            return fallback
        kept = self._spares.get(str(ref))
        if kept is None or kept[0] != fallback:
            kept = self._spares[str(ref)] = (fallback, from_fallback(ref.name, fallback))
        return kept[1]

    # -- behind the caller ------------------------------------------------------------------------
    def _refresh_behind(self, key: str, entry: Entry | None) -> None:
        if entry is not None:
            entry.due = _clock() + _AGAIN_S
        with self._lock:
            if key in self._pending:
                return
            self._pending.add(key)
        if not refresher.submit(lambda: self._refresh(key)):
            self._pending.discard(key)

    def _refresh(self, key: str) -> None:
        entry = self.entries.get(key)
        try:
            outage = self._outage
            if outage is not None and _clock() < outage.until:
                if entry is not None:
                    entry.due = outage.until
                return
            self._ask(Ref.parse(key), entry)
        except Exception as error:  # whatever it is, the one thread must live on
            self._failed(error, (key, entry))
        finally:
            self._pending.discard(key)

    def _failed(self, error: Exception, behind: tuple[str, Entry | None] | None) -> None:
        """Remember what is wrong, and say so once if something is served meanwhile."""
        key, entry = behind or ("", None)
        if isinstance(error, SteelyardError) and not isinstance(error, _OUTAGES):
            # The store answered, so other refs are well; what was good is served on: docs/decisions/0410.
            until = self._due(Ref.parse(key)) if behind else _clock()
            if entry is None:
                self._absent[key] = _Trouble(error, until, 1)
            else:
                entry.due = until
                self._say(f"gone {key}", f"{error} The last good version, {in_words(entry)}, is served on.")
            return
        if not isinstance(error, SteelyardError):
            error = SteelyardError(f"{type(error).__name__}: {error}")
        failures = self._outage.failures + 1 if self._outage else 1
        wait = min(self.settings.prompt_ttl_s, 0.5 * 2 ** min(failures, 12))
        self._outage = _Trouble(error, _clock() + wait * (1 - 0.2 * _spread(str(id(self)))), failures)
        if entry is not None:
            entry.due = self._outage.until
            self._say("outage", f"{error} {key} is served from the last good copy, {in_words(entry)}.")

    def _answered(self, reader: Readable) -> None:
        if self._outage is not None:
            self._outage = None
            if "outage" in self._said:
                self._said.discard("outage")
                refresher.logger().info("The store at %s answers again.", reader.uri)

    def _say(self, what: str, sentence: str) -> None:
        if what not in self._said:
            self._said.add(what)
            refresher.logger().warning("%s", sentence)

    def _again(self) -> float:
        return self._outage.until if self._outage else _clock() + _AGAIN_S

    def _due(self, ref: Ref) -> float:
        # Up to a tenth earlier, so that many processes started at one time do not all ask at one time.
        return _clock() + self.settings.prompt_ttl_s * (1 - 0.1 * _spread(str(ref)))

    # -- locks ------------------------------------------------------------------------------------
    def _one_at_a_time(self, key: str) -> threading.Lock:
        with self._lock:
            return self._firsts.setdefault(key, threading.Lock())

    def _unlock(self) -> None:
        self._lock, self._opening = threading.Lock(), threading.Lock()
        self._firsts: dict[str, threading.Lock] = {}
        self._pending: set[str] = set()

    def in_child(self) -> None:
        """A forked child has the parent's memory, but none of its threads, connections and locks."""
        if isinstance(self._pinned, FromLock):
            self._pinned.in_child()
        begun, self._reader = self._pending, self._given
        self._unlock()
        for key in begun:  # what a thread of the parent's is about to ask for, the child asks for itself
            if (entry := self.entries.get(key)) is not None:
                entry.due = min(entry.due, 0.0)


_OUTAGES = (StoreUnavailable, MissingExtra)
"""No answer at all; every other error is one."""
_REPLACED = (NotFound, StoreUnavailable, MissingExtra, Corrupt, InvalidFile)
"""What a fallback stands in for; a ref or an argument that is wrong is told all the same."""

_alive: WeakSet[PromptSource] = WeakSet()


def _in_child() -> None:
    for source in _alive:
        source.in_child()


refresher.in_child(_in_child)


def _made(version: Version) -> Prompt:
    with refresher.loading():
        try:
            return prompt_of(version)
        except InvalidValue as error:  # of a newer Steelyard, say
            raise Corrupt(f"{version.name}@{version.number}", error.what, do=error.do) from None


def _spread(text: str) -> float:
    """A number from 0 to 1 that differs between processes."""
    import os

    return hash((text, os.getpid())) % 1000 / 1000
