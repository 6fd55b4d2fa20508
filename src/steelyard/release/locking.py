"""Keeping the lock file in step with the store, one change at a time."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

from steelyard.core.errors import MissingExtra, SteelyardError
from steelyard.core.settings import Settings
from steelyard.evidence import EvidenceBundle
from steelyard.gates.policy import Policy
from steelyard.prompts.lock import Decision, Lock, LockedAlias, RequiredGate, lock_of, write_lock
from steelyard.release.rule import DECIDED
from steelyard.store import EvidenceInfo, Kind, LedgerEntry, Store

try:  # when the module loads: an alias must not move if the lock file then cannot be written
    from filelock import FileLock
except ModuleNotFoundError:
    raise MissingExtra("filelock", extra="evals", needed_for="moving aliases") from None

__all__ = ["decision_of", "gate_of", "gates_from_ledger", "locked_from", "relock", "updating"]


@contextmanager
def updating(settings: Settings) -> Generator[None]:
    """A stretch in which no other process rewrites the lock file."""
    settings.home.mkdir(parents=True, exist_ok=True)
    with FileLock(settings.home / "lockfile.lock", timeout=60):
        yield


def relock(
    settings: Settings,
    store: Store,
    kind: Kind,
    name: str,
    alias: str,
    *,
    gates: Mapping[str, RequiredGate] | None = None,
    evidence: Sequence[EvidenceInfo] | None = None,
) -> Lock:
    """The lock after an alias moved: written anew with where the store has it now.

    Args:
        settings: Where the lock is.
        store: The store.
        kind: What moved.
        name: Its name.
        alias: The alias.
        gates: The gates required from now on; those that were if left out.
        evidence: What decided; that of the alias's last ledger entry if left out.
    """
    if kind != "prompt":  # the lock file is the prompts'; other kinds have the ledger alone
        return Lock()
    with updating(settings):
        lock = lock_of(settings)
        digest = store.aliases(kind, name).get(alias)
        if digest is None:
            changed = lock.with_alias(name, alias, None)
        else:
            locked = locked_from(settings, store, kind, name, alias, lock, gates=gates, evidence=evidence)
            changed = lock.with_alias(name, alias, locked, store.version(kind, name, digest).content)
        write_lock(settings.lock, changed)
    return changed


def locked_from(
    settings: Settings,
    store: Store,
    kind: Kind,
    name: str,
    alias: str,
    lock: Lock,
    *,
    gates: Mapping[str, RequiredGate] | None = None,
    evidence: Sequence[EvidenceInfo] | None = None,
) -> LockedAlias:
    """What the lock must say of an alias that stands somewhere in the store."""
    digest = store.aliases(kind, name)[alias]
    before = lock.alias(name, alias)
    if gates is None:
        gates = before.gates if before is not None else gates_from_ledger(settings, store, kind, name, alias)
    if evidence is None:
        entry = _reached_by(store.history(kind, name, alias), digest)
        wanted = entry.evidence if entry else ()
        evidence = [e for e in store.evidence(name=name) if e.id in wanted]
    decisions = {d.id: d for d in before.evidence} if before is not None else {}
    return LockedAlias(
        digest=digest,
        gates=gates,
        evidence=tuple(decisions.get(e.id) or decision_of(settings, store, e) for e in evidence),
    )


def decision_of(settings: Settings, store: Store, evidence: EvidenceInfo) -> Decision:
    """A bundle as the lock remembers it; what it measured with is read from the bundle itself."""
    short = Decision(id=evidence.id, gate=evidence.gate, outcome=evidence.outcome, policy=evidence.policy)
    try:
        identity = _bundle(settings, store, evidence.id).identity
    except (SteelyardError, OSError, KeyError, TypeError):  # the bundle is gone or damaged
        return short
    return Decision(
        id=evidence.id,
        gate=evidence.gate,
        outcome=evidence.outcome,
        policy=evidence.policy,
        task=identity.task,
        lm=identity.lm,
        dataset=identity.dataset,
        evaluators=dict(identity.evaluators),
    )


def gate_of(
    settings: Settings, store: Store, evidence: EvidenceInfo, policy: Policy | None = None
) -> RequiredGate:
    """The policy of a bundle as a required gate, in words where the policy can be read."""
    if policy is None:
        try:
            policy = Policy.from_json(_bundle(settings, store, evidence.id).manifest["policy"])
        except (SteelyardError, OSError, KeyError, TypeError):
            policy = None
    if policy is None or policy.digest != evidence.policy:
        return RequiredGate(policy=evidence.policy)
    return RequiredGate(policy=policy.digest, requirements=tuple(map(str, policy.requirements)))


def gates_from_ledger(
    settings: Settings, store: Store, kind: Kind, name: str, alias: str
) -> dict[str, RequiredGate]:
    """The gates behind the last move that evidence decided, where the lock that named them is lost."""
    for entry in reversed(store.history(kind, name, alias)):
        if entry.evidence and not entry.forced:
            found = [e for e in store.evidence(name=name) if e.id in entry.evidence and e.outcome in DECIDED]
            return {e.gate: gate_of(settings, store, e) for e in found}
    return {}


def _bundle(settings: Settings, store: Store, evidence_id: str) -> EvidenceBundle:
    folder = settings.home / "evidence"
    folder.mkdir(parents=True, exist_ok=True)
    bundle = EvidenceBundle.open(store.open_evidence(evidence_id, folder))
    bundle.verify()
    return bundle


def _reached_by(history: Sequence[LedgerEntry], digest: str) -> LedgerEntry | None:
    """The last entry by which evidence brought an alias to a digest (a rollback brings none of its own)."""
    reached = [e for e in history if e.after == digest]
    return next((e for e in reversed(reached) if e.evidence), reached[-1] if reached else None)
