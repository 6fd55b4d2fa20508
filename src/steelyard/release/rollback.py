"""Rolling back: always allowed, always recorded."""

from __future__ import annotations

from collections.abc import Sequence

from steelyard.core.canonical import short
from steelyard.core.clock import stamp
from steelyard.core.errors import NotFound, Refused
from steelyard.core.ref import Ref, check_alias, check_name
from steelyard.core.settings import Settings
from steelyard.prompts.lock import bootstrap, lock_of, whoami
from steelyard.release.locking import relock
from steelyard.release.promote import target_digest
from steelyard.store import Kind, LedgerEntry, Store

__all__ = ["history", "previous", "rollback"]


def history(
    store: Store, settings: Settings, name: str, *, alias: str | None = None, kind: Kind = "prompt"
) -> list[LedgerEntry]:
    """The moves of a name's aliases, oldest first (by alias); the lock's are taken over before."""
    check_name(name, kind="prompt name")
    bootstrap(lock_of(settings), store, names=(name,))
    return store.history(kind, name, alias)


def rollback(
    store: Store,
    settings: Settings,
    name: str,
    *,
    alias: str = "production",
    to: Ref | str | None = None,
    reason: str | None = None,
    kind: Kind = "prompt",
) -> LedgerEntry:
    """The ledger entry by which an alias went back.

    Without `to` it goes to where it stood before it came to its present version; rolling back again goes one
    step further. With `to` it goes there, if it ever stood there.

    Raises:
        Refused: it has never stood elsewhere, or never stood at `to`. NotFound: the alias is absent.
        Conflict: another writer moved it meanwhile.
    """
    check_alias(alias)
    entries = history(store, settings, name, alias=alias, kind=kind)
    aliases = store.aliases(kind, name)
    if alias not in aliases:
        raise NotFound("alias", alias, existing=aliases, where=f"{kind} {name!r}")
    current = aliases[alias]
    if to is None:
        target = previous(entries)
        if target is None:
            raise Refused(
                f"rolling back {name}@{alias}",
                because=f"it has stood nowhere before {short(current)}",
                do=f"Look at: steelyard prompts history {name}",
            )
    else:
        target = target_digest(store, settings, name, to, kind=kind)
        if target == current or all(e.after != target for e in entries):
            where = "is there now" if target == current else "never stood there"
            raise Refused(
                f"rolling back {name}@{alias} to {short(target)}",
                because=f"it {where}",
                do=f"Choose a version from: steelyard prompts history {name}",
            )
    entry = store.move_alias(
        LedgerEntry(
            kind=kind,
            name=name,
            alias=alias,
            before=current,
            after=target,
            action="rollback",
            who=whoami(),
            when=stamp(),
            reason=reason,
        )
    )
    relock(settings, store, kind, name, alias)
    return entry


def previous(entries: Sequence[LedgerEntry]) -> str | None:
    """Where an alias stood before its present version came, rollbacks undone; None if nowhere."""
    stack: list[str] = []
    for entry in entries:
        if entry.after is None:
            continue
        if entry.action == "rollback" and entry.after in stack:
            del stack[len(stack) - stack[::-1].index(entry.after) :]
        elif not stack or stack[-1] != entry.after:
            stack.append(entry.after)
    return stack[-2] if len(stack) > 1 else None
