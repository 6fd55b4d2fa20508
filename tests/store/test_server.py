"""The contract suite over a real MLflow server, and what happens when it is not there."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import psutil
import pytest

from steelyard.core.errors import InvalidValue, StoreUnavailable
from steelyard.core.settings import load_settings
from steelyard.store import open_store, ui_command
from steelyard.testing.store_contract import StoreContract
from steelyard.testing.store_parts import fresh

pytestmark = pytest.mark.server


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    def __init__(self, argv, folder):
        self.log = folder / "server.log"
        env = {
            **os.environ,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                argv, stdout=log, stderr=log, env=env, cwd=folder, start_new_session=True
            )
        self.port = argv[argv.index("--port") + 1]
        self.uri = f"http://127.0.0.1:{self.port}"
        end = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                    return
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    self.stop()
                    raise RuntimeError(self.log.read_text()[-3000:]) from None
                time.sleep(0.2)

    def stop(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    argv = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(free_port())),
        *("--workers", "1", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]
    server = Server(argv, folder)
    yield server
    server.stop()


class TestServer(StoreContract):
    @pytest.fixture
    def settings(self, server, tmp_path):
        return load_settings(tmp_path, environ={"MLFLOW_TRACKING_URI": server.uri})

    @pytest.fixture
    def store(self, settings):
        store = open_store(settings)
        yield store
        store.close()

    @pytest.fixture
    def reopen(self, settings):
        return lambda: open_store(settings)

    def test_nothing_is_written_here(self, store, settings):
        store.register("prompt", fresh(), digest="sha256:" + "0" * 64, content={})
        assert not settings.home.exists()


def test_a_server_that_is_not_there_is_told_in_seconds(tmp_path):
    uri = f"http://user:s3cret@127.0.0.1:{free_port()}"
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable, match="Start the MLflow server") as told:
        open_store(load_settings(tmp_path, environ={}, tracking_uri=uri))
    assert time.monotonic() - begun < 5 + 15 * ("mlflow" not in sys.modules)
    assert "s3cret" not in str(told.value)


def test_a_server_that_goes_away_is_told_in_seconds(tmp_path, sqlite_server):
    store = open_store(load_settings(tmp_path, environ={}, tracking_uri=sqlite_server.uri))
    sqlite_server.stop()
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable, match="is up"):
        store.versions("prompt", "a")
    assert time.monotonic() - begun < 10


@pytest.fixture
def sqlite_server(tmp_path):
    """The server of `ui_command`: MLflow's own UI on the local store."""
    settings = load_settings(tmp_path / "local", environ={})
    store = open_store(settings)
    store.register("prompt", "team/shown", digest="sha256:" + "0" * 64, content={"template": "Say {{ x }}."})
    store.close()
    server = Server(ui_command(settings, port=free_port()), tmp_path)
    with urllib.request.urlopen(server.uri, timeout=30) as page:
        assert b"<title>MLflow" in page.read()
    over_http = open_store(load_settings(tmp_path, environ={}, tracking_uri=server.uri))
    assert over_http.version("prompt", "team/shown", 1).content == {"template": "Say {{ x }}."}
    yield server
    server.stop()


def test_the_ui_answers_no_other_site(sqlite_server):
    """A page that rebinds its name to this machine, and one that posts across sites."""
    port = int(sqlite_server.port)

    def status(method, path, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request(method, path, body="{}" if method == "POST" else None, headers=headers)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status

    api, kind = "/api/2.0/mlflow/experiments/search", {"Content-Type": "application/json"}
    mine = f"127.0.0.1:{port}"
    assert status("GET", "/", Host="evil.example") == 403
    assert status("POST", api, Host=f"evil.example:{port}", **kind) == 403
    assert status("POST", api, Host=mine, Origin="http://evil.example", **kind) == 403
    assert status("POST", api, Host=mine, Origin=f"http://{mine}", **kind) != 403
    assert status("GET", "/", Host=mine) == 200
    process = psutil.Process(sqlite_server.process.pid)
    listening = {
        (c.laddr.ip, c.laddr.port)
        for p in (process, *process.children(recursive=True))
        for c in p.net_connections("tcp")
        if c.status == psutil.CONN_LISTEN
    }
    assert listening == {("127.0.0.1", port)}


def test_the_ui_of_a_server_is_its_own(tmp_path):
    with pytest.raises(InvalidValue, match="http://h:1"):
        ui_command(load_settings(tmp_path, environ={}, tracking_uri="http://h:1"))
    argv = ui_command(load_settings(tmp_path, environ={}))
    assert argv[argv.index("--host") + 1] == "127.0.0.1"
