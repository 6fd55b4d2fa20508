"""Aliases and their ledger in MLflow: compare-and-swap out of numbered, append-only lines.

See docs/decisions/0201. MLflow's own aliases are a projection of the ledger, for its UI and for whoever loads
by alias through MLflow; a crash may leave one behind, and the next look at the aliases mends it.
"""

from __future__ import annotations

import contextlib
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from steelyard.core.canonical import short
from steelyard.core.errors import Conflict, Corrupt, Refused, StoreUnavailable
from steelyard.store.ledger import Ledger, Line, replay
from steelyard.store.naming import base_name, join_text, ledger_name, split_text
from steelyard.store.outage import cut_short, outage_of, patience_left
from steelyard.store.place import shown
from steelyard.store.protocol import Kind, LedgerEntry, Version
from steelyard.store.registry import NAME, Versions
from steelyard.store.select import not_found

__all__ = ["Aliases"]

_LINE, _NONCE = "steelyard.line", "steelyard.nonce"
_TRIES = 5  # repairs of one projection against others that move it meanwhile
_NOT_FOR_MLFLOW = re.compile(r"v\d+")  # MLflow keeps these to itself


class Aliases:
    """Moving aliases, and what became of them."""

    def __init__(self, versions: Versions) -> None:
        self._versions, self._series, self._backend = versions, versions.series, versions.backend

    def state(self, kind: Kind, name: str) -> dict[str, str]:
        """Digest by alias; MLflow's own aliases are mended on the way."""
        ledger = self._ledger(kind, name)
        if ledger.moves:
            self._show(kind, name, ledger)
        return {alias: digest for alias, (digest, _) in sorted(ledger.state.items())}

    def history(self, kind: Kind, name: str, alias: str | None) -> list[LedgerEntry]:
        """The moves that took effect, by alias and number."""
        entries = [e for e in self._ledger(kind, name).moves.values() if alias in (None, e.alias)]
        return sorted(entries, key=lambda e: (e.alias, e.number))

    def move(self, entry: LedgerEntry) -> LedgerEntry:
        """Append the entry if the alias stands at `entry.before`."""
        kind, name = entry.kind, entry.name
        ledger = self._ledger(kind, name)
        if ledger.at(entry.alias) != entry.before:
            raise _conflict(entry, ledger.at(entry.alias))
        target = None if entry.after is None else self._target(entry, ledger)
        written = self._append(kind, name, replace(entry, number=0), target)
        ledger = self._ledger(kind, name)
        if written not in ledger.moves:
            stood = ledger.stood.get(written)
            if stood == entry.before:  # so it was the deletion of the target that came first
                raise not_found(kind, name, entry.after or "", self._versions.all(kind, name))
            raise _conflict(entry, stood)
        self._show(kind, name, ledger)
        return ledger.moves[written]

    def delete(self, version: Version) -> None:
        """Delete a version, unless an alias stands at it.

        The deletion is a line of the ledger first, so that it and a move to that version cannot both happen.
        """
        kind, name = version.kind, version.name
        ledger = self._ledger(kind, name)
        if version.number not in ledger.deleted:
            if not ledger.holds(version.digest):
                self._append(kind, name, None, version)
                ledger = self._ledger(kind, name)
            if version.number not in ledger.deleted:
                aliases = ", ".join(map(repr, ledger.holds(version.digest)))
                raise Refused(
                    f"deleting version {version.number} of {kind} {name!r}",
                    because=f"alias {aliases} points at it",
                    do="Move or remove the alias first.",
                )
        self._versions.delete(kind, name, version.digest)

    def drift(self, kind: Kind, name: str) -> list[str]:
        """In what MLflow's view is behind the ledger, a sentence each. Nothing is changed."""
        ledger = self._ledger(kind, name)
        out = [
            f"MLflow's alias {a!r} is at version {there or 'none'}, the ledger's at {n or 'none'}"
            for a, n, there in self._wrong(kind, name, ledger)
        ]
        left = [v for v in self._versions.all(kind, name) if v.number in ledger.deleted]
        return out + [f"version {v.number} was deleted and is still there" for v in left]

    def mend(self, kind: Kind, name: str) -> None:
        """Bring MLflow's view to the ledger."""
        ledger = self._ledger(kind, name)
        self._project(kind, name, ledger)
        for version in self._versions.all(kind, name):
            if version.number in ledger.deleted:
                self._versions.delete(kind, name, version.digest)

    # -- lines ------------------------------------------------------------------------------------
    def _target(self, entry: LedgerEntry, ledger: Ledger) -> Version:
        assert entry.after is not None
        found = self._versions.by_digest(entry.kind, entry.name, entry.after)
        if found is not None and found.number in ledger.deleted:
            self._versions.delete(entry.kind, entry.name, entry.after)  # its deleter died half-way
            found = None
        if found is None:
            raise not_found(entry.kind, entry.name, entry.after, self._versions.all(entry.kind, entry.name))
        return found

    def _append(self, kind: Kind, name: str, entry: LedgerEntry | None, version: Version | None) -> int:
        at, nonce = ledger_name(kind, name), uuid.uuid4().hex
        line = {
            "entry": None if entry is None else asdict(entry),
            "version": version.number if version else None,
            "digest": version.digest if version else "",
        }
        tags = {
            "steelyard.ledger": kind,
            NAME: name,
            _NONCE: nonce,
            **split_text(_LINE, json.dumps(line)),
        }
        description = _in_words(entry, version)
        self._series.ensure(
            at,
            {"steelyard.ledger": kind, NAME: name},
            f"Steelyard's ledger of the aliases of {kind} {name!r}. Do not edit.",
        )
        for turn in (1, 2):
            try:
                number = self._series.append(at, tags, description=description)
                if turn == 1:
                    return number
            except Exception as error:
                # The answer was lost, perhaps not the write: the nonce tells. If it is not there it may still
                # come, so the same line goes out once more: of two with one nonce the lower one counts.
                try:
                    mine = cut_short(partial(self._series.read, at, nonce=nonce), max(1.0, patience_left()))
                except Exception:  # whatever it is, what is raised below says all there is to say
                    mine = None
                if mine:
                    return int(mine[0].version)
                if mine is not None and turn == 1 and outage_of(error) == "unanswered":
                    continue
                raise StoreUnavailable(
                    shown(self._backend.uri),
                    f"no answer to a move in the ledger of {kind} {name!r}, and it is not known whether "
                    f"it took effect ({' '.join(str(error).split())[:200]})",
                    do="Look at its history before trying again.",
                ) from error
        return int(self._series.read(at, nonce=nonce)[0].version)

    def _ledger(self, kind: Kind, name: str) -> Ledger:
        at = ledger_name(kind, name)
        where = f"{shown(self._backend.uri)} ledger of {kind} {name!r}"
        lines: list[Line] = []
        found = self._series.read(at)
        for expected, version in enumerate(found, 1):
            if int(version.version) != expected:
                raise Corrupt(
                    where,
                    f"line {expected} is missing",
                    do=f"Someone deleted it: restore it, or delete the model {at!r} in MLflow to begin anew.",
                )
            if _NONCE not in version.tags:
                continue  # not ours; it holds a number and says nothing
            raw = json.loads(join_text(_LINE, version.tags, where=f"{where}, line {expected}"))
            lines.append(
                Line(
                    number=expected,
                    nonce=version.tags[_NONCE],
                    entry=None if raw["entry"] is None else _entry(raw["entry"]),
                    version=raw["version"],
                    digest=raw["digest"],
                )
            )
        return replay(lines)

    # -- MLflow's own aliases -----------------------------------------------------------------------
    def _show(self, kind: Kind, name: str, ledger: Ledger) -> None:
        """Set MLflow's aliases to the ledger's, as far as that can be done now."""
        # The move took effect with its line; whoever may only read, or meets another who writes the same row
        # at the same moment, must not be told that it failed. The next look mends what is behind.
        with contextlib.suppress(Exception):
            self._project(kind, name, ledger)

    def _project(self, kind: Kind, name: str, ledger: Ledger) -> None:
        """Set MLflow's aliases to the ledger's; aliases that the ledger never saw are left alone."""
        at, client = base_name(kind, name), self._backend.registry
        for _ in range(_TRIES):
            wrong = self._wrong(kind, name, ledger)
            if not wrong:
                return
            for alias, number, _there in wrong:
                if number is None:
                    client.delete_registered_model_alias(at, alias)
                elif not self._set(at, alias, number):
                    return  # its version was deleted in MLflow itself; the ledger still says where it stands
            # Someone may have moved it since we read the ledger, and we may just have set it back.
            ledger = self._ledger(kind, name)

    def _wrong(self, kind: Kind, name: str, ledger: Ledger) -> list[tuple[str, int | None, int | None]]:
        """Alias, version by the ledger, version in MLflow, of every alias that differs."""
        at = base_name(kind, name)
        model = self._backend.find(lambda: self._backend.registry.get_registered_model(at))
        if model is None:
            return []
        there = {a: int(v) for a, v in dict(model.aliases).items()}
        wanted = {a: ledger.state.get(a, ("", None))[1] for a in {e.alias for e in ledger.moves.values()}}
        return [
            (a, n, there.get(a))
            for a, n in sorted(wanted.items())
            if there.get(a) != n and not _NOT_FOR_MLFLOW.fullmatch(a)
        ]

    def _set(self, at: str, alias: str, number: int) -> bool:
        def call() -> bool:
            self._backend.registry.set_registered_model_alias(at, alias, str(number))
            return True

        return self._backend.find(call) is not None


def _conflict(entry: LedgerEntry, actual: str | None) -> Conflict:
    return Conflict(
        f"alias {entry.alias!r} of {entry.kind} {entry.name!r}",
        expected=entry.before,
        actual=actual,
        wanted=entry.after,
    )


def _entry(raw: Mapping[str, Any]) -> LedgerEntry:
    fields: dict[str, Any] = {**raw, "evidence": tuple(raw["evidence"])}
    return LedgerEntry(**fields)


def _in_words(entry: LedgerEntry | None, version: Version | None) -> str:
    if entry is None:
        return f"delete version {version.number if version else '-'}"
    forced = f", forced: {entry.reason}" if entry.forced else ""
    return (
        f"{entry.action} {entry.alias}: {short(entry.before)} → {short(entry.after)} "
        f"by {entry.who} at {entry.when}, verdict {entry.verdict or 'none'}{forced}"
    )[:1000]
