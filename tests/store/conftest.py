"""The servers of the store's tests, one of each a module."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3

import pytest

from steelyard.core.settings import load_settings
from steelyard.store import open_store
from steelyard.testing.store_servers import Bucket, Postgres, postgres_binaries


@pytest.fixture(scope="session")
def postgres():
    if postgres_binaries() is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with Postgres() as database:
        yield database


@pytest.fixture(scope="session")
def empty_sqlite(tmp_path_factory):
    """A function that puts an empty store into a folder, copied from one that was made once."""
    made = tmp_path_factory.mktemp("empty")
    open_store(load_settings(made, environ={})).close()
    database = made / ".steelyard" / "store" / "mlflow.db"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def put(folder):
        target = folder / ".steelyard" / "store" / "mlflow.db"
        target.parent.mkdir(parents=True)
        shutil.copyfile(database, target)
        return load_settings(folder, environ={})

    return put


@pytest.fixture(scope="session")
def bucket(tmp_path_factory):
    with Bucket(tmp_path_factory.mktemp("s3")) as bucket:
        yield bucket


@pytest.fixture
def s3_client_env(bucket, monkeypatch):
    """What clients need that reach the bucket themselves."""
    for name, value in bucket.env.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session", autouse=True)
def _patient_with_a_busy_machine():
    """A server on a loaded machine may take longer than the 6 seconds that people are asked to wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
        yield
