"""The servers of the store's tests, one of each a module."""

from __future__ import annotations

import pytest

from steelyard.testing.store_servers import Bucket, Postgres, postgres_binaries


@pytest.fixture(scope="session")
def postgres():
    if postgres_binaries() is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with Postgres() as database:
        yield database


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
