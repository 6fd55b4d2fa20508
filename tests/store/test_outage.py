"""A store that is away, hangs, comes back, loses answers or sends us elsewhere."""

from __future__ import annotations

import http.server
import socket
import threading
import time
import urllib.request
from contextlib import closing, contextmanager

import pytest

from steelyard.core.canonical import digest
from steelyard.core.errors import Conflict, Refused, StoreUnavailable
from steelyard.core.settings import load_settings
from steelyard.store import open_store
from steelyard.store.artifacts import check_address
from steelyard.store.outage import PATIENCE_S, REQUEST_S
from steelyard.testing.store_parts import bundle, evidence_of, fresh, move, run_of
from steelyard.testing.store_servers import MlflowServer, Postgres, free_port, postgres_binaries

pytestmark = pytest.mark.server
TOLD_WITHIN = 10 + 5  # the promise is 10 s; 5 more for a machine that does other things


@pytest.fixture(autouse=True)
def _people_s_patience(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", str(REQUEST_S))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    with MlflowServer(f"sqlite:///{folder / 'mlflow.db'}", str(folder / "artifacts"), folder) as server:
        yield server


class Between(http.server.BaseHTTPRequestHandler):
    """A proxy that loses the answers it is told to lose, after the server behind it has done the work."""

    protocol_version = "HTTP/1.1"

    def _pass(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = urllib.request.Request(self.server.behind + self.path, body or None, method=self.command)
        request.add_header("Content-Type", self.headers.get("Content-Type") or "application/json")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, data = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, data = error.code, error.read()
        for path in list(self.server.lose):
            if path in self.path and self.command != "GET":
                self.server.lose.remove(path)
                self.server.lost.append(path)
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = _pass

    def log_message(self, *_):
        pass


@contextmanager
def between(behind, lose):
    proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Between)
    proxy.behind, proxy.lose, proxy.lost = behind, lose, []
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()


def _open(tmp_path, uri):
    return open_store(load_settings(tmp_path, environ={}, tracking_uri=uri))


def test_answers_that_are_lost_change_nothing(server, tmp_path):
    """Every write is done by the server, and its answer never comes."""
    lose = []
    with between(server.uri, lose) as proxy:
        store, name = _open(tmp_path, f"http://127.0.0.1:{proxy.server_address[1]}"), fresh("team/p")
        a, b = digest({"d": "a"}), digest({"d": "b"})
        lose += ["registered-models/create", "model-versions/create"]
        assert store.register("prompt", name, digest=a, content={"d": "a"}).number == 1
        store.register("prompt", name, digest=b, content={"d": "b"})
        lose += ["registered-models/create", "model-versions/create", "registered-models/alias"]
        assert store.move_alias(move(name, None, a)).number == 1
        lose += ["model-versions/create"]
        assert store.move_alias(move(name, a, b)).number == 2
        lose += ["runs/log-batch", "runs/set-tag", "runs/update"]
        evidence = store.add_evidence(
            evidence_of(name=name), bundle(tmp_path / "b"), run_of(metrics={"m": 1})
        )
        assert (lose, len(proxy.lost)) == ([], 9)
    straight = _open(tmp_path, server.uri)
    assert [v.digest for v in straight.versions("prompt", name)] == [a, b]
    assert [(e.before, e.after) for e in straight.history("prompt", name)] == [(None, a), (a, b)]
    assert straight.evidence(name=name) == [evidence]
    with pytest.raises(Conflict):
        straight.move_alias(move(name, a, b))


def test_a_server_that_hangs_is_told_within_seconds(server, tmp_path):
    store, name = _open(tmp_path, server.uri), fresh()
    store.register("prompt", name, digest=digest("a"), content={})
    server.pause()
    try:
        for call in (
            lambda: store.aliases("prompt", name),
            lambda: store.move_alias(move(name, None, digest("a"))),
            lambda: _open(tmp_path, server.uri),
        ):
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match="does not answer"):
                call()
            assert time.monotonic() - began < TOLD_WITHIN
    finally:
        server.resume()
    assert store.aliases("prompt", name) == {}


def test_a_write_that_hangs_is_told_as_not_known(server, tmp_path, monkeypatch):
    store, name = _open(tmp_path, server.uri), fresh()
    store.register("prompt", name, digest=digest("a"), content={})
    append = store._aliases._series.append

    def paused(*arguments, **named):
        server.pause()
        return append(*arguments, **named)

    monkeypatch.setattr(store._aliases._series, "append", paused)
    began = time.monotonic()
    try:
        with pytest.raises(StoreUnavailable, match="not known whether it took effect"):
            store.move_alias(move(name, None, digest("a")))
        assert time.monotonic() - began < TOLD_WITHIN
    finally:
        server.resume()


def test_a_server_that_restarts_is_waited_for(tmp_path):
    """A small one plays it, so that starting it takes no time; it is away for 5 seconds."""
    port, at = free_port(), threading.Event()
    answered = []

    class Small(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            answered.append(self.path)
            data = (
                b'{"registered_models": []}'
                if "registered-models" in self.path
                else b'{"experiment": {"tags": []}}'
            )
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    def serve(after):
        time.sleep(after)
        with http.server.HTTPServer(("127.0.0.1", port), Small) as small:
            small.timeout = 0.1
            while not at.is_set():
                small.handle_request()

    first = threading.Thread(target=serve, args=(0,))
    first.start()
    time.sleep(0.2)
    store = _open(tmp_path, f"http://127.0.0.1:{port}")
    at.set()
    first.join()
    at.clear()
    answered.clear()
    second = threading.Thread(target=serve, args=(5,))
    second.start()
    try:
        assert store.names("prompt") == []
        assert answered
    finally:
        at.set()
        second.join()
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="is up"):  # and for good
        store.names("prompt")
    assert PATIENCE_S / 2 < time.monotonic() - began < TOLD_WITHIN


def test_a_database_that_restarts_is_waited_for_and_one_that_is_gone_is_told(tmp_path):
    if postgres_binaries() is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with Postgres() as postgres:
        store, name = _open(tmp_path, postgres.uri), fresh()
        store.register("prompt", name, digest=digest("a"), content={})
        postgres.stop()
        back = threading.Timer(3, postgres.start)
        back.start()
        assert store.version("prompt", name, 1).digest == digest("a")
        back.join()
        assert store.move_alias(move(name, None, digest("a"))).number == 1
        postgres.stop()
        for call in (lambda: store.aliases("prompt", name), lambda: _open(tmp_path, postgres.uri)):
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                call()
            assert time.monotonic() - began < TOLD_WITHIN
        with closing(socket.create_server(("127.0.0.1", postgres.port))):  # takes connections, says nothing
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                _open(tmp_path, postgres.uri)
            assert time.monotonic() - began < TOLD_WITHIN


def test_a_server_that_sends_us_elsewhere_is_not_followed(tmp_path):
    asked = []

    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if self.path.startswith("/inner"):
                self.send_response(200)
            else:
                self.send_response(302)
                self.send_header("Location", "/inner/latest/meta-data")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with pytest.raises(StoreUnavailable):
            _open(tmp_path, f"http://127.0.0.1:{server.server_address[1]}")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert asked
    assert not [a for a in asked if a.startswith("/inner")]


@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.169.254/latest/meta-data",
        "https://127.0.0.1:6/x",
        "mlflow-artifacts://elsewhere:5000/0/run",
        "mlflow-artifacts:/../../etc",
        "mlflow-artifacts:/0/%2e%2e/%2e%2e/etc",
        "mlflow-artifacts:/0/%252e%252e/etc",
        "mlflow-artifacts:/0/..\\..\\etc",
        "s3://bucket/a/../../b",
        "file:///etc",
        "/etc",
        "mlflow-artifacts:/0/a%00b",
    ],
)
def test_artifacts_are_not_fetched_from_anywhere(address):
    with pytest.raises(Refused):
        check_address(address, "https://user:secret@mlflow.example:443", served=True)


@pytest.mark.parametrize(
    ("address", "store", "served"),
    [
        ("mlflow-artifacts:/0/run/artifacts", "http://mlflow.example", True),
        ("mlflow-artifacts://h:5000/0/run/artifacts", "http://user:x@h:5000", True),
        ("s3://bucket/0/run/artifacts", "http://mlflow.example", True),
        ("file:///srv/artifacts/0/run", "http://127.0.0.1:5000", True),
        ("file:///home/me/.steelyard/store/artifacts/e/run", "sqlite:////home/me/x.db", False),
    ],
)
def test_artifacts_are_fetched_from_the_store(address, store, served):
    check_address(address, store, served=served)


def test_a_run_whose_artifacts_lie_elsewhere_is_refused(tmp_path):
    """Someone else made it, a copy of a bundle's; no connection goes where it says."""
    store, name = open_store(load_settings(tmp_path, environ={})), fresh()
    with closing(socket.create_server(("127.0.0.1", 0))) as inner:
        place = f"http://127.0.0.1:{inner.getsockname()[1]}/meta-data"
        client = store._backend.client
        theirs = client.create_experiment(fresh("theirs"), artifact_location=place)
        stored = store.add_evidence(evidence_of(name=name), bundle(tmp_path / "b"), run_of())
        planted = client.create_run(theirs, tags=client.get_run(stored.run_id).data.tags)
        client.delete_run(stored.run_id)
        assert [e.run_id for e in store.evidence(name=name)] == [planted.info.run_id]
        inner.settimeout(0.2)
        with pytest.raises(Refused, match="another server"):
            store.open_evidence(stored.id, tmp_path / "to")
        with pytest.raises(TimeoutError):
            inner.accept()
    assert not (tmp_path / "to" / stored.id).exists()
    store.close()
