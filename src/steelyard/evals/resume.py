"""Where a run begins: anew, or where an interrupted run of the very same thing stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steelyard.core.canonical import JSON
from steelyard.core.clock import stamp
from steelyard.core.errors import Corrupt, InvalidValue, RunStopped, SteelyardError
from steelyard.core.results import Row
from steelyard.evals.workspace import Workspace
from steelyard.evidence.bundle import EvidenceBundle, EvidenceWriter, new_evidence_id
from steelyard.evidence.claim import Claim, unended

__all__ = ["RETRIED", "Begun", "begin", "how_to_resume", "storing", "worth_retrying"]

RETRIED = frozenset(
    {"transport", "timeout", "rate_limit", "provider", "auth", "budget", "cancelled", "replay_miss"}
)
"""Kinds of failure that the row did not earn: another try may go well."""

_COMPARED = ("gate", "identity", "planned", "policy", "advisory")


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A run that can go on.

    Attributes:
        writer: Takes its rows; None for a bundle that was sealed and only has to be stored.
        answered: Rows that have outputs, and whose scores are to be made again.
        sealed: The sealed bundle, with the claim on it; None for one that is being written.
        claim: The claim on the sealed bundle.
    """

    writer: EvidenceWriter | None = None
    answered: Mapping[tuple[str, int], Row] = field(default_factory=dict[tuple[str, int], Row])
    sealed: EvidenceBundle | None = None
    claim: Claim | None = None


def worth_retrying(row: Row) -> bool:
    """Whether the row, or a score of it, failed for a reason that another try may not meet."""
    if row.failure is not None:
        return row.failure.kind in RETRIED
    return any(s.error is not None and s.error.kind in RETRIED for s in row.scores)


def how_to_resume(workspace: Workspace, evidence_id: str) -> str:
    """The command that goes on with a run, or what to do where none can."""
    if workspace.origin is not None:
        return f"steelyard resume {evidence_id}"
    return "run the same code again: it resumes by itself"


def begin(workspace: Workspace, manifest: Mapping[str, JSON], *, decided: bool) -> Begun:
    """A new bundle, or the newest unended one of the same run.

    The same run means: the same gate, prompt, task, model, dataset, evaluators, planned rows and policy, by
    digest. What failed there for a reason that may have passed is run again, everything else is kept.

    Args:
        workspace: Where bundles lie, and whether to resume.
        manifest: What is to be run.
        decided: Whether the run ends in a verdict; a sealed bundle is only taken up by its like.

    Raises:
        RunStopped: the run cannot be written here, or the bundle asked for cannot be gone on with.
    """
    with storing(workspace, str(manifest["gate"]), None):
        if workspace.resume_errors and workspace.resume_id is not None:
            carried = _carry(workspace, manifest, workspace.resume_id)
            if carried is not None:
                return carried
        if workspace.settings.on_incomplete == "resume":
            for folder in unended(workspace.evidence_folder):
                begun = _take_up(workspace, folder, manifest, decided=decided)
                if begun is not None:
                    return begun
        return Begun(writer=EvidenceWriter(workspace.evidence_folder / new_evidence_id(), manifest))


def _take_up(
    workspace: Workspace, folder: Path, manifest: Mapping[str, JSON], *, decided: bool
) -> Begun | None:
    try:
        bundle = EvidenceBundle.open(folder)
    except (Corrupt, InvalidValue):  # one bad bundle never stops a run; `steelyard resume` names it
        return None
    if not _same(bundle.manifest, manifest) or (bundle.sealed and (bundle.verdict_bytes is None) is decided):
        return None
    claim = Claim.take(folder)
    if claim is None:
        if workspace.resume_id == folder.name:
            raise RunStopped(
                str(manifest["gate"]),
                f"another process is running {folder.name}",
                do="Wait for it, or end it first.",
            )
        workspace.note(f"another process is running {folder.name}; this is a run of its own")
        return None
    if bundle.sealed:  # between its seal and the store: nothing is to be run
        if not (folder / "seal.json").is_file():
            return None
        workspace.note(f"took up {folder.name}: all rows were there, only its evidence was not stored")
        workspace.resumed.append(folder.name)
        return Begun(sealed=bundle, claim=claim)
    if (folder / "seal.json").is_file():  # sealed by another process since we looked
        claim.release(ended=False)
        return None
    provenance: dict[str, Any] = dict(bundle.manifest.get("provenance") or manifest["provenance"])
    provenance["resumed"] = [*provenance.get("resumed", ()), stamp()]
    writer = EvidenceWriter(folder, {**manifest, "provenance": provenance}, claim=claim, redo=worth_retrying)
    again = len(writer.retried)
    workspace.note(
        f"resumed {len(writer.written)} of {writer.planned} rows of {folder.name}"
        + (f"; {again} that failed are run again" if again else "")
    )
    workspace.resumed.append(folder.name)
    return Begun(writer=writer, answered=_answered(writer.retried))


def _carry(workspace: Workspace, manifest: Mapping[str, JSON], evidence_id: str) -> Begun | None:
    """A new bundle with the good rows of a sealed one."""
    old = EvidenceBundle.open(
        workspace.store.open_evidence(evidence_id, workspace.evidence_folder)
        if not (workspace.evidence_folder / evidence_id).is_dir()
        else workspace.evidence_folder / evidence_id
    )
    if not old.sealed or not _same(old.manifest, manifest):
        return None
    old.verify()
    rows = old.scores.rows
    failed = {r.key: r for r in rows if worth_retrying(r)}
    workspace.resumed.append(evidence_id)
    missing = len(old.manifest["planned"]) - len(rows)
    if not failed and not missing:
        workspace.note(f"{evidence_id} holds no row that failed for a reason worth another try")
    writer = EvidenceWriter(
        workspace.evidence_folder / new_evidence_id(),
        {**manifest, "carried": {"from": evidence_id, "rows": len(rows) - len(failed)}},
    )
    for row in rows:
        if row.key not in failed:
            writer.append(row)
    workspace.note(
        f"resumed {len(writer.written)} of {len(old.manifest['planned'])} rows of {evidence_id} "
        f"as {writer.id}; {len(failed) + missing} are run again"
    )
    return Begun(writer=writer, answered=_answered(failed))


def _answered(rows: Mapping[tuple[str, int], Row]) -> dict[tuple[str, int], Row]:
    return {key: row for key, row in rows.items() if row.failure is None}


def _same(one: Mapping[str, JSON], other: Mapping[str, JSON]) -> bool:
    return all(_part(one, key) == _part(other, key) for key in _COMPARED)


def _part(manifest: Mapping[str, JSON], key: str) -> JSON:
    value = manifest.get(key)
    if key == "identity" and isinstance(value, Mapping):
        # Names are for people; digests decide.
        return {k: v for k, v in value.items() if k not in ("lm_name", "dataset_name")}
    return value


class storing:
    """Turns a disk that cannot be written into one sentence; the run stays as it is and can be resumed.

    Args:
        workspace: Where the run was started from.
        gate: The gate's name.
        writer: What is being written; None while nothing is.
    """

    def __init__(self, workspace: Workspace, gate: str, writer: EvidenceWriter | None) -> None:
        self._workspace, self._gate, self._writer = workspace, gate, writer

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if not isinstance(error, OSError) or isinstance(error, SteelyardError):
            return
        where = self._workspace.shown(self._workspace.evidence_folder)
        what = f"{where} cannot be written ({error.strerror or error})"
        if self._writer is None:
            raise RunStopped(self._gate, what, do="Nothing was run: make room, or set `home`.") from None
        raise RunStopped(
            self._gate,
            f"{what} after {len(self._writer.written)} of {self._writer.planned} rows",
            do=f"Make room, then: {how_to_resume(self._workspace, self._writer.id)}",
        ) from None
