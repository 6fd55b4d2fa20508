"""The ledger's rule: from numbered lines to what took effect. Pure, so that it can be tested to death.

A ledger is a series of lines that the registry numbers 1, 2, 3 … without a gap. Anyone may append; whether a
line takes effect follows from the lines below it alone, so every reader agrees, for ever:

* a move takes effect iff its alias then stands at `before` and its target is not deleted;
* a deletion takes effect iff no alias then stands at that version;
* a line whose nonce stood below already (a request sent twice) takes no effect.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from steelyard.store.protocol import LedgerEntry

__all__ = ["Ledger", "Line", "replay"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One numbered line.

    Attributes:
        number: The number that the registry gave.
        nonce: Made once by the writer, so that it finds its line again.
        entry: The move; None for a deletion.
        version: Number of the version that is moved to or deleted; None for a removal.
        digest: Digest of the version that is deleted; empty for a move.
    """

    number: int
    nonce: str
    entry: LedgerEntry | None
    version: int | None
    digest: str = ""


@dataclass(slots=True, kw_only=True)
class Ledger:
    """What the lines amount to.

    Attributes:
        state: Digest and version number by alias.
        moves: The moves that took effect, by line number; each is numbered within its alias.
        deleted: Numbers of deleted versions.
        stood: Where the alias stood when the line came, by line number.
    """

    state: dict[str, tuple[str, int | None]] = field(default_factory=dict[str, tuple[str, int | None]])
    moves: dict[int, LedgerEntry] = field(default_factory=dict[int, LedgerEntry])
    deleted: set[int] = field(default_factory=set[int])
    stood: dict[int, str | None] = field(default_factory=dict[int, str | None])

    def at(self, alias: str) -> str | None:
        """The digest that an alias stands at, None if it is absent."""
        found = self.state.get(alias)
        return found[0] if found else None

    def holds(self, digest: str) -> list[str]:
        """The aliases that stand at a digest."""
        return sorted(a for a, (d, _) in self.state.items() if d == digest)


def replay(lines: Iterable[Line]) -> Ledger:
    """What a series of lines, in order of number, amounts to."""
    ledger = Ledger()
    seen: set[str] = set()
    count: dict[str, int] = {}
    for line in sorted(lines, key=lambda x: x.number):
        repeated = line.nonce in seen
        seen.add(line.nonce)
        entry = line.entry
        if entry is None:
            if not repeated and line.version is not None and not ledger.holds(line.digest):
                ledger.deleted.add(line.version)
            continue
        ledger.stood[line.number] = ledger.at(entry.alias)
        if repeated or ledger.at(entry.alias) != entry.before or line.version in ledger.deleted:
            continue
        if entry.after is None:
            del ledger.state[entry.alias]
        else:
            ledger.state[entry.alias] = (entry.after, line.version)
        number = count[entry.alias] = count.get(entry.alias, 0) + 1
        ledger.moves[line.number] = replace(entry, number=number)
    return ledger
