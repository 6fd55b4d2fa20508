"""Refs: how people name a version of something."""

from __future__ import annotations

import re
from dataclasses import dataclass

from steelyard.core.canonical import is_digest
from steelyard.core.errors import InvalidValue

__all__ = ["WORKING", "Ref", "check_alias", "check_name"]

WORKING = "working"
"""The selector of the file in the checkout."""

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_ALIAS = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_DIGEST_PREFIX = re.compile(r"sha256:[0-9a-f]{6,64}")


def check_name(name: str, *, kind: str = "name") -> str:
    """The name itself, if it is safe as a file path and as a key: `a`, `team/support-intent`.

    Raises:
        InvalidValue: empty, over 200 characters, `..`, a leading dot or slash, or anything but letters,
            digits, `_`, `.`, `-` and `/` between segments.
    """
    if len(name) > 200 or not all(_SEGMENT.fullmatch(part) for part in name.split("/")):
        raise InvalidValue(
            f"{name[:80]!r} is no valid {kind}",
            do="Use letters, digits, '_', '.', '-', folders split by '/', at most 200 characters; "
            "no segment may be empty or begin with '.' or '-'.",
        )
    return name


def check_alias(alias: str) -> str:
    """The alias itself, if it may be one: lower case, beginning with a letter, not `working` or `latest`.

    Raises:
        InvalidValue: otherwise.
    """
    if not _ALIAS.fullmatch(alias) or alias in (WORKING, "latest"):
        raise InvalidValue(
            f"{alias[:80]!r} is no valid alias",
            do="Use lower-case letters, digits, '_' and '-', beginning with a letter; "
            "'working' and 'latest' are taken.",
        )
    return alias


@dataclass(frozen=True, slots=True, kw_only=True)
class Ref:
    """A name and which version of it: at most one of `version`, `alias`, `digest`; none means working.

    Attributes:
        name: `support-intent`, `team/support-intent`.
        version: The registry's integer, 1 and up.
        alias: `production`.
        digest: Whole (`sha256:` and 64 hex digits) or a prefix of at least 6 digits.
    """

    name: str
    version: int | None = None
    alias: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Ref:
        """The ref that a text names: `name`, `name@3`, `name@production`, `name@sha256:…`, `name@working`.

        Raises:
            InvalidValue: the text is none of these.
        """
        name, at, selector = text.partition("@")
        check_name(name)
        if not at or selector == WORKING:
            return cls(name=name)
        if selector.isascii() and selector.isdigit() and int(selector) > 0:
            return cls(name=name, version=int(selector))
        if _DIGEST_PREFIX.fullmatch(selector):
            return cls(name=name, digest=selector)
        if _ALIAS.fullmatch(selector) and selector != "latest":
            return cls(name=name, alias=selector)
        raise InvalidValue(
            f"{selector[:80]!r} in {text[:120]!r} selects no version",
            do="Write name@3, name@production, name@sha256:<at least 6 digits> or name@working.",
        )

    @property
    def is_working(self) -> bool:
        """Whether the ref means the file in the checkout."""
        return self.version is None and self.alias is None and self.digest is None

    @property
    def is_exact(self) -> bool:
        """Whether the ref can never mean something else later (a whole digest)."""
        return self.digest is not None and is_digest(self.digest)

    def __str__(self) -> str:
        selector = self.version or self.alias or self.digest or WORKING
        return f"{self.name}@{selector}"
