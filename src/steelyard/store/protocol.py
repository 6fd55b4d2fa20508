"""What a store owes: versions, aliases with compare-and-swap, the promotions ledger, runs, evidence.

Files in git are the source; the store is the mirror and the ledger. Every implementation passes
`steelyard.testing.store_contract`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from steelyard.core.canonical import JSON

__all__ = ["EvidenceInfo", "Kind", "LedgerEntry", "RunRecord", "Store", "Version"]

Kind = Literal["prompt", "model", "adapter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A registered version.

    Attributes:
        kind: What it is a version of.
        name: Its name, folders split by `/`.
        number: The registry's integer, 1 and up, unique under (kind, name).
        digest: Identity of the content, `sha256:<hex>`.
        content: The content, a JSON object.
        created: RFC 3339 time of registration.
        tags: Free text by key; not part of the identity.
    """

    kind: Kind
    name: str
    number: int
    digest: str
    content: Mapping[str, JSON]
    created: str
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One move of one alias. Entries are only ever appended.

    Attributes:
        number: Position in the history of this (kind, name, alias), 1 and up; 0 before it is written.
        kind: As in `Version`.
        name: As in `Version`.
        alias: The alias that moved.
        before: Digest it stood at, None if absent.
        after: Digest it stands at, None if removed.
        action: `promote`, `rollback`, `bless`, `lock` (taken over from the committed lock file), `remove`.
        who: Account and host, for people.
        when: RFC 3339 time.
        evidence: Ids of the evidence bundles that decided; empty where none did.
        verdict: Outcome of the verdict, None where none was asked for.
        policy: Digest of the policy that decided, None where none did.
        forced: Whether the rules were overridden.
        reason: Why, in words; required where forced.
    """

    number: int = 0
    kind: Kind
    name: str
    alias: str
    before: str | None
    after: str | None
    action: str
    who: str
    when: str
    evidence: tuple[str, ...] = ()
    verdict: str | None = None
    policy: str | None = None
    forced: bool = False
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A finished run to record, written in one batch.

    Attributes:
        experiment: MLflow experiment; made if absent.
        name: The run's name.
        status: `FINISHED` or `FAILED`.
        params: Text by key, values up to 6,000 characters (cut with a mark beyond).
        metrics: Numbers by key; a list is a series by step.
        tags: Text by key.
        artifacts: Local file or folder by path inside the run's artifacts.
        started: RFC 3339 time.
        ended: RFC 3339 time.
    """

    experiment: str
    name: str
    status: str = "FINISHED"
    params: Mapping[str, str] = field(default_factory=dict[str, str])
    metrics: Mapping[str, float | Sequence[float]] = field(default_factory=dict[str, Any])
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    artifacts: Mapping[str, Path] = field(default_factory=dict[str, Path])
    started: str
    ended: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceInfo:
    """What the store knows of an evidence bundle without opening it.

    Attributes:
        id: The bundle's id.
        digest: Digest of its seal.
        gate: Name of the gate that made it.
        kind: Kind of the candidate.
        name: Name of the candidate, None where the task uses none.
        subject: Digest of the candidate version.
        candidate: `Identity.candidate`.
        yardstick: `Identity.yardstick`.
        values: `Scores.digest_of_values` of the candidate's rows.
        outcome: Outcome of its verdict.
        policy: Digest of the policy.
        baselines: Subject digest compared with, by alias; None where the alias was absent.
        metrics: Mean of each metric of the candidate.
        created: RFC 3339 time.
        run_id: The store's run that holds it; None before it is written.
    """

    id: str
    digest: str
    gate: str
    kind: Kind
    name: str | None
    subject: str | None
    candidate: str
    yardstick: str
    values: str
    outcome: str
    policy: str
    baselines: Mapping[str, str | None]
    metrics: Mapping[str, float]
    created: str
    run_id: str | None = None


class Store(Protocol):
    """The shared tracking and registry core. Every method is safe to call from several threads.

    Names are checked by `core.check_name`, aliases by `core.check_alias`, before any I/O. What cannot be
    reached raises `StoreUnavailable`; what is not there raises `NotFound`, naming what is.
    """

    @property
    def uri(self) -> str:
        """Where it is, for people; no secrets."""
        ...

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
        """The version with this digest; made if it is new, else the one that is there, tags unchanged.

        Two processes registering one digest at one time get one version back. Content of any size comes back
        exactly as it went in. Content is on disk when this returns.
        """
        ...

    def versions(self, kind: Kind, name: str) -> list[Version]:
        """All versions, oldest first; empty if there are none."""
        ...

    def version(self, kind: Kind, name: str, selector: int | str) -> Version:
        """The version with a number, or with a digest (whole, or a prefix that fits only one).

        Raises:
            NotFound: none fits. InvalidValue: a prefix fits several.
        """
        ...

    def names(self, kind: Kind) -> list[str]:
        """All names of the kind, sorted."""
        ...

    def delete_version(self, kind: Kind, name: str, number: int) -> None:
        """Delete a version.

        Raises:
            Refused: an alias points at it, or a ledger entry's current state needs it. NotFound.
        """
        ...

    # -- aliases and ledger -----------------------------------------------------------------------
    def aliases(self, kind: Kind, name: str) -> dict[str, str]:
        """Digest by alias, as the ledger has it."""
        ...

    def move_alias(self, entry: LedgerEntry) -> LedgerEntry:
        """Append the entry if the alias stands at `entry.before` at that moment (compare-and-swap).

        The ledger entry and the move are one: after a crash at any point both happened or neither. Of two
        writers exactly one wins. The entry comes back with its number.

        Raises:
            Conflict: the alias stands elsewhere. NotFound: `entry.after` is not registered.
        """
        ...

    def history(self, kind: Kind, name: str, alias: str | None = None) -> list[LedgerEntry]:
        """The entries that took effect, oldest first (by alias and number)."""
        ...

    # -- runs and evidence ------------------------------------------------------------------------
    def record_run(self, record: RunRecord) -> str:
        """Write a finished run and its artifacts; the run's id."""
        ...

    def add_evidence(self, info: EvidenceInfo, folder: Path, run: RunRecord) -> EvidenceInfo:
        """Store a sealed bundle with its run, so that `evidence` and `open_evidence` find it.

        Adding a bundle id that is there already changes nothing. Comes back with `run_id`.
        """
        ...

    def evidence(
        self,
        *,
        name: str | None = None,
        subject: str | None = None,
        candidate: str | None = None,
        yardstick: str | None = None,
    ) -> list[EvidenceInfo]:
        """The bundles that match all given values, oldest first."""
        ...

    def open_evidence(self, evidence_id: str, to: Path) -> Path:
        """The bundle's folder, copied to `to/<id>` unless it is there; the caller verifies its checksums.

        Raises:
            NotFound: no such bundle.
        """
        ...

    def read_run(self, run_id: str, to: Path) -> RunRecord:
        """A recorded run as it can be recorded elsewhere; its artifacts are copied under `to`.

        Not in it: an evidence bundle (see `open_evidence`), and what the store cut or changed when it wrote.

        Raises:
            NotFound: no such run.
        """
        ...

    def delete_evidence(self, evidence_id: str) -> None:
        """Delete a bundle and its run for good; nothing where there is none.

        Killed half-way it is not found any more, and deleting it again takes the rest. Who needs the bundle
        is the caller's to know (`steelyard gc` does).
        """
        ...

    def close(self) -> None:
        """Release what is held; the store can be opened again."""
        ...
