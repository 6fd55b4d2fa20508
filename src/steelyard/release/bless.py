"""The first blessing of an alias, and accepting the policies it is guarded by."""

from __future__ import annotations

from steelyard.core.canonical import short
from steelyard.core.clock import stamp
from steelyard.core.errors import NotFound, Refused
from steelyard.core.ref import check_alias, check_name
from steelyard.core.settings import Settings
from steelyard.gates.policy import Policy
from steelyard.prompts.files import read_working
from steelyard.prompts.lock import Lock, RequiredGate, bootstrap, lock_of, whoami
from steelyard.prompts.push import register
from steelyard.release.locking import gate_of, relock
from steelyard.release.rule import newest
from steelyard.store import EvidenceInfo, Kind, LedgerEntry, Store

__all__ = ["bless", "require"]


def bless(
    store: Store,
    settings: Settings,
    evidence: EvidenceInfo,
    *,
    alias: str = "production",
    floors_pass: bool,
    policy: Policy | None = None,
    reason: str | None = None,
) -> LedgerEntry:
    """The ledger entry by which an absent alias was set; the gate's policy guards it from now on.

    Another gate that blesses the same version right after adds its policy, and nothing moves.

    Args:
        store: The store.
        settings: Where files, lock and state are.
        evidence: The bundle of the version to bless, in the store.
        alias: The alias to set.
        floors_pass: Whether every floor and ceiling of the gate's policy passed.
        policy: The gate's policy; read from the bundle if left out.
        reason: Why, in words.

    Raises:
        Refused: the alias is set already, the floors do not pass, or the verdict was a failure.
        Conflict: another writer set it meanwhile.
    """
    check_alias(alias)
    kind, name, subject = evidence.kind, evidence.name, evidence.subject
    if name is None or subject is None:
        raise Refused(
            f"blessing the evidence {evidence.id}",
            because="its task names no version of anything, so there is nothing to bless",
            do="Give the gate a prompt=...",
        )
    what = f"blessing {name}@{short(subject)} as {alias!r}"
    lock = lock_of(settings) if kind == "prompt" else Lock()
    bootstrap(lock, store, names=(name,))
    _registered(store, settings, kind, name, subject)
    current = store.aliases(kind, name).get(alias)
    locked = lock.alias(name, alias)
    last = store.history(kind, name, alias)[-1:]
    # A second gate on the version just blessed: it only adds to what guards the alias.
    joins = current == subject and last[0].action == "bless" and locked and evidence.gate not in locked.gates
    if current is not None and not joins:
        raise Refused(
            what,
            because=f"{alias!r} stands at {short(current)} already, and bless only sets what is absent",
            do=f"Compare and promote: steelyard gate, then steelyard prompts promote {name}",
        )
    if policy is not None and policy.digest != evidence.policy:
        raise Refused(
            what,
            because=f"its policy was {short(evidence.policy)} then, and is {short(policy.digest)} now",
            do="Run the gate again with the policy as it is now.",
        )
    if not floors_pass or evidence.outcome == "fail":
        raise Refused(
            what,
            because=f"its floors do not pass (evidence {evidence.id}, verdict {evidence.outcome})",
            do="Improve the prompt, or set floors that a pilot supports.",
        )
    gate = gate_of(settings, store, evidence, policy)
    if joins and locked is not None:
        known = [e for e in store.evidence(name=name) if e.id in {d.id for d in locked.evidence}]
        gates = {**locked.gates, evidence.gate: gate}
        relock(settings, store, kind, name, alias, gates=gates, evidence=[*known, evidence])
        return last[0]
    entry = store.move_alias(
        LedgerEntry(
            kind=kind,
            name=name,
            alias=alias,
            before=None,
            after=subject,
            action="bless",
            who=whoami(),
            when=stamp(),
            evidence=(evidence.id,),
            verdict=evidence.outcome,
            policy=evidence.policy,
            reason=reason,
        )
    )
    relock(settings, store, kind, name, alias, gates={evidence.gate: gate}, evidence=[evidence])
    return entry


def require(
    store: Store,
    settings: Settings,
    name: str,
    gate: str,
    *,
    alias: str = "production",
    policy: Policy | None = None,
    kind: Kind = "prompt",
) -> RequiredGate:
    """The gate as it is required for an alias from now on: new, or with a changed policy.

    It stands in the lock file, where reviewers see it; nothing moves.

    Args:
        store: The store.
        settings: Where the lock is.
        name: The prompt's name.
        gate: The gate.
        alias: The alias it guards.
        policy: The policy; that of the gate's newest evidence for this name if left out.
        kind: What it is a version of.

    Raises:
        NotFound: the alias is absent, or the gate has decided nothing about this name yet.
    """
    check_name(name, kind="prompt name")
    check_alias(alias)
    lock = lock_of(settings)
    bootstrap(lock, store, names=(name,))
    aliases = store.aliases(kind, name)
    if alias not in aliases:
        raise NotFound("alias", alias, existing=aliases, where=f"{kind} {name!r}")
    if policy is not None:
        rule = RequiredGate(policy=policy.digest, requirements=tuple(map(str, policy.requirements)))
    else:
        evidence = store.evidence(name=name)
        found = newest(evidence, gate)
        if found is None:
            raise NotFound(
                "gate",
                gate,
                existing={e.gate for e in evidence},
                where=f"the evidence for {name!r}",
                do="Run it first: steelyard gate",
            )
        rule = gate_of(settings, store, found)
    gates = {**_gates(lock, name, alias), gate: rule}
    relock(settings, store, kind, name, alias, gates=gates)
    return rule


def _gates(lock: Lock, name: str, alias: str) -> dict[str, RequiredGate]:
    locked = lock.alias(name, alias)
    return dict(locked.gates) if locked is not None else {}


def _registered(store: Store, settings: Settings, kind: Kind, name: str, subject: str) -> None:
    """Make sure the version is in the store: the working file is pushed if it is that very version."""
    try:
        store.version(kind, name, subject)
        return
    except NotFound:
        if kind != "prompt":
            raise
    working = read_working(name, settings)
    if working.digest != subject:
        raise Refused(
            f"blessing {name}@{short(subject)}",
            because=f"the file has changed to {short(working.digest)} since the gate ran",
            do="Run the gate again.",
        )
    register(working, store)
