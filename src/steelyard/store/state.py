"""The state of a store's tables, and bringing them up to date on purpose."""

from __future__ import annotations

import warnings
from typing import Any

from steelyard.core.errors import InvalidValue
from steelyard.core.settings import Settings
from steelyard.store.backend import guarded
from steelyard.store.opening import store_uri
from steelyard.store.place import artifact_root, database, shown
from steelyard.store.schema import FORMAT, current_revision, prepare

__all__ = ["migrate", "state_of"]

_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def state_of(settings: Settings) -> dict[str, Any]:
    """Releases and places of an open store, by what they are in words."""
    uri, facts = store_uri(settings), {"layout": FORMAT}
    if uri.startswith(_DATABASES):
        from mlflow.version import VERSION

        facts["artifacts"] = artifact_root(uri, settings)
        facts["MLflow here"] = str(VERSION)
        with guarded(uri):
            facts["MLflow schema"] = str(current_revision(database(uri)))
    elif uri.startswith(("http://", "https://")):
        import requests
        from mlflow.version import VERSION

        facts["MLflow here"] = str(VERSION)
        with guarded(uri):
            answer = requests.get(f"{uri.rstrip('/')}/version", timeout=5, allow_redirects=False)
            facts["MLflow there"] = answer.text.strip()[:40] if answer.ok else "not told"
    return facts


def migrate(settings: Settings) -> str:
    """What was done about the tables of the settings' database, in words.

    Raises:
        InvalidValue: the store is a server, which migrates its own.
        StoreUnavailable: its tables are newer than the MLflow here.
    """
    uri = store_uri(settings)
    if not uri.startswith(_DATABASES):
        raise InvalidValue(
            f"the store at {shown(uri)} has no tables that can be reached from here",
            do="Run `mlflow db upgrade` where its server runs.",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's and SQLAlchemy's own affairs, as when a store is opened
        with guarded(uri):
            schema = prepare(database(uri), artifact_root(uri, settings), settings, migrate=True)
    if schema.found == schema.wanted:
        return f"{shown(uri)}: its schema is {schema.wanted} already"
    copy = f"; the file as it was: {schema.backup}" if schema.backup else ""
    return f"{shown(uri)}: schema {schema.found or 'none'} → {schema.wanted}{copy}"
