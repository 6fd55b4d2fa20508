"""A running local model: started on the first live call, started anew after a crash, stopped with us.

Clients never learn its port. They ask `http://<id>.steelyard-local.invalid/v1`, which no resolver knows,
and `route` turns it into the running server when a call really goes out: a replayed run starts nothing.
"""

from __future__ import annotations

import atexit
import http.client
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from steelyard.core.clock import monotonic
from steelyard.core.errors import CallFailed, MissingExtra
from steelyard.lm.weights import find_weights

__all__ = ["DOMAIN", "Address", "LocalServer", "host_of", "identity_of", "route", "serve"]

DOMAIN = ".steelyard-local.invalid"
_START_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a running server listens, and its key."""

    host: str
    port: int
    key: str


class LocalServer:
    """One model in a process of its own. Safe to call from several threads.

    Args:
        weights: `smollm2` or the path of a GGUF file.
        alias: The model's name in answers.
        n_ctx: Tokens of prompt and answer together.
        log: File that gets the engine's output.
    """

    def __init__(self, weights: str, *, alias: str, n_ctx: int, log: Path | None) -> None:
        self.weights, self.alias, self.n_ctx, self.log = weights, alias, n_ctx, log
        self._process: subprocess.Popen[bytes] | None = None
        self._address: Address | None = None
        self._owner = os.getpid()
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """The process that serves now; None while there is none."""
        process = self._process
        return process.pid if process and process.poll() is None and self._owner == os.getpid() else None

    def address(self) -> Address:
        """Where the model answers; starts it if it does not run.

        Raises:
            WeightsMissing, MissingExtra: it cannot be started here. CallFailed: it did not come up.
        """
        if (
            self._owner != os.getpid()
        ):  # a fork: the parent's server is the parent's, and so is the lock's state
            self._lock, self._process, self._address = threading.Lock(), None, None
            self._owner = os.getpid()
        with self._lock:
            if self._address is None or self._process is None or self._process.poll() is not None:
                self._address = self._start()
            return self._address

    def stop(self) -> None:
        """End the process; the next call starts it again."""
        if self._owner != os.getpid():
            return
        with self._lock:
            process, self._process, self._address = self._process, None, None
            if process is not None:
                process.kill()  # it has nothing to save, and its own shutdown waits for generations
                process.wait()
                if process.stdin:
                    process.stdin.close()

    def after_timeout(self) -> None:
        """Called when an answer did not come in time: one that hangs is ended, a busy one stays."""
        address = self._address
        if address is not None and not _healthy(address, 2.0):
            self.stop()

    def _start(self) -> Address:
        path = find_weights(self.weights)
        if find_spec("xllamacpp") is None:
            raise MissingExtra("xllamacpp", extra="local", needed_for="A local model")
        log = self._log_file()
        for _ in range(3):  # the free port may be taken by another program before the server binds it
            address = Address(host="127.0.0.1", port=_free_port(), key=secrets.token_urlsafe(24))
            if self._run(path, address, log):
                return address
        raise CallFailed(
            "transport",
            f"the local model {self.alias} did not start; the end of {log}: {_tail(log)}",
            retryable=True,
        )

    def _run(self, path: Path, address: Address, log: Path) -> bool:
        options = {"model": path, "port": address.port, "alias": self.alias, "n-ctx": self.n_ctx}
        options |= {"threads": _threads(), "parent": os.getpid()}
        argv = [sys.executable, "-m", "steelyard.lm.server_process"]
        for key, value in options.items():
            argv += [f"--{key}", str(value)]
        fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            process = subprocess.Popen(  # noqa: S603  (our own module, arguments as a list)
                argv, stdin=subprocess.PIPE, stdout=fd, stderr=fd, start_new_session=True
            )
        finally:
            os.close(fd)
        assert process.stdin is not None
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()  # of one that died; nobody else closes its pipe
        self._process = process
        try:
            process.stdin.write(address.key.encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            process.wait()
            return False
        deadline = monotonic() + _START_S
        while process.poll() is None and monotonic() < deadline:
            if _healthy(address, 1.0):
                return True
            threading.Event().wait(0.05)
        process.kill()
        process.wait()
        return False

    def _log_file(self) -> Path:
        if self.log is None:
            self.log = Path(tempfile.gettempdir()) / f"steelyard-lm-{os.getuid()}-{os.getpid()}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        return self.log


_SERVERS: dict[str, tuple[str, LocalServer]] = {}
_SERVERS_LOCK = threading.Lock()


def host_of(digest: str) -> str:
    """The host name that stands for a local model of that identity."""
    return digest.removeprefix("sha256:")[:32] + DOMAIN


def serve(digest: str, server: LocalServer) -> LocalServer:
    """The process-wide server of an identity: the given one, or an equal one that came first."""
    with _SERVERS_LOCK:
        return _SERVERS.setdefault(host_of(digest), (digest, server))[1]


def identity_of(host: str) -> str | None:
    """The digest of the local model behind a host name, or None for any other host."""
    found = _SERVERS.get(host)
    return found[0] if found else None


def route(host: str) -> LocalServer | None:
    """The server behind a host name, or None for any other host."""
    found = _SERVERS.get(host)
    return found[1] if found else None


@atexit.register
def _stop_all() -> None:
    for _, server in list(_SERVERS.values()):
        server.stop()


def _threads() -> int:
    return min(4, os.cpu_count() or 1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _healthy(address: Address, timeout: float) -> bool:
    connection = http.client.HTTPConnection(address.host, address.port, timeout=timeout)
    try:
        # Not /health, which anyone answers: this path needs our key, so it is our server and no stranger's.
        connection.request("GET", "/props", headers={"Authorization": f"Bearer {address.key}"})
        if connection.getresponse().status not in (200, 501):
            return False
        connection.close()
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _tail(log: Path) -> str:
    try:
        return " ".join(log.read_bytes()[-600:].decode("utf-8", "replace").split())
    except OSError:
        return "(no log)"
