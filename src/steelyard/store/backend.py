"""MLflow, opened quietly: environment, warnings, first use under a lock, errors in our words.

The process-wide tracking address of MLflow is never touched; whoever uses MLflow beside us keeps their own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import warnings
from collections.abc import Callable, Generator
from typing import Any, TypeVar
from urllib.parse import urlsplit

from steelyard.core.errors import InvalidValue, MissingExtra, SteelyardError, StoreUnavailable
from steelyard.core.settings import Settings
from steelyard.store.artifacts import check_address
from steelyard.store.outage import REQUEST_S, Patient, code_of, operation, outage_of
from steelyard.store.place import artifact_root, database, shown
from steelyard.store.schema import FORMAT, FORMAT_TAG, check_format, prepare

__all__ = ["FORMAT", "FORMAT_TAG", "Backend"]

T = TypeVar("T")

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # MLflow's own 7 retries of 120 s would hold a person up for minutes; `outage` knows better when to retry.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": str(REQUEST_S),
    # An answer that sends us elsewhere is not the store's.
    "MLFLOW_ALLOW_HTTP_REDIRECTS": "false",
}
_REACH_S = (3.0, 5.0)  # to connect, to begin an answer
_CREDENTIALS = ("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED")


class Backend:
    """An open MLflow: its client, and `guard` for every call.

    Attributes:
        uri: The address as given, secrets included.
        client: `mlflow.MlflowClient` bound to that address, for runs.
        registry: What that client itself uses for its registry. It treats prompts and models alike, which the
            client's public methods do not: they refuse to make a prompt without making a version in a call of
            its own, and making both in ours is what keeps a crash from showing.
        artifacts: Address for artifacts; None where a server decides.
    """

    def __init__(self, uri: str, client: Any, artifacts: str | None) -> None:
        self.uri, self.artifacts = uri, artifacts
        self._raw = client
        self.client: Any = Patient(client)
        self.registry: Any = Patient(client._get_registry_client())

    @classmethod
    def open(cls, uri: str, settings: Settings) -> Backend:
        """The backend at an address, its tables made if they are not there.

        Raises:
            StoreUnavailable: it cannot be reached or used, or is of a newer release.
        """
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)  # what the user has set stays
        remote = uri.startswith(("http://", "https://"))
        if remote:
            _reach(uri)
        artifacts = None if remote else artifact_root(uri, settings)
        with warnings.catch_warnings():
            # Importing MLflow and SQLAlchemy's mappers warns about their own affairs.
            warnings.simplefilter("ignore")
            mlflow_client = _client_class()
            with guarded(uri):
                if artifacts is not None:
                    prepare(database(uri), artifacts, settings)
                address = uri if remote else database(uri)
                client = mlflow_client(tracking_uri=address, registry_uri=address)
                backend = cls(uri, client, artifacts)
                backend._mark()
        return backend

    @contextlib.contextmanager
    def guard(self) -> Generator[None]:
        """A block whose MLflow errors come out as ours."""
        with guarded(self.uri):
            yield

    def find(self, call: Callable[[], T]) -> T | None:
        """What the call gives, None if MLflow says there is no such thing."""
        try:
            return call()
        except Exception as error:
            if code_of(error) == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def make(self, call: Callable[[], T]) -> T | None:
        """What the call gives, None if MLflow says the thing is there already."""
        try:
            return call()
        except Exception as error:
            if code_of(error) == "RESOURCE_ALREADY_EXISTS":
                return None
            raise

    def check_artifacts(self, address: str) -> None:
        """Nothing, if artifacts at an address may be fetched; see `store.artifacts`."""
        check_address(address, self.uri, served=self.artifacts is None)

    def delete_artifacts(self, run_id: str) -> None:
        """Delete all artifacts of a run, as far as they are there."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        address = self.client.get_run(run_id).info.artifact_uri
        self.check_artifacts(address)
        tracking = self.uri if self.artifacts is None else None
        repository: Any = Patient(get_artifact_repository(address, tracking_uri=tracking))
        try:
            if repository.list_artifacts(""):
                repository.delete_artifacts("")
        except FileNotFoundError:
            return

    def forget_run(self, run_id: str) -> None:
        """Delete a deleted run's rows too, where no server stands before the database."""
        if self.artifacts is not None:
            self._raw._tracking_client.store._hard_delete_run(run_id)

    def _mark(self) -> None:
        # The default experiment is the one thing every MLflow has; reading it also shows that it answers.
        found = self.find(lambda: self.client.get_experiment("0"))
        if found is None:
            return
        check_format(self.uri, found.tags.get(FORMAT_TAG))
        if FORMAT_TAG not in found.tags:
            self.client.set_experiment_tag("0", FORMAT_TAG, FORMAT)

    def close(self) -> None:
        """Give database connections back; they are opened again on use."""
        for inner in (self._raw._tracking_client.store, self._raw._get_registry_client().store):
            engine = getattr(inner, "engine", None)
            if engine is not None:
                engine.dispose()


@contextlib.contextmanager
def guarded(uri: str) -> Generator[None]:
    """A block whose MLflow, database and network errors come out as `StoreUnavailable`.

    Inside it, calls are patient with a store that is away for some seconds.
    """
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with operation():
            yield
    except MlflowException as error:
        code, what = code_of(error), " ".join(str(error).split())[:300]
        if code in _CREDENTIALS:
            do = "Give credentials that may write (MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD)."
        elif "out-of-date database schema" in what or "Can't locate revision" in what:
            do = "Use the MLflow release that made it, or back it up and run `mlflow db upgrade`."
        elif outage_of(error) == "silent":
            what = "it takes connections and does not answer"
            do = (
                "Look what its log says; if it is only slow, set MLFLOW_HTTP_REQUEST_TIMEOUT to more seconds."
            )
        elif uri.startswith("http"):
            do = "Look whether the server is up and what its log says, then try again."
        else:
            do = "Look at the database and its disk, then try again."
        raise StoreUnavailable(shown(uri), what, do=do) from error
    except (RequestException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        if isinstance(error, SteelyardError):
            raise
        raise StoreUnavailable(
            shown(uri),
            f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
            do="Look whether it is up, whether the disk has room and may be written, then try again.",
        ) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("boto3", "botocore", "s3transfer"):
            raise
        raise StoreUnavailable(
            shown(uri),
            f"its artifact store failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}",
            do="Look whether it is up, at MLFLOW_S3_ENDPOINT_URL, and at the AWS_* credentials.",
        ) from error


def _client_class() -> Any:
    try:
        from mlflow import MlflowClient
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "mlflow", extra="evals", needed_for="the MLflow store") from None
    # Database errors come out of our calls as errors; the same as a logged traceback would be noise.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    return MlflowClient


def _reach(uri: str) -> None:
    """Nothing, if something answers at the address, whatever it says.

    Raises:
        StoreUnavailable: nothing does, within seconds.
        InvalidValue: the address has no host or a wrong port.
    """
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        host, port = None, 0
    if not host:
        raise InvalidValue(f"tracking_uri = {shown(uri)!r} has no host or port", do="Write http://HOST:PORT.")
    try:
        import requests
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "requests", extra="evals", needed_for="the MLflow store") from None
    try:
        requests.get(f"{uri.rstrip('/')}/health", timeout=_REACH_S, allow_redirects=False).close()
    except requests.RequestException as error:
        silent = isinstance(error, requests.ReadTimeout)
        raise StoreUnavailable(
            shown(uri),
            f"it takes connections at {host}:{port} and does not answer"
            if silent
            else f"nothing answers at {host}:{port} ({_last(error)})",
            do="Start the MLflow server, mend tracking_uri (MLFLOW_TRACKING_URI), "
            "or leave it out to use the local store.",
        ) from None


def _last(error: BaseException) -> str:
    """What an error says at its root: no address with a password in it, and no object's name."""
    for cause in (error, *getattr(error, "args", ())):
        reason = getattr(cause, "reason", None)
        if isinstance(reason, BaseException):
            return str(reason).rpartition(": ")[2]
    return type(error).__name__
