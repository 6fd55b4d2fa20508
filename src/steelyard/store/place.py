"""Where a store keeps things: paths and addresses, without touching them."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from steelyard.core.settings import Settings

__all__ = ["artifact_root", "database", "shown", "sqlite_file"]


def sqlite_file(uri: str) -> Path | None:
    """The database file of a `sqlite:///` address; None for other addresses and for `:memory:`."""
    scheme, _, path = uri.partition(":///")
    if not scheme.startswith("sqlite") or path in ("", ":memory:"):
        return None
    return Path(path.partition("?")[0]).absolute()


def artifact_root(uri: str, settings: Settings) -> str:
    """The address for artifacts of a store without a server, without a slash at its end.

    It is `settings.artifact_uri`; without that, a folder beside a SQLite file, else under `home`.
    """
    if settings.artifact_uri is not None:
        return settings.artifact_uri.rstrip("/")
    file = sqlite_file(uri)
    return ((file.parent if file else (settings.home / "store").absolute()) / "artifacts").as_uri()


def shown(uri: str) -> str:
    """The address for people: without user, password and query, which may hold secrets."""
    return re.sub(r"://[^/@]*@", "://", uri).partition("?")[0]


def database(uri: str) -> str:
    """The address as SQLAlchemy is to get it.

    PostgreSQL's gets the driver that is installed, where it names none, and a time limit for connecting,
    where it has none (libpq would wait for ever).
    """
    if not uri.startswith("postgresql"):
        return uri
    if uri.startswith("postgresql://") and find_spec("psycopg") is None and find_spec("psycopg2") is not None:
        uri = uri.replace(
            "postgresql://", "postgresql+psycopg2://", 1
        )  # SQLAlchemy 2.1 takes psycopg 3 for it
    if "connect_timeout=" in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}connect_timeout=5"
