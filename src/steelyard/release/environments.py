"""The order in which a version goes through environments; each is an alias."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from steelyard.core.errors import InvalidValue

__all__ = ["following", "in_order", "skipped"]


def in_order(aliases: Iterable[str], environments: Sequence[str]) -> list[str]:
    """The aliases, environments first in their order, the others after them by name."""
    rank = {alias: i for i, alias in enumerate(environments)}
    return sorted(aliases, key=lambda alias: (rank.get(alias, len(rank)), alias))


def following(environment: str, environments: Sequence[str]) -> str:
    """The environment that comes after another.

    Raises:
        InvalidValue: it is none of them, or the last.
    """
    if environment in environments[:-1]:
        return environments[environments.index(environment) + 1]
    order = f"environments = {list(environments)}" if environments else "no environments are set"
    raise InvalidValue(
        f"nothing follows {environment!r} ({order})", do="Say where to: --to production, for example."
    )


def skipped(
    candidate: str, alias: str, current: Mapping[str, str], environments: Sequence[str]
) -> str | None:
    """The environment that a version would skip if it went to an alias; None if it skips none.

    It must stand at the environment just before, or at a later one, which it then went through before.

    Args:
        candidate: Digest of the version.
        alias: Where it shall go.
        current: Digest by alias.
        environments: Aliases in their order.
    """
    at = environments.index(alias) if alias in environments else 0
    if at == 0:
        return None
    passed = (environments[at - 1], *environments[at + 1 :])
    return None if any(current.get(e) == candidate for e in passed) else environments[at - 1]
