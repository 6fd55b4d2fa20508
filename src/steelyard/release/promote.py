"""Promotion: an alias moves to a candidate that evidence carries, or the refusal says what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steelyard.core.canonical import digest, short
from steelyard.core.clock import stamp
from steelyard.core.errors import InvalidValue, NotFound, Refused
from steelyard.core.ref import Ref, check_alias, check_name
from steelyard.core.settings import Settings
from steelyard.gates.verdict import OUTCOMES
from steelyard.prompts.files import read_working
from steelyard.prompts.lock import Lock, bootstrap, lock_of, whoami
from steelyard.prompts.push import register
from steelyard.release.environments import skipped
from steelyard.release.locking import gates_from_ledger, relock
from steelyard.release.rule import Standing, newest, weigh_evidence
from steelyard.store import EvidenceInfo, Kind, LedgerEntry, Store

__all__ = ["promote", "target_digest"]

_OUTCOMES: tuple[str, ...] = OUTCOMES


def promote(
    store: Store,
    settings: Settings,
    name: str,
    *,
    alias: str = "production",
    to: Ref | str | None = None,
    evidence: Sequence[EvidenceInfo] | None = None,
    force: bool = False,
    reason: str | None = None,
    kind: Kind = "prompt",
) -> LedgerEntry:
    """The ledger entry by which an alias moved to a candidate.

    Every gate that is required for the alias (in the lock, else by the ledger's last evidence) must have
    passed for that very digest, by the required policy, against the version that the alias stands at now;
    the newest decided evidence of each gate counts. An alias that is one of `settings.environments` takes
    only what stands at the environment before it.

    Args:
        store: The store.
        settings: Where files, lock and state are.
        name: The prompt's name.
        alias: The alias to move.
        to: The candidate: a ref, or a digest; the working file if left out, registered if it is new.
        evidence: What to weigh; everything the store has of this name if left out.
        force: Move without evidence; needs a reason, and stands in the ledger.
        reason: Why, in words.
        kind: What it is a version of.

    Raises:
        Refused: the evidence does not carry it; the text says what is missing and how to get it.
        NotFound: no such candidate. Conflict: another writer moved the alias meanwhile.
    """
    check_name(name, kind="prompt name")
    check_alias(alias)
    if force and not (reason or "").strip():
        raise InvalidValue("a forced promotion needs a reason", do="Say why: --force --reason '...'.")
    lock = lock_of(settings) if kind == "prompt" else Lock()
    bootstrap(lock, store, names=(name,))
    candidate = target_digest(store, settings, name, to, kind=kind)
    aliases = store.aliases(kind, name)
    current = aliases.get(alias)
    what = f"promoting {name}@{short(candidate)} to {alias!r}"
    if current == candidate:
        raise Refused(what, because="it is there already", do="Nothing is left to do.")
    locked = lock.alias(name, alias)
    gates = locked.gates if locked else gates_from_ledger(settings, store, kind, name, alias)
    required = {gate: rule.policy for gate, rule in gates.items()}
    found = [e for e in (store.evidence(name=name) if evidence is None else evidence) if e.kind == kind]
    standing = Standing(carried=(), missing=())
    if current is not None:
        standing = weigh_evidence(candidate, alias=alias, current=current, required=required, evidence=found)
    if not force:
        before = skipped(candidate, alias, aliases, settings.environments)
        if before is not None:
            raise _skips(what, name, before, aliases, settings)
        if current is None:
            raise Refused(
                what,
                because=f"{alias!r} is absent, so there is nothing it was compared with",
                do="Set it for the first time with: steelyard bless"
                + ("" if alias == settings.baseline else f" --alias {alias}"),
            )
        if standing.missing:
            because = "; ".join(standing.missing)
            raise Refused(what, because=because, do=_advice(name, alias, required, standing))
    decided = standing.carried
    if force:  # what the newest verdicts said is kept all the same
        own = [e for e in found if e.subject == candidate]
        decided = tuple(e for gate in sorted(required) if (e := newest(own, gate)) is not None)
    entry = store.move_alias(
        LedgerEntry(
            kind=kind,
            name=name,
            alias=alias,
            before=current,
            after=candidate,
            action="promote",
            who=whoami(),
            when=stamp(),
            evidence=tuple(e.id for e in decided),
            verdict=min((e.outcome for e in decided), key=_OUTCOMES.index, default=None),
            policy=_policy({e.gate: e.policy for e in decided}) if decided else None,
            forced=force,
            reason=reason,
        )
    )
    relock(settings, store, kind, name, alias, gates=gates, evidence=decided)
    return entry


def target_digest(
    store: Store, settings: Settings, name: str, to: Ref | str | None, *, kind: Kind = "prompt"
) -> str:
    """The digest that a ref, a digest or nothing (the working file, registered if new) means.

    Raises:
        InvalidValue: the ref is of another name. NotFound: no such version, alias or file.
    """
    if isinstance(to, str):
        to = Ref.parse(to if "@" in to or not to.startswith("sha256:") else f"{name}@{to}")
    if to is not None and to.name != name:
        raise InvalidValue(f"{str(to)!r} is no version of {name!r}", do=f"Name one of {name!r}.")
    if to is None or to.is_working:
        if kind != "prompt":
            raise InvalidValue(f"a {kind} has no working file", do=f"Name the version: {name}@3.")
        return register(read_working(name, settings), store).digest
    if to.alias is not None:
        aliases = store.aliases(kind, name)
        if to.alias not in aliases:
            raise NotFound("alias", to.alias, existing=aliases, where=f"{kind} {name!r}")
        return aliases[to.alias]
    return store.version(kind, name, to.version or to.digest or "").digest


def _skips(what: str, name: str, environment: str, aliases: Mapping[str, str], settings: Settings) -> Refused:
    order = " → ".join(settings.environments)
    at = short(aliases[environment]) if environment in aliases else "absent"
    return Refused(
        what,
        because=f"it skips {environment!r}, which is {'at ' if environment in aliases else ''}{at} ({order})",
        do=f"Promote it there first: steelyard prompts promote {name} --alias {environment}; "
        "or override it: --force --reason '...'.",
    )


def _policy(required: dict[str, str]) -> str:
    """The digest of the policy that decided; of all policies by gate where there are several."""
    return next(iter(required.values())) if len(required) == 1 else digest(required)


def _advice(name: str, alias: str, required: dict[str, str], standing: Standing) -> str:
    if not required:
        return f"Accept a gate's policy with: steelyard prompts require {name} GATE --alias {alias}"
    text = (
        "Improve it, then run the gate: steelyard gate"
        if any("is fail" in m for m in standing.missing)
        else "Run the gate on this version: steelyard gate"
    )
    if any("is required" in m for m in standing.missing):
        text += f"; or accept the changed policy: steelyard prompts require {name} GATE --alias {alias}"
    return text + "; or override it: --force --reason '...'."
