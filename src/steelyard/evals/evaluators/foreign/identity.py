"""The identity of a foreign evaluator: its package's version, its class, its settings."""

from __future__ import annotations

from collections.abc import Collection
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import Any

from steelyard.core.canonical import JSON
from steelyard.core.objects import described_object

__all__ = ["identified", "package_version"]


def package_version(distribution: str) -> str | None:
    """The installed version of a distribution, None where it has none (a checkout on the path)."""
    try:
        return version_of(distribution)
    except PackageNotFoundError:
        return None


def identified(
    value: Any, distribution: str, version: str | None, *, leave_out: Collection[str] = ()
) -> dict[str, JSON]:
    """Version of the package, and the class, own code and settings of an evaluator.

    Args:
        value: The evaluator.
        distribution: Its package.
        version: Declared version.
        leave_out: Attributes that are results or names, not settings.

    Raises:
        InvalidValue: a setting has no stable description, and no version is declared.
    """
    described = described_object(value, version)
    if isinstance(described, dict) and isinstance(described.get("state"), dict):
        state = {k: v for k, v in described["state"].items() if k not in leave_out}
        described = {**described, "state": state}
    return {"package": [distribution, package_version(distribution)], "object": described}
