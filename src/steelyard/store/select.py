"""Picking one version out of many, and the checks that every store makes before it does anything."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import get_args

from steelyard.core.canonical import is_digest
from steelyard.core.errors import InvalidValue, NotFound
from steelyard.core.ref import check_alias, check_name
from steelyard.store.protocol import Kind, LedgerEntry, Version

__all__ = ["ACTIONS", "check_entry", "check_evidence_id", "check_kind", "check_target", "not_found", "pick"]

ACTIONS = ("promote", "rollback", "bless", "lock", "remove")
"""The moves that an alias can make."""

_EVIDENCE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_PREFIX = re.compile(r"(sha256:)?[0-9a-f]{6,64}")


def check_kind(kind: str) -> None:
    """Nothing, if it is one of the kinds.

    Raises:
        InvalidValue: it is none.
    """
    if kind not in get_args(Kind):
        raise InvalidValue(f"{kind!r} is no kind of version", do=f"Use {', '.join(get_args(Kind))}.")


def check_target(kind: Kind, name: str, digest: str | None = None) -> None:
    """Nothing, if kind, name and digest are well formed.

    Raises:
        InvalidValue: one of them is not.
    """
    check_kind(kind)
    check_name(name, kind=f"{kind} name")
    if digest is not None and not is_digest(digest):
        raise InvalidValue(
            f"{digest[:80]!r} is no digest", do="Give 'sha256:' and 64 lower-case hexadecimal digits."
        )


def check_entry(entry: LedgerEntry) -> None:
    """Nothing, if the entry can be appended to a ledger.

    Raises:
        InvalidValue: a name, alias, digest or action is malformed, nothing would move from nothing to
            nothing, or a forced move has no reason.
    """
    check_target(entry.kind, entry.name, entry.after)
    check_target(entry.kind, entry.name, entry.before)
    check_alias(entry.alias)
    if entry.action not in ACTIONS:
        raise InvalidValue(f"{entry.action!r} is no move of an alias", do=f"Use {', '.join(ACTIONS)}.")
    if (entry.after is None) != (entry.action == "remove"):
        raise InvalidValue(
            f"the move {entry.action!r} of alias {entry.alias!r} to {entry.after or 'nothing'}",
            do="Use 'remove' with after=None, and any other move with a digest.",
        )
    if entry.before is None and entry.after is None:
        raise InvalidValue(
            f"alias {entry.alias!r} cannot be removed while it is absent", do="Give the digest it stands at."
        )
    if entry.forced and not (entry.reason or "").strip():
        raise InvalidValue(
            f"a forced move of alias {entry.alias!r} without a reason", do="Say why in `reason`."
        )


def check_evidence_id(evidence_id: str) -> None:
    """Nothing, if the id is safe as the name of a folder.

    Raises:
        InvalidValue: it is not.
    """
    if not _EVIDENCE_ID.fullmatch(evidence_id):
        raise InvalidValue(
            f"{evidence_id[:80]!r} is no id of evidence",
            do="Use letters, digits, '_', '.' and '-', at most 200, not beginning with '.' or '-'.",
        )


def pick(kind: Kind, name: str, versions: Sequence[Version], selector: int | str) -> Version:
    """The version with a number, a digest, or a digest's prefix of at least 6 digits.

    Raises:
        NotFound: none fits.
        InvalidValue: the prefix fits several, or is none.
    """
    if isinstance(selector, int):
        found = [v for v in versions if v.number == selector]
    elif _PREFIX.fullmatch(selector):
        wanted = "sha256:" + selector.removeprefix("sha256:")
        found = [v for v in versions if v.digest.startswith(wanted)]
    else:
        raise InvalidValue(
            f"{selector[:80]!r} selects no version of {kind} {name!r}",
            do="Give its number, its digest, or a prefix of the digest of at least 6 digits.",
        )
    if len(found) > 1:
        shown = ", ".join(f"{v.number} ({v.digest[:19]})" for v in found[:5])
        raise InvalidValue(
            f"the digest prefix {selector!r} fits {len(found)} versions of {kind} {name!r}: {shown}",
            do="Give more digits.",
        )
    if not found:
        raise not_found(kind, name, selector, versions)
    return found[0]


def not_found(kind: Kind, name: str, selector: int | str, versions: Sequence[Version]) -> NotFound:
    """The error that names what was asked for and which versions there are."""
    return NotFound(
        "version",
        str(selector),
        where=f"{kind} {name!r}",
        existing=[f"{v.number} ({v.digest[:19]})" for v in versions[-8:]],
    )
