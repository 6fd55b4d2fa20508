"""The tables of a database: made once by whoever comes first, never guessed at if another release made them.

Two versions stand in a store: the revision of MLflow's schema, and the number of Steelyard's own layout in it
(`steelyard.format`). A newer one of either is refused, and both are named. An older schema is migrated: a
SQLite file at once, after a copy of it; any other database when someone says `steelyard store migrate`, for
others may be using it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steelyard.core.clock import utc_now
from steelyard.core.errors import MissingExtra, StoreUnavailable
from steelyard.core.settings import Settings
from steelyard.store.place import shown, sqlite_file

__all__ = ["FORMAT", "FORMAT_TAG", "Schema", "check_format", "current_revision", "prepare"]

FORMAT_TAG = "steelyard.format"
FORMAT = "1"
"""The way we lay things out in MLflow; stands on the default experiment and on all that we make."""

_LOCK_S = 120
_ADVISORY = 0x57EE1_7A4D  # any number that others will hardly take


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """Where a database stands.

    Attributes:
        found: Its revision; None where it has no tables.
        wanted: The revision of the MLflow installed here.
        known: Whether the MLflow here knows the revision that was found.
        backup: Where the copy was put that was made before a migration.
    """

    found: str | None
    wanted: str
    known: bool
    backup: Path | None = None


def prepare(uri: str, artifacts: str, settings: Settings, *, migrate: bool = False) -> Schema:
    """Where the database stood; its tables are those of the MLflow here when this returns.

    Args:
        uri: A database.
        artifacts: Where the default experiment keeps its artifacts.
        settings: Where locks lie.
        migrate: Whether a database that others may be using is migrated too.

    Raises:
        StoreUnavailable: it is newer, or older and may not be migrated without being told.
    """
    schema = _look(uri)
    if schema.found == schema.wanted:
        return schema
    file = sqlite_file(uri)
    with _alone(uri, file, settings):
        schema = _look(uri)
        if schema.found == schema.wanted:
            return schema
        if schema.found is None:
            _create(uri, artifacts, file)
            return schema
        if not schema.known:
            raise _newer(uri, schema.found, schema.wanted)
        if file is None and not migrate:
            raise StoreUnavailable(
                shown(uri),
                f"its MLflow schema is {schema.found} of an older release, and MLflow {_version()} here has "
                f"{schema.wanted}",
                do="Stop who uses it, back it up (pg_dump), then run: steelyard store migrate",
            )
        backup = None if file is None else _backup(file, schema.found)
        _upgrade(uri)
        return Schema(found=schema.found, wanted=schema.wanted, known=True, backup=backup)


def check_format(uri: str, tag: str | None) -> None:
    """Nothing, if a layout is the one of this release, or there is none yet.

    Raises:
        StoreUnavailable: it is another one; both are named.
    """
    if tag is None or tag == FORMAT:
        return
    from importlib.metadata import version

    raise StoreUnavailable(
        shown(uri),
        f"Steelyard's things in it have layout {tag[:40]!r}, and Steelyard {version('steelyard')} here has "
        f"layout {FORMAT!r}",
        do="Install the release of Steelyard that wrote it, or a newer one.",
    )


def current_revision(uri: str) -> str | None:
    """The revision of a database's schema, None where it has no tables. Nothing is made or changed."""
    file = sqlite_file(uri)
    if file is not None:
        if not file.is_file() or file.stat().st_size == 0:
            return None
        with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=20)) as c:
            return _revision(c.execute)
    with _connected(uri) as connection:
        from sqlalchemy import inspect, text

        if not inspect(connection).has_table("alembic_version"):
            return None
        return _revision(connection.execute, text)


def _revision(execute: Any, form: Any = str) -> str | None:
    try:
        row = execute(form("SELECT version_num FROM alembic_version")).fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return None
        raise
    return str(row[0]) if row else None


def _look(uri: str) -> Schema:
    from alembic.script import ScriptDirectory

    found, tables = current_revision(uri), _tables()
    wanted: str = tables._get_latest_schema_revision()
    known = found is None or found == wanted
    if not known:
        script = ScriptDirectory.from_config(tables._get_alembic_config(""))
        known = found in {r.revision for r in script.walk_revisions()}
    return Schema(found=found, wanted=wanted, known=known)


def _tables() -> Any:
    """MLflow's module for this. It has no public door for asking before doing."""
    import mlflow.store.db.utils

    return mlflow.store.db.utils


def _newer(uri: str, found: str, wanted: str) -> StoreUnavailable:
    return StoreUnavailable(
        shown(uri),
        f"its MLflow schema is {found}, which MLflow {_version()} here (schema {wanted}) does not know: "
        "a newer release made it",
        do="Install that release of MLflow or a newer one here; a schema never goes back.",
    )


def _version() -> str:
    from mlflow.version import VERSION

    return str(VERSION)


def _create(uri: str, artifacts: str, file: Path | None) -> None:
    """Make all tables; a SQLite file appears whole or not at all, even if we are killed meanwhile."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    if file is None or file.exists():
        SqlAlchemyStore(uri, artifacts)
        if file is not None:
            _write_ahead(file)
        return
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    for left in file.parent.glob(f".{file.name}.*.part*"):
        left.unlink(missing_ok=True)  # of someone who was killed: we hold the lock
    # Opened with our artifact folder once, or MLflow's default experiment would point at ./mlruns.
    made: Any = SqlAlchemyStore(f"sqlite:///{part.as_posix()}", artifacts)
    made.engine.dispose()
    made._engine_map.pop(f"sqlite:///{part.as_posix()}", None)
    _write_ahead(part)
    part.replace(file)


def _write_ahead(file: Path) -> None:
    # Readers no longer wait for writers; the mode stays with the file.
    with contextlib.closing(sqlite3.connect(file, timeout=20)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def _upgrade(uri: str) -> None:
    engine = _tables().create_sqlalchemy_engine(uri)
    try:
        _tables()._upgrade_db(engine)
    finally:
        engine.dispose()


def _backup(file: Path, revision: str) -> Path:
    """A whole copy of a SQLite file beside it, taken while others may read and write."""
    copy = file.with_name(f"{file.name}.{utc_now():%Y%m%dT%H%M%S}-{revision}.backup")
    part = copy.with_name(f".{copy.name}.part")
    with (
        contextlib.closing(sqlite3.connect(file, timeout=20)) as source,
        contextlib.closing(sqlite3.connect(part)) as target,
    ):
        source.backup(target)
    part.replace(copy)
    return copy


@contextlib.contextmanager
def _alone(uri: str, file: Path | None, settings: Settings) -> Generator[None]:
    """A stretch in which no other process makes or migrates these tables."""
    if uri.startswith("postgresql"):
        from sqlalchemy import text

        # Gone with its session, so a process that is killed holds nothing.
        with _connected(uri) as connection:
            connection.execute(text(f"SET lock_timeout = '{_LOCK_S}s'"))
            connection.execute(text(f"SELECT pg_advisory_lock({_ADVISORY})"))
            try:
                yield
            finally:
                connection.execute(text(f"SELECT pg_advisory_unlock({_ADVISORY})"))
        return
    from filelock import FileLock

    folder = file.parent if file else settings.home / "store"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{file.name if file else 'database'}.lock", timeout=_LOCK_S):
        yield


@contextlib.contextmanager
def _connected(uri: str) -> Generator[Any]:
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    try:
        engine = create_engine(uri, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    except ModuleNotFoundError as error:
        raise MissingExtra(
            error.name or "psycopg2", extra="server", needed_for=f"the database at {shown(uri)}"
        ) from None
    with engine.connect() as connection:
        yield connection
