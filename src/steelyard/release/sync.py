"""The registry as the mirror of files and lock."""

from __future__ import annotations

from dataclasses import dataclass

from steelyard.core.settings import Settings
from steelyard.prompts.lock import Difference, bootstrap, differences, lock_of, take_over
from steelyard.prompts.push import Pushed, push, unpushed
from steelyard.release.locking import relock
from steelyard.store import Store

__all__ = ["SyncReport", "sync", "sync_check"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """What differs, or what was done about it.

    Attributes:
        unpushed: Working files that the store does not hold as they are.
        differences: Aliases that lock and store see differently.
    """

    unpushed: tuple[str, ...]
    differences: tuple[Difference, ...]

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.unpushed or self.differences)

    def lines(self) -> list[str]:
        """One line a difference, for people."""
        return [f"{n}: the working file is not in the store" for n in self.unpushed] + [
            str(d) for d in self.differences
        ]


def sync_check(store: Store, settings: Settings) -> SyncReport:
    """What files, lock and store disagree on; nothing is changed."""
    return SyncReport(
        unpushed=tuple(unpushed(settings, store)),
        differences=tuple(differences(lock_of(settings), store)),
    )


def sync(store: Store, settings: Settings) -> tuple[list[Pushed], list[Difference]]:
    """What was pushed, and the aliases that were brought together.

    Working files are registered. An alias goes where the lock has it if the store has never been there (the
    ledger says `lock`); if the store has moved on since, the store wins and the lock file is written anew.
    """
    lock = lock_of(settings)
    found = differences(lock, store)
    pushed = push(settings, store)
    bootstrap(lock, store)
    for difference in found:
        if difference.ahead == "lock":
            if difference.store is not None:
                take_over(lock, store, difference.name, difference.alias, before=difference.store)
        else:
            relock(settings, store, "prompt", difference.name, difference.alias)
    return pushed, found
