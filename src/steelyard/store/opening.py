"""Opening the store that the settings name, and MLflow's own UI on it."""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeAlias

from steelyard.core.errors import InvalidValue, MissingExtra
from steelyard.core.plugins import Registry
from steelyard.core.settings import Settings
from steelyard.store.protocol import Store

__all__ = ["STORES", "Opener", "open_store", "store_uri", "ui_command"]

Opener: TypeAlias = Callable[[Settings], Store]
"""What an entry point of the group `steelyard.stores` loads: a function from settings to a store."""

_MLFLOW_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")
_SCHEME = re.compile(r"([a-z][a-z0-9.-]*)(\+[a-z0-9_]+)?:")


def _memory() -> Opener:
    from steelyard.store.memory import MemoryStore

    return lambda _: MemoryStore()


def _mlflow() -> Opener:
    try:
        import mlflow.version  # noqa: F401  # pyright: ignore[reportUnusedImport]  # only whether it is there
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "mlflow", extra="evals", needed_for="the MLflow store") from None
    from steelyard.store.mlflow_store import MlflowStore

    return MlflowStore.open


STORES: Registry[Opener] = Registry("store", "steelyard.stores")
"""Stores by the scheme of their address; `mlflow` serves every address that MLflow itself takes."""
STORES.add("memory", _memory)
STORES.add("mlflow", _mlflow)


def store_uri(settings: Settings) -> str:
    """The address of the store: `settings.tracking_uri`, or SQLite under `settings.home`."""
    if settings.tracking_uri is not None:
        return settings.tracking_uri
    return f"sqlite:///{(settings.home / 'store' / 'mlflow.db').absolute().as_posix()}"


def open_store(settings: Settings) -> Store:
    """The store that the settings name, ready to use.

    `tracking_uri` may be the address of an MLflow server (`http://127.0.0.1:5000`), a database MLflow can
    use (`sqlite:///…`, `postgresql://…`), `memory:`, or `NAME:…` of a plugin in the entry-point group
    `steelyard.stores`. Without one it is SQLite at `<home>/store/mlflow.db`, artifacts beside it.

    Raises:
        StoreUnavailable: it cannot be reached or used.
        InvalidValue: the address is none that a store takes.
        NotFound: no plugin has the scheme's name.
        MissingExtra: MLflow is not installed.
    """
    uri = store_uri(settings)
    match = _SCHEME.match(uri)
    if match is None or match[1] == "file":
        raise InvalidValue(
            f"tracking_uri = {uri[:200]!r} is no address of a store (MLflow takes plain folders no more)",
            do="Use http://HOST:PORT of an MLflow server, sqlite:///PATH/mlflow.db, or leave it out.",
        )
    with _no_collecting():
        return STORES.get("mlflow" if match[1] in _MLFLOW_SCHEMES else match[1])(settings)


@contextmanager
def _no_collecting() -> Generator[None]:
    """Without the garbage collector: MLflow's three thousand modules make objects that all stay."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def ui_command(settings: Settings, *, host: str = "127.0.0.1", port: int = 5000) -> list[str]:
    """The argument vector that starts MLflow's own UI on the store, on this machine only.

    Raises:
        InvalidValue: the store is a server already (it has a UI at its own address) or keeps nothing on disk.
    """
    uri = store_uri(settings)
    if uri.startswith(("http://", "https://")):
        raise InvalidValue(f"the store at {uri} is a server with a UI of its own", do=f"Open {uri}.")
    match = _SCHEME.match(uri)
    if match is None or match[1] not in _MLFLOW_SCHEMES:
        raise InvalidValue(f"the store {uri!r} has no UI", do="Use a store of MLflow's.")
    from steelyard.store.place import artifact_root, database

    # `server` with one worker: more stall every kept-alive request by some 40 ms.
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", database(uri), "--default-artifact-root", artifact_root(uri, settings)),
    ]
