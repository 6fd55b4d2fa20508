"""A team's store: PostgreSQL and S3-compatible artifacts, with a server and without."""

from __future__ import annotations

import os

import pytest

from steelyard.core.settings import load_settings
from steelyard.store import open_store
from steelyard.testing.store_contract import StoreContract
from steelyard.testing.store_parts import bundle, evidence_of, run_of
from steelyard.testing.store_servers import MlflowServer

pytestmark = pytest.mark.server
FULL = os.environ.get("STEELYARD_FULL") == "1"


@pytest.fixture(scope="module")
def proxied(postgres, bucket, tmp_path_factory):
    folder = tmp_path_factory.mktemp("proxied")
    with MlflowServer(postgres.database(), f"{bucket.uri}/proxied", folder, env=bucket.env) as server:
        yield server


@pytest.fixture(scope="module")
def direct(postgres, bucket, tmp_path_factory):
    folder = tmp_path_factory.mktemp("direct")
    database, artifacts = postgres.database(), f"{bucket.uri}/direct"
    with MlflowServer(database, artifacts, folder, proxied=False, env=bucket.env) as server:
        yield server


@pytest.fixture(scope="module")
def database(postgres):
    return postgres.database()


class _Opened(StoreContract):
    @pytest.fixture
    def store(self, settings):
        store = open_store(settings)
        yield store
        store.close()

    @pytest.fixture
    def reopen(self, settings):
        opened = []

        def again():
            opened.append(open_store(settings))
            return opened[-1]

        yield again
        for store in opened:
            store.close()


class TestServerProxied(_Opened):
    """PostgreSQL behind an MLflow server, which alone knows the bucket's keys."""

    @pytest.fixture
    def settings(self, proxied, tmp_path):
        return load_settings(tmp_path, environ={"MLFLOW_TRACKING_URI": proxied.uri})

    def test_artifacts_lie_in_the_bucket(self, store, bucket, tmp_path):
        _in_bucket(store, bucket, tmp_path, "proxied/", shown="mlflow-artifacts:/")


class _EvidenceOnly:
    """What differs from a server that hands artifacts through; all of it with STEELYARD_FULL."""

    store, reopen = _Opened.store, _Opened.reopen
    test_evidence_is_found_and_opened = StoreContract.test_evidence_is_found_and_opened
    test_evidence_is_deleted_for_good = StoreContract.test_evidence_is_deleted_for_good
    test_a_run_of_any_shape_is_recorded = StoreContract.test_a_run_of_any_shape_is_recorded


class TestServerDirect(_Opened if FULL else _EvidenceOnly):
    """PostgreSQL behind an MLflow server; clients read and write the bucket themselves."""

    @pytest.fixture
    def settings(self, direct, tmp_path, s3_client_env):
        return load_settings(tmp_path, environ={"MLFLOW_TRACKING_URI": direct.uri})

    def test_artifacts_lie_in_the_bucket(self, store, bucket, tmp_path):
        _in_bucket(store, bucket, tmp_path, "direct/", shown="s3://")


class TestPostgres(_Opened):
    """No server at all: everyone opens the database and the bucket."""

    @pytest.fixture
    def settings(self, database, bucket, tmp_path, s3_client_env):
        environ = {"STEELYARD_TRACKING_URI": database, "STEELYARD_ARTIFACT_URI": f"{bucket.uri}/plain/"}
        return load_settings(tmp_path, environ=environ)

    def test_artifacts_lie_in_the_bucket(self, store, bucket, tmp_path, settings):
        _in_bucket(store, bucket, tmp_path, "plain/", shown="s3://artifacts/plain/")
        assert not settings.home.exists()


def _in_bucket(store, bucket, tmp_path, prefix, *, shown):
    import boto3

    evidence = evidence_of()
    stored = store.add_evidence(evidence, bundle(tmp_path / "bundle"), run_of())
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
    s3 = boto3.client("s3", endpoint_url=bucket.endpoint, **keys)
    found = [o["Key"] for o in s3.list_objects_v2(Bucket="artifacts", Prefix=prefix)["Contents"]]
    wanted = [f"evidence/{evidence.id}/{p}" for p in ("rows/candidate.jsonl", "seal.json")]
    assert [[k for k in found if k.endswith(w)] != [] for w in wanted] == [True, True]
    assert store._backend.client.get_run(stored.run_id).info.artifact_uri.startswith(shown)
    store.delete_evidence(evidence.id)  # and they are gone from there
    left = s3.list_objects_v2(Bucket="artifacts", Prefix=prefix).get("Contents", [])
    assert [o["Key"] for o in left if evidence.id in o["Key"]] == []
