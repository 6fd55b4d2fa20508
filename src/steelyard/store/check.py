"""Whether a store holds what it says: every alias, every ledger, every bundle, looked at one by one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from steelyard.core.canonical import digest, short
from steelyard.core.errors import SteelyardError, StoreUnavailable
from steelyard.evidence import EvidenceBundle
from steelyard.store.protocol import EvidenceInfo, Kind, LedgerEntry, Store

__all__ = ["Finding", "check"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        about: `version`, `alias`, `ledger`, `evidence` or `projection` (what MLflow shows beside the truth).
        where: On what, for people: `prompt team/intent`, `evidence 20260131T093000-1f2e3d4c`.
        what: What is wrong, a sentence without its full stop.
        mended: Whether it was repaired.
    """

    about: str
    where: str
    what: str
    mended: bool = False

    def __str__(self) -> str:
        return f"{self.about}: {self.where}: {self.what}{' (mended)' if self.mended else ''}"


def check(store: Store, *, repair: bool = False) -> Iterator[Finding]:
    """What is wrong with a store, as it is found.

    * every version reads back, and a prompt's content has the digest that it is known by;
    * every ledger is whole: no line missing or changed, each move from where the one before it ended;
    * every alias stands at a version that is there;
    * every bundle is there, has the seal that the store knows, and every file is what was sealed;
    * every bundle that a move names is there;
    * what MLflow shows is what the ledger says. This alone can be repaired, for nothing is lost with it.

    Args:
        store: The store.
        repair: Whether projections are brought back to the ledger.

    Raises:
        StoreUnavailable: it cannot be reached.
    """
    extras = cast("Any", store)
    damaged: Mapping[str, str] = extras.damaged_evidence() if hasattr(store, "damaged_evidence") else {}
    for run, what in damaged.items():
        yield Finding(about="evidence", where=f"run {run}", what=what)
    known: dict[str, EvidenceInfo] | None = None
    try:
        known = {e.id: e for e in store.evidence()}
    except StoreUnavailable:
        raise
    except SteelyardError as error:
        if not damaged:  # else it was said above
            yield Finding(about="evidence", where="the store", what=_said(error))
    for kind in get_args(Kind):
        names = set(store.names(kind))
        if hasattr(store, "ledger_names"):
            names |= set(extras.ledger_names(kind))
        for name in sorted(names):
            yield from _name(store, kind, name, known, repair=repair)
    for info in (known or {}).values():
        yield from _bundle(store, info)


def _name(
    store: Store, kind: Kind, name: str, known: Mapping[str, EvidenceInfo] | None, *, repair: bool
) -> Iterator[Finding]:
    where, extras = f"{kind} {name}", cast("Any", store)
    digests: set[str] = set()
    try:
        for version in store.versions(kind, name):
            digests.add(version.digest)
            if kind == "prompt" and digest(version.content) != version.digest:
                what = f"the content of version {version.number} is not that of {short(version.digest)}"
                yield Finding(about="version", where=where, what=what)
    except StoreUnavailable:
        raise
    except SteelyardError as error:
        yield Finding(about="version", where=where, what=_said(error))
        return
    try:
        # Before aliases are read, which mends what MLflow shows.
        drift: list[str] = extras.drift(kind, name) if hasattr(store, "drift") else []
        if drift and repair:
            extras.mend(kind, name)
        history = store.history(kind, name)
        # Only where nothing had drifted, so that a look without `repair` changes nothing.
        aliases = store.aliases(kind, name) if repair or not drift else _stands(history)
    except StoreUnavailable:
        raise
    except SteelyardError as error:
        yield Finding(about="ledger", where=where, what=_said(error))
        return
    for what in drift:
        yield Finding(about="projection", where=where, what=what, mended=repair)
    yield from _ledger(where, history, known)
    for alias, at in aliases.items():
        if at not in digests:
            what = f"it stands at {short(at)}, and no such version is there"
            yield Finding(about="alias", where=f"{where}@{alias}", what=what)


def _stands(history: list[LedgerEntry]) -> dict[str, str]:
    state = {e.alias: e.after for e in history}  # by alias and number, so the last one of each stays
    return {alias: at for alias, at in state.items() if at is not None}


def _ledger(
    where: str, history: list[LedgerEntry], known: Mapping[str, EvidenceInfo] | None
) -> Iterator[Finding]:
    stands: dict[str, str | None] = {}
    count: dict[str, int] = {}
    for entry in history:
        at = f"{where}@{entry.alias}"
        count[entry.alias] = count.get(entry.alias, 0) + 1
        if entry.number != count[entry.alias] or entry.before != stands.get(entry.alias):
            what = f"move {entry.number} begins at {short(entry.before)}, where none before it ended"
            yield Finding(about="ledger", where=at, what=what)
        stands[entry.alias] = entry.after
        if entry.action == "lock" or known is None:
            continue  # taken over from a lock file: the evidence lies in the store that it came from
        for evidence_id in entry.evidence:
            if evidence_id not in known:
                what = f"move {entry.number} was decided by {evidence_id}, and no such bundle is there"
                yield Finding(about="evidence", where=at, what=what)


def _bundle(store: Store, info: EvidenceInfo) -> Iterator[Finding]:
    where = f"evidence {info.id}"
    with tempfile.TemporaryDirectory(prefix="steelyard-check-") as folder:
        try:
            # From the store, not from the copy that may lie here.
            bundle = EvidenceBundle.open(store.open_evidence(info.id, Path(folder)))
            bundle.verify()
            if bundle.seal_digest != info.digest:
                what = f"its seal is {short(bundle.seal_digest)}, the store recorded {short(info.digest)}"
                yield Finding(about="evidence", where=where, what=what)
        except (SteelyardError, OSError) as error:
            # One bundle whose files are gone must not end the look at the others.
            yield Finding(about="evidence", where=where, what=_said(error))


def _said(error: BaseException) -> str:
    what = getattr(error, "what", None)
    return (what if isinstance(what, str) else str(error)).strip().rstrip(".")
