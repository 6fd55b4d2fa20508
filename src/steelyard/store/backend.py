"""MLflow, opened quietly: environment, warnings, first use under a lock, errors in our words.

The process-wide tracking address of MLflow is never touched; whoever uses MLflow beside us keeps their own.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import socket
import sqlite3
import warnings
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from steelyard.core.errors import InvalidValue, MissingExtra, SteelyardError, StoreUnavailable
from steelyard.core.settings import Settings
from steelyard.store.place import artifact_root, shown, sqlite_file

__all__ = ["FORMAT", "FORMAT_TAG", "Backend"]

T = TypeVar("T")

FORMAT_TAG = "steelyard.format"
FORMAT = "1"
"""The way we lay things out in MLflow; stands on the default experiment and on all that we make."""

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # MLflow's own 7 retries of 120 s would hold a person up for minutes when the server is gone.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
_CONNECT_S = 3.0
_CREDENTIALS = ("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED")


class Backend:
    """An open MLflow: its client, and `guard` for every call.

    Attributes:
        uri: The address as given, secrets included.
        client: `mlflow.MlflowClient` bound to that address, for runs.
        registry: What that client itself uses for its registry. It treats prompts and models alike, which the
            client's public methods do not: they refuse to make a prompt without making a version in a call of
            its own, and making both in ours is what keeps a crash from showing.
        artifacts: Folder for artifacts; None where a server decides.
    """

    def __init__(self, uri: str, client: Any, artifacts: Path | None) -> None:
        self.uri, self.client, self.artifacts = uri, client, artifacts
        self.registry: Any = client._get_registry_client()

    @classmethod
    def open(cls, uri: str, settings: Settings) -> Backend:
        """The backend at an address, its tables made if they are not there.

        Raises:
            StoreUnavailable: it cannot be reached or used.
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
                    _make_tables(uri, artifacts, settings)
                client = mlflow_client(tracking_uri=uri, registry_uri=uri)
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

    def _mark(self) -> None:
        # The default experiment is the one thing every MLflow has; reading it also shows that it answers.
        found = self.find(lambda: self.client.get_experiment("0"))
        if found is not None and FORMAT_TAG not in found.tags:
            self.client.set_experiment_tag("0", FORMAT_TAG, FORMAT)

    def close(self) -> None:
        """Give database connections back; they are opened again on use."""
        for inner in (self.client._tracking_client.store, self.registry.store):
            engine = getattr(inner, "engine", None)
            if engine is not None:
                engine.dispose()


def code_of(error: BaseException) -> str | None:
    """MLflow's error code; None for an error that is not MLflow's."""
    return getattr(error, "error_code", None)


@contextlib.contextmanager
def guarded(uri: str) -> Generator[None]:
    """A block whose MLflow, database and network errors come out as `StoreUnavailable`."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except MlflowException as error:
        code, what = code_of(error), " ".join(str(error).split())[:300]
        if code in _CREDENTIALS:
            do = "Give credentials that may write (MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD)."
        elif "out-of-date database schema" in what or "Can't locate revision" in what:
            do = "Use the MLflow release that made it, or back it up and run `mlflow db upgrade`."
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
    """Nothing, if something listens at the address.

    Raises:
        StoreUnavailable: nothing does, within 3 seconds.
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
        socket.create_connection((host, port), timeout=_CONNECT_S).close()
    except OSError as error:
        raise StoreUnavailable(
            shown(uri),
            f"nothing answers at {host}:{port} ({error})",
            do="Start the MLflow server, mend tracking_uri (MLFLOW_TRACKING_URI), "
            "or leave it out to use the local store.",
        ) from None


def _make_tables(uri: str, artifacts: Path, settings: Settings) -> None:
    """Make or migrate nothing twice: the first user of a database makes its tables, the others wait.

    MLflow's own migrations crash when two processes run them at once on a new SQLite file.
    """
    from filelock import FileLock
    from mlflow.version import VERSION

    file = sqlite_file(uri)
    folder = file.parent if file else settings.home / "store"
    stem = file.name if file else hashlib.sha256(uri.encode()).hexdigest()[:16]
    ready = folder / f"{stem}.ready"
    if _is_ready(ready, file, VERSION):
        return
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{stem}.lock"):
        if _is_ready(ready, file, VERSION):
            return
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        # Opened with our artifact folder once, or MLflow's default experiment would point at ./mlruns.
        SqlAlchemyStore(uri, artifacts.as_uri())
        if file is not None:
            # Readers no longer wait for writers; the mode stays with the file.
            with contextlib.closing(sqlite3.connect(file, timeout=20)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
        ready.write_text(VERSION, encoding="utf-8")


def _is_ready(ready: Path, file: Path | None, version: str) -> bool:
    if file is not None and not (file.is_file() and file.stat().st_size):
        return False
    try:
        return ready.read_text(encoding="utf-8") == version
    except FileNotFoundError:
        return False
