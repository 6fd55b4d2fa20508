"""The lock file: what each alias stands at, with the content itself, so that a clean clone starts from it.

    prompts:
      support-intent:
        production:
          digest: sha256:…           the version
          evidence: [...]            the bundles that decided, and what they measured with
          gates: {...}               the gates that a candidate must pass to replace it
    versions:
      support-intent:
        sha256:…: {...}              content of every version that an alias stands at

Same state, same bytes. People review it in a pull request; the store holds the history.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steelyard.core.canonical import JSON, short
from steelyard.core.errors import Conflict, InvalidValue
from steelyard.core.files import SHARED, replacing
from steelyard.core.settings import Settings

if TYPE_CHECKING:
    from steelyard.store import Store

__all__ = [
    "Decision",
    "Difference",
    "Lock",
    "LockedAlias",
    "RequiredGate",
    "bootstrap",
    "differences",
    "lock_of",
    "read_lock",
    "take_over",
    "whoami",
    "write_lock",
]

FORMAT = 1
_HEADER = """\
# The aliases of this project's prompts. Written by steelyard (promote, rollback, bless, sync);
# review it like code, do not edit it by hand. `steelyard prompts sync --check` compares it with the store.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequiredGate:
    """A gate that a candidate must pass.

    Attributes:
        policy: Digest of the policy that must decide.
        requirements: The policy in words, for reviewers.
    """

    policy: str
    requirements: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """An evidence bundle that decided, and what it measured with.

    Attributes:
        id: The bundle's id.
        gate: Its gate.
        outcome: Its verdict's outcome.
        policy: Digest of its policy.
        task: Digest of the task's code; None where it is not known.
        lm: Digest of the model; None where the task uses none or it is not known.
        dataset: Digest of the dataset; None where it is not known.
        evaluators: Digest of the evaluator behind each metric.
    """

    id: str
    gate: str
    outcome: str
    policy: str
    task: str | None = None
    lm: str | None = None
    dataset: str | None = None
    evaluators: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedAlias:
    """Where an alias stands, why, and what may replace it."""

    digest: str
    gates: Mapping[str, RequiredGate] = field(default_factory=dict[str, RequiredGate])
    evidence: tuple[Decision, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """The lock file as a value.

    Attributes:
        aliases: By prompt, by alias.
        versions: Content by prompt, by digest: of every version that an alias stands at.
    """

    aliases: Mapping[str, Mapping[str, LockedAlias]] = field(default_factory=dict[str, Any])
    versions: Mapping[str, Mapping[str, Mapping[str, JSON]]] = field(default_factory=dict[str, Any])

    def alias(self, name: str, alias: str) -> LockedAlias | None:
        """Where an alias stands, or None."""
        return self.aliases.get(name, {}).get(alias)

    def identity(self, name: str, alias: str, subject: str, gate: str) -> Mapping[str, Any] | None:
        """`task`, `lm`, `dataset`, `evaluators` that a version went live with under a gate, if recorded."""
        locked = self.alias(name, alias)
        if locked is None or locked.digest != subject:
            return None
        for decision in locked.evidence:
            if decision.gate == gate and decision.task is not None:
                return {
                    "task": decision.task,
                    "lm": decision.lm,
                    "dataset": decision.dataset,
                    "evaluators": dict(decision.evaluators),
                }
        return None

    def with_alias(
        self, name: str, alias: str, locked: LockedAlias | None, content: Mapping[str, JSON] | None = None
    ) -> Lock:
        """The lock with one alias changed (None: removed), and only the contents that are still needed."""
        aliases = {n: dict(a) for n, a in self.aliases.items()}
        aliases.setdefault(name, {}).pop(alias, None)
        if locked is not None:
            aliases[name][alias] = locked
        versions = {n: dict(v) for n, v in self.versions.items()}
        if locked is not None and content is not None:
            versions.setdefault(name, {})[locked.digest] = content
        needed = {(n, a.digest) for n, by_alias in aliases.items() for a in by_alias.values()}
        return Lock(
            aliases={n: a for n, a in aliases.items() if a},
            versions={
                n: kept
                for n, by_digest in versions.items()
                if (kept := {d: c for d, c in by_digest.items() if (n, d) in needed})
            },
        )

    def to_json(self) -> dict[str, JSON]:
        """The lock as a JSON object."""
        return {
            "format": FORMAT,
            "prompts": {
                name: {alias: _alias_json(locked) for alias, locked in by_alias.items()}
                for name, by_alias in self.aliases.items()
            },
            "versions": {n: {d: dict(c) for d, c in v.items()} for n, v in self.versions.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """An alias that lock and store see differently; None means absent there."""

    name: str
    alias: str
    lock: str | None
    store: str | None
    ahead: str

    def __str__(self) -> str:
        lock, store = (short(d) if d else "absent" for d in (self.lock, self.store))
        where = f"{lock} in the lock, {store} in the store"
        return f"{self.name}@{self.alias}: {where} (the {self.ahead} is ahead)"


def read_lock(path: Path) -> Lock:
    """The lock that a file holds.

    Raises:
        InvalidFile: it cannot be read, has unknown keys, or content that is not that of its digest.
    """
    from steelyard.prompts.lock_reader import read

    return read(path)


def lock_of(settings: Settings) -> Lock:
    """The settings' lock; an empty one if there is no file."""
    return read_lock(settings.lock) if settings.lock.is_file() else Lock()


def write_lock(path: Path, lock: Lock) -> None:
    """Write the file anew; at every moment the old one or the new one is there."""
    from steelyard.prompts.lock_reader import read
    from steelyard.prompts.strict_yaml import dump

    data = (_HEADER + dump(lock.to_json())).encode("utf-8")
    if path.is_file() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, mode=SHARED) as file:
        file.write(data)
        file.flush()
        if read(Path(file.name)).to_json() != lock.to_json():
            raise InvalidValue("the lock does not read back as it was written", do="Report this as a bug.")


def bootstrap(lock: Lock, store: Store, *, names: tuple[str, ...] | None = None) -> list[Difference]:
    """Take over the lock's aliases that the store has never known; what else differs.

    A taken-over alias stands in the ledger with the action `lock`. Where the store knows the alias, the
    store wins.

    Args:
        lock: The committed lock.
        store: The store.
        names: Only these prompts; all if left out.
    """
    found: list[Difference] = []
    for name, by_alias in lock.aliases.items():
        if names is not None and name not in names:
            continue
        current = store.aliases("prompt", name)
        for alias, locked in by_alias.items():
            now = current.get(alias)
            if now is None and not store.history("prompt", name, alias):
                take_over(lock, store, name, alias, before=None)
                now = store.aliases("prompt", name).get(alias)
            if now != locked.digest:
                found.append(_difference(store, name, alias, locked.digest, now))
    return found


def take_over(lock: Lock, store: Store, name: str, alias: str, *, before: str | None) -> None:
    """Move an alias to where the lock has it. Another writer who was first is left alone."""
    from steelyard.core.clock import stamp
    from steelyard.store import LedgerEntry

    locked = lock.aliases[name][alias]
    store.register("prompt", name, digest=locked.digest, content=lock.versions[name][locked.digest])
    entry = LedgerEntry(
        kind="prompt",
        name=name,
        alias=alias,
        before=before,
        after=locked.digest,
        action="lock",
        who=whoami(),
        when=stamp(),
        evidence=tuple(d.id for d in locked.evidence),
        reason="taken over from the committed lock file",
    )
    try:
        store.move_alias(entry)
    except Conflict:
        return


def differences(lock: Lock, store: Store) -> list[Difference]:
    """Every alias that lock and store see differently, without changing either."""
    found: list[Difference] = []
    for name in sorted({*lock.aliases, *store.names("prompt")}):
        current = store.aliases("prompt", name)
        locked = lock.aliases.get(name, {})
        for alias in sorted({*current, *locked}):
            wanted = locked[alias].digest if alias in locked else None
            if current.get(alias) != wanted:
                found.append(_difference(store, name, alias, wanted, current.get(alias)))
    return found


def whoami() -> str:
    """Account and host, for people."""
    import getpass
    import socket

    try:
        account = getpass.getuser()
    except (KeyError, OSError, ImportError):  # an account without a name, as in some containers
        account = "unknown"
    return f"{account}@{socket.gethostname()}"


def _difference(store: Store, name: str, alias: str, locked: str | None, stored: str | None) -> Difference:
    """Who is ahead: a store that has been where the lock is has moved on since; otherwise the lock has."""
    been_there = any(e.after == locked for e in store.history("prompt", name, alias))
    ahead = "store" if been_there or locked is None else "lock"
    return Difference(name=name, alias=alias, lock=locked, store=stored, ahead=ahead)


def _alias_json(locked: LockedAlias) -> dict[str, JSON]:
    return {
        "digest": locked.digest,
        "gates": {
            gate: {"policy": rule.policy, "requirements": list(rule.requirements)}
            for gate, rule in locked.gates.items()
        },
        "evidence": [
            {k: getattr(d, k) for k in d.__dataclass_fields__} | {"evaluators": dict(d.evaluators)}
            for d in locked.evidence
        ],
    }
