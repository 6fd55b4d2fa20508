"""What may go, and letting it go: evidence, copies of it, recordings, what killed processes left behind.

Never what an alias or a ledger needs: a bundle that decided any move ever made, every bundle of a version at
which an alias stands now, the bundles that the lock file names, the newest of each gate.

Deleting may be killed at any point and begun again; nothing is seen half. A run that goes on meanwhile keeps
what it uses: a copy that was opened is as new as its last opening.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Collection, Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args

from steelyard.core.errors import InvalidValue, Refused
from steelyard.store.protocol import EvidenceInfo, Kind, Store
from steelyard.store.select import check_evidence_id

__all__ = ["Goner", "Retention", "alone", "plan", "sweep"]

What: TypeAlias = Literal["evidence", "copy", "incomplete", "recording", "leftover"]
_SOON = timedelta(days=1)
"""Nothing younger goes, whatever the rules say: someone may be at it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long things are kept.

    Attributes:
        evidence_days: Days that evidence is kept, in the store and as a copy here.
        keep_last: Bundles kept of each gate and prompt, however old.
        replay_days: Days that a recording is kept after it was last used.
        incomplete_days: Days that a run which did not end can still be resumed.
    """

    evidence_days: int = 180
    keep_last: int = 20
    replay_days: int = 90
    incomplete_days: int = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Goner:
    """One thing that may go.

    Attributes:
        what: `evidence` (in the store), `copy` (a bundle here), `incomplete` (a run that did not end),
            `recording`, `leftover` (of a process that was killed).
        id: The bundle's id, or the file's path under the home folder.
        path: Where it lies here; None for what lies in the store.
        bytes: How much it takes.
        age_days: Whole days since it was made or used.
        info: What the store knows of it.
    """

    what: What
    id: str
    path: Path | None = None
    bytes: int = 0
    age_days: int = 0
    info: EvidenceInfo | None = None


@contextlib.contextmanager
def alone(home: Path) -> Generator[None]:
    """A stretch in which no other `gc` goes through the same home folder.

    Raises:
        Refused: another one does.
    """
    from filelock import FileLock, Timeout

    home.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home / "gc.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise Refused(
            "a second gc on the same folder",
            because=f"another one holds {home / 'gc.lock'}",
            do="Wait until it has ended.",
        ) from None
    try:
        yield
    finally:
        lock.release()


def plan(
    store: Store, home: Path, retention: Retention, *, locked: Collection[str], now: datetime
) -> list[Goner]:
    """Everything that may go, oldest first of each sort. Nothing is changed.

    Args:
        store: The store.
        home: The home folder, with `evidence/` and `replay/`.
        retention: The rules.
        locked: Ids of the bundles that the lock file names.
        now: The time.
    """
    evidence = store.evidence()
    kept = _newest(evidence, retention.keep_last)
    old = [e for e in evidence if _days(now, _moment(e.created)) >= max(1, retention.evidence_days)]
    goners = [
        _stored(store, e, now)
        for e in old
        if e.id not in locked and e.id not in kept and not _needed(store, e)
    ]
    if hasattr(store, "unfinished_evidence"):
        unfinished: dict[str, str] = cast("Any", store).unfinished_evidence()
        for evidence_id, began in unfinished.items():
            days = _days(now, _moment(began))
            if days >= max(1, retention.incomplete_days):
                goners.append(Goner(what="incomplete", id=evidence_id, age_days=days))
    here = {e.id for e in evidence}
    goners += _folders(home / "evidence", retention, here=here, locked=locked, now=now)
    goners += _recordings(home / "replay", retention, now)
    return goners


def sweep(store: Store, goners: list[Goner], *, locked: Collection[str]) -> Iterator[Goner]:
    """What was deleted, one by one; what has come to be needed since the plan was made stays."""
    for goner in goners:
        if goner.path is None:
            if goner.info is not None and (goner.id in locked or _needed(store, goner.info)):
                continue
            store.delete_evidence(goner.id)
        elif goner.path.is_dir():
            aside = goner.path.with_name(f".gc-{goner.path.name.lstrip('.')}")
            try:
                goner.path.rename(aside)  # gone at once for whoever looks, however long deleting takes
            except FileNotFoundError:
                continue
            except OSError:
                aside = goner.path  # a leftover of the same name is there; the next gc takes both
            shutil.rmtree(aside, ignore_errors=True)
        else:
            goner.path.unlink(missing_ok=True)
        yield goner


def _newest(evidence: list[EvidenceInfo], count: int) -> set[str]:
    by_gate: dict[tuple[str, str | None], list[str]] = {}
    for info in evidence:  # oldest first
        by_gate.setdefault((info.gate, info.name), []).append(info.id)
    return {i for ids in by_gate.values() for i in ids[len(ids) - min(count, len(ids)) :]}


def _needed(store: Store, info: EvidenceInfo) -> bool:
    """Whether a ledger names the bundle, or an alias stands at the version that it weighed."""
    kinds: tuple[Kind, ...] = get_args(Kind)
    for kind in kinds:
        for name in (info.name,) if info.name is not None else store.names(kind):
            if any(info.id in e.evidence for e in store.history(kind, name)):
                return True
            if info.subject is not None and info.subject in store.aliases(kind, name).values():
                return True
    return False


def _stored(store: Store, info: EvidenceInfo, now: datetime) -> Goner:
    size = cast("Any", store).evidence_size(info.id) if hasattr(store, "evidence_size") else 0
    return Goner(
        what="evidence", id=info.id, bytes=size, age_days=_days(now, _moment(info.created)), info=info
    )


def _folders(
    folder: Path, retention: Retention, *, here: set[str], locked: Collection[str], now: datetime
) -> Iterator[Goner]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_symlink() or not path.is_dir():
            continue
        age = now - datetime.fromtimestamp(_last_change(path), UTC)
        if path.name.startswith((".gc-", ".fetch-", ".tmp")):
            if age >= _SOON or path.name.startswith(".gc-"):
                yield Goner(what="leftover", id=path.name, path=path, bytes=_bytes(path), age_days=age.days)
            continue
        try:
            check_evidence_id(path.name)
        except InvalidValue:
            continue  # not ours
        sealed = (path / "seal.json").is_file()
        days = retention.evidence_days if sealed else retention.incomplete_days
        # A sealed bundle that the store has can be fetched again; one that it has not may be the only one.
        if age.days < max(1, days) or (sealed and path.name not in here and path.name in locked):
            continue
        what: What = "copy" if sealed else "incomplete"
        yield Goner(what=what, id=path.name, path=path, bytes=_bytes(path), age_days=age.days)


def _recordings(folder: Path, retention: Retention, now: datetime) -> Iterator[Goner]:
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.suffix not in (".rec", ".tmp") or path.is_symlink() or not path.is_file():
            continue
        stat = path.stat()
        # Which run used it is not written down; that it was read lately is, where the file system keeps it.
        age = now - datetime.fromtimestamp(max(stat.st_mtime, stat.st_atime), UTC)
        days = retention.replay_days if path.suffix == ".rec" else 1
        if age.days >= max(1, days):
            what: What = "recording" if path.suffix == ".rec" else "leftover"
            name = path.relative_to(folder.parent).as_posix()
            yield Goner(what=what, id=name, path=path, bytes=stat.st_size, age_days=age.days)


def _last_change(folder: Path) -> float:
    times = [folder.stat().st_mtime]
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            times.append(path.stat().st_mtime)
    return max(times)


def _bytes(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink())


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _days(now: datetime, then: datetime) -> int:
    return (now - then).days
