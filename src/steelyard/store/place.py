"""Where a store keeps things: paths and addresses, without touching them."""

from __future__ import annotations

import re
from pathlib import Path

from steelyard.core.settings import Settings

__all__ = ["artifact_root", "shown", "sqlite_file"]


def sqlite_file(uri: str) -> Path | None:
    """The database file of a `sqlite:///` address; None for other addresses and for `:memory:`."""
    scheme, _, path = uri.partition(":///")
    if not scheme.startswith("sqlite") or path in ("", ":memory:"):
        return None
    return Path(path.partition("?")[0]).absolute()


def artifact_root(uri: str, settings: Settings) -> Path:
    """The folder for artifacts of a store without a server: beside a SQLite file, else under `home`."""
    file = sqlite_file(uri)
    return (file.parent if file else (settings.home / "store").absolute()) / "artifacts"


def shown(uri: str) -> str:
    """The address for people: without user, password and query, which may hold secrets."""
    return re.sub(r"://[^/@]*@", "://", uri).partition("?")[0]
