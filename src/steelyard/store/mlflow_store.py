"""The store on MLflow: SQLite on this machine, another database, or a server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from steelyard.core.canonical import JSON, is_digest
from steelyard.core.settings import Settings
from steelyard.store.aliases import Aliases
from steelyard.store.backend import Backend
from steelyard.store.opening import store_uri
from steelyard.store.place import shown
from steelyard.store.protocol import EvidenceInfo, Kind, LedgerEntry, RunRecord, Version
from steelyard.store.registry import Versions
from steelyard.store.runs import Runs
from steelyard.store.select import check_entry, check_evidence_id, check_kind, check_target, pick

__all__ = ["MlflowStore"]


class MlflowStore:
    """A `Store` on MLflow. `MlflowStore.open(settings)` makes one; `open_store` does it for you."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._versions = Versions(backend)
        self._aliases = Aliases(self._versions)
        self._runs = Runs(backend)

    @classmethod
    def open(cls, settings: Settings) -> MlflowStore:
        """The store at `settings.tracking_uri`, or SQLite under `settings.home`.

        Raises:
            StoreUnavailable: it cannot be reached or used.
        """
        return cls(Backend.open(store_uri(settings), settings))

    @property
    def uri(self) -> str:
        """Where it is, without user, password and query."""
        return shown(self._backend.uri)

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
        with self._backend.guard():
            return self._versions.register(kind, name, digest, content, tags or {})

    def versions(self, kind: Kind, name: str) -> list[Version]:
        """All versions, oldest first."""
        check_target(kind, name)
        with self._backend.guard():
            return self._versions.all(kind, name)

    def version(self, kind: Kind, name: str, selector: int | str) -> Version:
        """The version with a number or a digest."""
        check_target(kind, name)
        with self._backend.guard():
            if isinstance(selector, str) and is_digest(selector):
                found = self._versions.by_digest(kind, name, selector)
                if found is not None:
                    return found
            return pick(kind, name, self._versions.all(kind, name), selector)

    def names(self, kind: Kind) -> list[str]:
        """All names of the kind that have a version, sorted."""
        check_kind(kind)
        with self._backend.guard():
            return self._versions.names(kind)

    def delete_version(self, kind: Kind, name: str, number: int) -> None:
        """Delete a version that no alias stands at."""
        check_target(kind, name)
        with self._backend.guard():
            self._aliases.delete(self.version(kind, name, number))

    # -- aliases and ledger -----------------------------------------------------------------------
    def aliases(self, kind: Kind, name: str) -> dict[str, str]:
        """Digest by alias, as the ledger has it; MLflow's own aliases are mended to it."""
        check_target(kind, name)
        with self._backend.guard():
            return self._aliases.state(kind, name)

    def move_alias(self, entry: LedgerEntry) -> LedgerEntry:
        """Append the entry if the alias stands at `entry.before`."""
        check_entry(entry)
        with self._backend.guard():
            return self._aliases.move(entry)

    def history(self, kind: Kind, name: str, alias: str | None = None) -> list[LedgerEntry]:
        """The entries that took effect, by alias and number."""
        check_target(kind, name)
        with self._backend.guard():
            return self._aliases.history(kind, name, alias)

    # -- runs and evidence ------------------------------------------------------------------------
    def record_run(self, record: RunRecord) -> str:
        """Write a finished run and its artifacts; the run's id."""
        with self._backend.guard():
            return self._runs.record(record)

    def add_evidence(self, info: EvidenceInfo, folder: Path, run: RunRecord) -> EvidenceInfo:
        """Store a sealed bundle with its run, once."""
        check_evidence_id(info.id)
        with self._backend.guard():
            return self._runs.add_evidence(info, folder, run)

    def evidence(
        self,
        *,
        name: str | None = None,
        subject: str | None = None,
        candidate: str | None = None,
        yardstick: str | None = None,
    ) -> list[EvidenceInfo]:
        """The bundles that match all given values, oldest first."""
        with self._backend.guard():
            return self._runs.find(name=name, subject=subject, candidate=candidate, yardstick=yardstick)

    def open_evidence(self, evidence_id: str, to: Path) -> Path:
        """The bundle's folder, fetched to `to/<id>` unless it is there."""
        check_evidence_id(evidence_id)
        with self._backend.guard():
            return self._runs.fetch(evidence_id, to)

    def read_run(self, run_id: str, to: Path) -> RunRecord:
        """A recorded run; its artifacts are copied under `to`."""
        with self._backend.guard():
            return self._runs.read(run_id, to)

    def delete_evidence(self, evidence_id: str) -> None:
        """Delete a bundle and its run for good."""
        check_evidence_id(evidence_id)
        with self._backend.guard():
            self._runs.delete(evidence_id)

    # -- what `steelyard store check` and `gc` ask beyond that ------------------------------------
    def ledger_names(self, kind: Kind) -> list[str]:
        """All names of the kind that have a ledger, whether or not they have a version left."""
        check_kind(kind)
        with self._backend.guard():
            return self._versions.names(kind, tag="steelyard.ledger")

    def drift(self, kind: Kind, name: str) -> list[str]:
        """In what MLflow's view of a name is behind its ledger, a sentence each; reading aliases mends it."""
        check_target(kind, name)
        with self._backend.guard():
            return self._aliases.drift(kind, name)

    def mend(self, kind: Kind, name: str) -> None:
        """Bring MLflow's own view of a name to its ledger."""
        check_target(kind, name)
        with self._backend.guard():
            self._aliases.mend(kind, name)

    def damaged_evidence(self) -> dict[str, str]:
        """What is wrong with it, by the run of every bundle whose description was changed."""
        with self._backend.guard():
            damaged: dict[str, str] = {}
            self._runs.find(damaged=damaged)
            return damaged

    def evidence_size(self, evidence_id: str) -> int:
        """Bytes of a bundle's files in the store; 0 where there is none."""
        check_evidence_id(evidence_id)
        with self._backend.guard():
            return self._runs.size(evidence_id)

    def unfinished_evidence(self) -> dict[str, str]:
        """When it began (RFC 3339), by the id of every bundle whose writer died or is still at it."""
        with self._backend.guard():
            return self._runs.unfinished()

    def close(self) -> None:
        """Give connections back."""
        self._backend.close()
