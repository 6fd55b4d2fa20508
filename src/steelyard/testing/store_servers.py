"""Servers that a team's store stands on, started on free loopback ports for tests: PostgreSQL, S3, MLflow.

    with Postgres() as database, Bucket() as bucket, MlflowServer(database.uri, bucket.uri, folder) as server:
        open_store(load_settings(environ={"MLFLOW_TRACKING_URI": server.uri}))

Each is a process of its own, in a group of its own, and gone when the block ends.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from steelyard.store.place import database as database_uri

__all__ = ["Bucket", "MlflowServer", "Postgres", "Server", "answers", "free_port", "postgres_binaries"]

S3_KEYS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
}
_INITDB = ("-U", "steelyard", "-A", "trust", "-E", "UTF8", "--locale", "C", "--no-sync")


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A process that serves on loopback until the block ends.

    Args:
        argv: What to run.
        folder: Where it runs and logs.
        ready: Whether it answers; asked until it does.
        env: More environment.
        account: The account it runs as; None for this one.
        stop: The signal that ends it in order.
    """

    def __init__(
        self,
        argv: Sequence[str],
        folder: Path,
        *,
        ready: Callable[[], bool],
        env: Mapping[str, str] | None = None,
        account: int | None = None,
        stop: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.argv, self.folder, self._ready, self._stop = list(argv), folder, ready, stop
        self._env = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", **(env or {})}
        self._account = account
        self.process: subprocess.Popen[Any] | None = None
        self.start()

    def start(self) -> None:
        """Start it, or start it again, and wait until it answers.

        Raises:
            RuntimeError: it died, or said nothing for two minutes; the end of its log.
        """
        options: dict[str, Any] = {}
        if self._account is not None:
            options = {"user": self._account, "extra_groups": []}
        log = self.folder / "server.log"
        with log.open("ab") as out:
            self.process = process = subprocess.Popen(  # noqa: S603 - our own argv
                self.argv,
                stdout=out,
                stderr=out,
                env=self._env,
                cwd=self.folder,
                start_new_session=True,
                **options,
            )
        end = time.monotonic() + 120
        while not self._ready():
            if time.monotonic() > end or process.poll() is not None:
                self.stop()
                raise RuntimeError(
                    f"{self.argv[:4]} did not start:\n{log.read_text(errors='replace')[-3000:]}"
                )
            time.sleep(0.1)

    def stop(self, how: signal.Signals | None = None) -> None:
        """End it and all that it started."""
        process = self.process
        if process is None or process.poll() is not None:
            return
        os.killpg(process.pid, how or self._stop)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def pause(self) -> None:
        """Let it take connections and never answer, until `resume`."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGCONT)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def answers(url: str) -> Callable[[], bool]:
    """A function that says whether anything answers at an address, whatever it says."""

    def ready() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - loopback
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    return ready


def postgres_binaries() -> Path | None:
    """The folder of `initdb` and `postgres`, the newest there is; None where PostgreSQL is not installed."""
    on_path = shutil.which("initdb")
    places = [Path(on_path).resolve().parent] if on_path else []
    places += sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: p.parent.name.zfill(4), reverse=True
    )
    return next((p for p in places if (p / "initdb").is_file() and (p / "postgres").is_file()), None)


class Postgres(Server):
    """A PostgreSQL of its own, without syncing to disk; `uri` is that of an empty database."""

    def __init__(self) -> None:
        binaries = postgres_binaries()
        assert binaries is not None, "PostgreSQL is not installed"
        self._binaries = binaries
        # Not under pytest's folder, which the account that PostgreSQL runs as may not enter.
        place = Path(tempfile.mkdtemp(prefix="steelyard-pg-"))
        account = None
        if os.geteuid() == 0:  # PostgreSQL refuses to be root
            account = pwd.getpwnam("nobody").pw_uid
            os.chown(place, account, -1)
        options: dict[str, Any] = {"user": account, "extra_groups": []} if account is not None else {}
        data = place / "data"
        subprocess.run(  # noqa: S603 - our own argv
            [str(binaries / "initdb"), "-D", str(data), *_INITDB],
            check=True,
            capture_output=True,
            cwd=place,
            **options,
        )
        self.port = free_port()
        self._count = 0
        argv = [str(binaries / "postgres"), "-D", str(data), "-p", str(self.port), "-h", "127.0.0.1"]
        for setting in (
            "fsync=off",
            "full_page_writes=off",
            "unix_socket_directories=",
            "max_connections=400",
        ):
            argv += ["-c", setting]
        self.place = place
        super().__init__(argv, place, ready=self._answers, account=account, stop=signal.SIGINT)
        self.uri = self.database()

    def _answers(self) -> bool:
        command = [str(self._binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0  # noqa: S603 - our own argv

    def database(self) -> str:
        """The address of a new and empty database."""
        self._count += 1
        name = f"mlflow{self._count}"
        self.sql(f"CREATE DATABASE {name}", "postgres")
        return f"postgresql://steelyard@127.0.0.1:{self.port}/{name}"

    def sql(self, statement: str, database: str) -> str:
        """What `psql` prints for a statement, without headers."""
        command = [
            str(self._binaries / "psql"),
            "-U",
            "steelyard",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-At",
        ]
        done = subprocess.run(  # noqa: S603 - our own argv
            [*command, "-d", database, "-c", statement], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def stop(self, how: signal.Signals | None = None) -> None:
        """End it."""
        super().stop(how)

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.place, ignore_errors=True)


class Bucket(Server):
    """An S3-compatible server (moto's) with one bucket; `uri` is `s3://…`, `env` what its clients need."""

    def __init__(self, folder: Path, name: str = "artifacts") -> None:
        port = free_port()
        self.endpoint, self.uri = f"http://127.0.0.1:{port}", f"s3://{name}"
        self.env = {**S3_KEYS, "MLFLOW_S3_ENDPOINT_URL": self.endpoint}
        argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        super().__init__(argv, folder, ready=answers(f"{self.endpoint}/moto-api/"))
        request = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")  # noqa: S310 - loopback
        with urllib.request.urlopen(request, timeout=30):  # noqa: S310 - loopback
            pass


class MlflowServer(Server):
    """An MLflow server with one worker.

    Args:
        database: Its backend store.
        artifacts: Where artifacts lie: behind the server (`proxied`), or handed out to clients.
        folder: Where it runs and logs.
        proxied: Whether clients reach artifacts through the server only.
        env: More environment, such as the bucket's.
    """

    def __init__(
        self,
        database: str,
        artifacts: str,
        folder: Path,
        *,
        proxied: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        argv = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        argv += ["--workers", "1", "--backend-store-uri", database_uri(database)]
        argv += ["--artifacts-destination", artifacts] if proxied else ["--default-artifact-root", artifacts]
        if not proxied:
            argv += ["--no-serve-artifacts"]
        super().__init__(
            argv,
            folder,
            ready=answers(f"{self.uri}/health"),
            env={"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **(env or {})},
        )
