"""A store that lives and dies with its process: for tests, and for trying things out."""

from __future__ import annotations

import copy
import json
import threading
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from steelyard.core.canonical import JSON, canonical
from steelyard.core.clock import stamp
from steelyard.core.errors import Conflict, InvalidValue, NotFound, Refused
from steelyard.store.protocol import EvidenceInfo, Kind, LedgerEntry, RunRecord, Version
from steelyard.store.select import check_entry, check_evidence_id, check_kind, check_target, not_found, pick

__all__ = ["MemoryStore"]


class MemoryStore:
    """A `Store` in memory. `runs` holds the recorded runs by id, for tests to look at."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._versions: dict[tuple[Kind, str], list[Version]] = {}
        self._numbers: dict[tuple[Kind, str], int] = {}
        self._ledger: dict[tuple[Kind, str], list[LedgerEntry]] = {}
        self._evidence: dict[str, tuple[EvidenceInfo, dict[str, bytes]]] = {}
        self.runs: dict[str, RunRecord] = {}

    @property
    def uri(self) -> str:
        """`memory:`."""
        return "memory:"

    # -- versions ---------------------------------------------------------------------------------
    def register(
        self,
        kind: Kind,
        name: str,
        *,
        digest: str,
        content: Mapping[str, JSON],
        tags: Mapping[str, str] | None = None,
    ) -> Version:
        """The version with this digest, made if it is new."""
        check_target(kind, name, digest)
        canonical(content)  # refuses what JSON cannot hold
        kept = json.loads(json.dumps(dict(content)))
        with self._lock:
            versions = self._versions.setdefault((kind, name), [])
            for version in versions:
                if version.digest == digest:
                    return copy.deepcopy(version)
            number = self._numbers[kind, name] = self._numbers.get((kind, name), 0) + 1
            version = Version(
                kind=kind,
                name=name,
                number=number,
                digest=digest,
                content=kept,
                created=stamp(),
                tags=dict(tags or {}),
            )
            versions.append(version)
            return copy.deepcopy(version)

    def versions(self, kind: Kind, name: str) -> list[Version]:
        """All versions, oldest first."""
        check_target(kind, name)
        with self._lock:
            return copy.deepcopy(self._versions.get((kind, name), []))

    def version(self, kind: Kind, name: str, selector: int | str) -> Version:
        """The version with a number or a digest."""
        return pick(kind, name, self.versions(kind, name), selector)

    def names(self, kind: Kind) -> list[str]:
        """All names of the kind that have a version, sorted."""
        check_kind(kind)
        with self._lock:
            return sorted(n for (k, n), versions in self._versions.items() if k == kind and versions)

    def delete_version(self, kind: Kind, name: str, number: int) -> None:
        """Delete a version that no alias stands at."""
        with self._lock:
            version = self.version(kind, name, number)
            for alias, digest in self.aliases(kind, name).items():
                if digest == version.digest:
                    raise Refused(
                        f"deleting version {number} of {kind} {name!r}",
                        because=f"alias {alias!r} points at it",
                        do="Move or remove the alias first.",
                    )
            self._versions[kind, name] = [v for v in self._versions[kind, name] if v.number != number]

    # -- aliases and ledger -----------------------------------------------------------------------
    def aliases(self, kind: Kind, name: str) -> dict[str, str]:
        """Digest by alias."""
        check_target(kind, name)
        with self._lock:
            state: dict[str, str] = {}
            for entry in self._ledger.get((kind, name), []):
                if entry.after is None:
                    state.pop(entry.alias, None)
                else:
                    state[entry.alias] = entry.after
            return dict(sorted(state.items()))

    def move_alias(self, entry: LedgerEntry) -> LedgerEntry:
        """Append the entry if the alias stands at `entry.before`."""
        check_entry(entry)
        with self._lock:
            actual = self.aliases(entry.kind, entry.name).get(entry.alias)
            if actual != entry.before:
                raise Conflict(
                    f"alias {entry.alias!r} of {entry.kind} {entry.name!r}",
                    expected=entry.before,
                    actual=actual,
                    wanted=entry.after,
                )
            versions = self._versions.get((entry.kind, entry.name), [])
            if entry.after is not None and all(v.digest != entry.after for v in versions):
                raise not_found(entry.kind, entry.name, entry.after, versions)
            entries = self._ledger.setdefault((entry.kind, entry.name), [])
            written = replace(entry, number=1 + sum(e.alias == entry.alias for e in entries))
            entries.append(written)
            return written

    def history(self, kind: Kind, name: str, alias: str | None = None) -> list[LedgerEntry]:
        """The entries that took effect, by alias and number."""
        check_target(kind, name)
        with self._lock:
            entries = [e for e in self._ledger.get((kind, name), []) if alias in (None, e.alias)]
            return sorted(entries, key=lambda e: (e.alias, e.number))

    # -- runs and evidence ------------------------------------------------------------------------
    def record_run(self, record: RunRecord) -> str:
        """Keep a finished run; the run's id."""
        for at, path in record.artifacts.items():
            if not path.exists():
                raise InvalidValue(f"the artifact {at!r} of run {record.name!r} is not at {path}", do=_WRITE)
        run_id = uuid.uuid4().hex
        with self._lock:
            self.runs[run_id] = record
        return run_id

    def add_evidence(self, info: EvidenceInfo, folder: Path, run: RunRecord) -> EvidenceInfo:
        """Keep a copy of a sealed bundle, once."""
        check_evidence_id(info.id)
        with self._lock:
            if info.id in self._evidence:
                return self._evidence[info.id][0]
            if not folder.is_dir():
                raise InvalidValue(f"the evidence {info.id!r} is not at {folder}", do=_WRITE)
            files = {
                path.relative_to(folder).as_posix(): path.read_bytes()
                for path in sorted(folder.rglob("*"))
                if path.is_file()
            }
            stored = replace(info, run_id=self.record_run(run))
            self._evidence[info.id] = (stored, files)
            return stored

    def evidence(
        self,
        *,
        name: str | None = None,
        subject: str | None = None,
        candidate: str | None = None,
        yardstick: str | None = None,
    ) -> list[EvidenceInfo]:
        """The bundles that match all given values, oldest first."""
        wanted = {"name": name, "subject": subject, "candidate": candidate, "yardstick": yardstick}
        with self._lock:
            found = [
                info
                for info, _ in self._evidence.values()
                if all(value in (None, getattr(info, key)) for key, value in wanted.items())
            ]
        return sorted(found, key=lambda i: (i.created, i.id))

    def open_evidence(self, evidence_id: str, to: Path) -> Path:
        """The bundle's folder, written to `to/<id>` unless it is there."""
        check_evidence_id(evidence_id)
        with self._lock:
            if evidence_id not in self._evidence:
                raise NotFound("evidence", evidence_id, existing=self._evidence, where=self.uri)
            files = self._evidence[evidence_id][1]
        target = to / evidence_id
        if not target.exists():
            part = to / f".{evidence_id}.{uuid.uuid4().hex[:8]}"
            for path, data in files.items():
                (part / path).parent.mkdir(parents=True, exist_ok=True)
                (part / path).write_bytes(data)
            try:
                part.rename(target)
            except OSError:  # another thread was first
                if not target.exists():
                    raise
        return target

    def read_run(self, run_id: str, to: Path) -> RunRecord:
        """The run as it was recorded; its artifacts are where they were."""
        with self._lock:
            if run_id not in self.runs:
                raise NotFound("run", run_id, existing=self.runs, where=self.uri)
            return self.runs[run_id]

    def delete_evidence(self, evidence_id: str) -> None:
        """Forget a bundle and its run."""
        check_evidence_id(evidence_id)
        with self._lock:
            stored = self._evidence.pop(evidence_id, None)
            if stored is not None and stored[0].run_id is not None:
                self.runs.pop(stored[0].run_id, None)

    def close(self) -> None:
        """Nothing to release: what is in memory stays until the store itself goes."""


_WRITE = "Write it before it is recorded."
