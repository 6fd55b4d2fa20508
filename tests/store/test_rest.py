"""Reading an MLflow server without MLflow: a real server, and servers that misbehave."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from steelyard.core.clock import stamp
from steelyard.core.errors import InvalidValue, NotFound, StoreUnavailable
from steelyard.core.settings import TrackingAccess, load_settings, tracking_access
from steelyard.prompts import Prompt, Variable
from steelyard.prompts.push import register
from steelyard.store import LedgerEntry, open_store
from steelyard.store.reading import open_reader
from steelyard.store.rest import RestStore


# -- a real server --------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rest")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]
    env = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, env=env, cwd=folder, start_new_session=True)
    uri = f"http://127.0.0.1:{port}"
    end = time.monotonic() + 180
    while True:
        try:
            urllib.request.urlopen(f"{uri}/health", timeout=5).close()
            break
        except OSError:
            if time.monotonic() > end or process.poll() is not None:
                raise RuntimeError((folder / "log").read_text()[-3000:]) from None
            time.sleep(0.2)
    yield uri
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def make(text: str, name: str) -> Prompt:
    return Prompt(
        name=name,
        messages=({"role": "system", "content": text}, {"role": "user", "content": "{{ x }} ✓ ü"}),
        variables={"x": Variable(description="what it is")},
        parameters={"temperature": 0},
        tools=({"type": "function", "function": {"name": "f", "parameters": {"b": 1, "a": 2}}},),
        description="for " + text[:10],
    )


def point(store, prompt: Prompt, alias: str, before: str | None) -> None:
    register(prompt, store)
    entry = LedgerEntry(
        kind="prompt",
        name=prompt.name,
        alias=alias,
        before=before,
        after=prompt.digest,
        action="promote",
        who="me",
        when=stamp(),
    )
    store.move_alias(entry)


@pytest.mark.server
def test_it_reads_what_mlflow_reads(server, tmp_path):
    settings = load_settings(tmp_path, environ={}, tracking_uri=server)
    store = open_store(settings)
    name = "team/support"
    one, two, large = make("one", name), make("two", name), make("long " * 20_000, name)  # seven tags of text
    point(store, one, "production", None)
    point(store, two, "production", one.digest)
    point(store, two, "staging", None)
    point(store, large, "staging", two.digest)
    point(store, one, "gone", None)
    store.move_alias(
        LedgerEntry(
            kind="prompt",
            name=name,
            alias="gone",
            before=one.digest,
            after=None,
            action="remove",
            who="me",
            when=stamp(),
        )
    )
    reader = open_reader(settings)
    assert isinstance(reader, RestStore)
    assert reader.uri == store.uri
    assert reader.aliases("prompt", name) == store.aliases("prompt", name)
    assert set(reader.aliases("prompt", name)) == {"production", "staging"}
    assert reader.history("prompt", name) == store.history("prompt", name)
    assert reader.versions("prompt", name) == store.versions("prompt", name)
    for selector in (1, 3, two.digest, large.digest[:20]):
        assert reader.version("prompt", name, selector) == store.version("prompt", name, selector)
    with pytest.raises(NotFound):
        reader.version("prompt", name, 9)
    assert reader.names("prompt") == store.names("prompt")
    assert name in reader.names("prompt")
    assert reader.names("model") == []
    assert reader.versions("prompt", "nobody") == []
    assert reader.aliases("prompt", "nobody") == {}
    store.close()


@pytest.mark.server
def test_an_application_without_mlflow_is_served_and_sees_a_promotion(server, tmp_path):
    settings = load_settings(tmp_path, environ={}, tracking_uri=server)
    store = open_store(settings)
    one, two = make("one", "app"), make("two", "app")
    point(store, one, "production", None)
    code = textwrap.dedent(
        """
        import sys, time
        class Blocked:
            heavy = {"mlflow", "openai", "numpy", "pandas", "requests", "sqlalchemy", "filelock", "rich"}
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in self.heavy:
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        sys.meta_path.insert(0, Blocked())
        import steelyard
        def now():
            return steelyard.prompt("app@production").render(x="!").messages[0]["content"]
        print(now(), flush=True)
        sys.stdin.readline()
        end = time.monotonic() + 60
        while now() == "one" and time.monotonic() < end:
            time.sleep(0.02)
        print(now(), flush=True)
        assert not Blocked.heavy & {m.partition(".")[0] for m in sys.modules}
        """
    )
    env = {**os.environ, "STEELYARD_TRACKING_URI": server, "STEELYARD_PROMPT_TTL_S": "0.2"}
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, stdin=-1, stdout=-1, stderr=-1, text=True
    )
    assert process.stdout.readline() == "one\n", process.stderr.read()
    point(store, two, "production", one.digest)
    out, err = process.communicate("go\n", timeout=120)
    assert (out, process.returncode) == ("two\n", 0), err
    store.close()


# -- servers that misbehave -----------------------------------------------------------------------
class Odd(BaseHTTPRequestHandler):
    """Answers what the test says."""

    answer = (200, b"{}", {})
    experiment = (404, b"{}", {})
    seen: list[tuple[str, str | None]]

    def do_GET(self):
        status, body, headers = self.answer
        if "/experiments/" in self.path:
            status, body, headers = self.experiment
        else:
            type(self).seen.append((self.path, self.headers.get("Authorization")))
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def odd(tmp_path):
    handler = type("Handler", (Odd,), {"seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    handler.uri = f"http://127.0.0.1:{server.server_port}"

    def open_(access=None, user=""):
        uri = handler.uri.replace("//", f"//{user}@") if user else handler.uri
        settings = load_settings(tmp_path, environ={}, tracking_uri=uri + "/base")
        return RestStore(settings, access=access or TrackingAccess())

    handler.open = staticmethod(open_)
    yield handler
    server.shutdown()
    server.server_close()
    thread.join()


VERSION = {"name": "p", "version": "1", "creation_timestamp": 1, "tags": []}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, b"<html>Sign in</html>", {}), "does not answer with JSON"),
        ((200, b'{"model_versions": [{"name"', {}), "does not answer with JSON"),
        ((200, b'{"model_versions": []}', {"Content-Length": "500"}), "broke off"),
        ((200, b"[" * 100_000, {}), "does not answer with JSON"),
        ((200, b"[]", {}), "no object"),
        ((200, json.dumps({"model_versions": [1]}).encode(), {}), "wrong shape"),
        ((200, json.dumps({"model_versions": 7}).encode(), {}), "wrong shape"),
        ((200, json.dumps({"model_versions": [VERSION | {"tags": None}]}).encode(), {}), "wrong shape"),
        (
            (200, json.dumps({"model_versions": [VERSION | {"creation_timestamp": "x"}]}).encode(), {}),
            "shape",
        ),
        ((401, b"who are you", {}), "refuses the credentials.*MLFLOW_TRACKING_USERNAME"),
        ((403, b"", {}), "refuses the credentials"),
        ((500, b"oh \xff no", {}), "HTTP 500: oh"),
        ((503, b"", {}), "HTTP 503"),
    ],
)
def test_every_odd_answer_is_the_store_s_trouble(odd, answer, words):
    odd.answer = answer
    with pytest.raises(StoreUnavailable, match=words):
        odd.open().versions("prompt", "p")


def test_no_redirect_is_followed_so_credentials_stay_here(odd):
    odd.answer = (302, b"", {"Location": f"{odd.uri}/elsewhere?token=secret"})
    with pytest.raises(StoreUnavailable, match=r"redirects to .*elsewhere'") as error:
        odd.open(TrackingAccess(token="t")).versions("prompt", "p")
    assert "secret" not in str(error.value)
    assert len(odd.seen) == 1


def test_credentials_by_mlflow_s_variables_and_none_in_texts(odd):
    basic = "Basic " + base64.b64encode(b"ann:p:w").decode()
    odd.open().versions("prompt", "p")
    odd.open(TrackingAccess(username="ann", password="p:w", token="t")).versions("prompt", "p")
    odd.open(tracking_access({"MLFLOW_TRACKING_TOKEN": "t"})).versions("prompt", "p")
    odd.open(user="ann:p%3Aw").versions("prompt", "p")
    assert [a for _, a in odd.seen] == [None, basic, "Bearer t", basic]
    assert all(path.startswith("/base/api/2.0/mlflow/model-versions/search?") for path, _ in odd.seen)
    assert "p:w" not in repr(TrackingAccess(username="ann", password="p:w"))
    odd.answer = (500, b"", {})
    with pytest.raises(StoreUnavailable) as error:
        odd.open(user="ann:secret").versions("prompt", "p")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("experiment", "words"),
    [
        ((403, b"no", {}), None),
        ((200, b'{"experiment": {"tags": [{"key": "steelyard.format", "value": "1"}]}}', {}), None),
        ((200, b'{"experiment": {}}', {}), None),
        ((200, b'{"experiment": {"tags": [{"key": "steelyard.format", "value": "2"}]}}', {}), "layout '2'"),
        ((200, b'{"experiment": 7}', {}), "wrong shape"),
        ((500, b"", {}), "HTTP 500"),
    ],
)
def test_a_newer_layout_is_refused(odd, experiment, words):
    odd.experiment = experiment
    store = odd.open()
    if words is None:
        assert store.versions("prompt", "p") == []
        odd.experiment = (500, b"", {})  # looked at once only
        assert store.aliases("prompt", "p") == {}
    else:
        with pytest.raises(StoreUnavailable, match=words):
            store.aliases("prompt", "p")
        assert odd.seen == []


def test_pages_are_followed(odd):
    pages = {
        None: {"model_versions": [VERSION], "next_page_token": "two"},
        "two": {"model_versions": [VERSION | {"version": 2}]},
    }

    def do_GET(self):
        from urllib.parse import parse_qs, urlsplit

        token = parse_qs(urlsplit(self.path).query).get("page_token", [None])[0]
        self.answer = (200, json.dumps(pages[token]).encode(), {})
        Odd.do_GET(self)

    odd.do_GET = do_GET
    assert odd.open().versions("prompt", "p") == []  # none of ours among them
    assert len(odd.seen) == 2


def test_nothing_listens(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{probe.getsockname()[1]}"
    settings = load_settings(tmp_path, environ={}, tracking_uri=uri)
    with pytest.raises(StoreUnavailable, match="nothing answers"):
        RestStore(settings).versions("prompt", "p")


def test_a_server_that_accepts_and_says_nothing(tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        settings = load_settings(tmp_path, environ={}, tracking_uri=uri)
        with pytest.raises(StoreUnavailable, match="timed out"):
            RestStore(settings, timeout_s=0.2).versions("prompt", "p")


@pytest.mark.parametrize("uri", ["http://", "http://h:x", "ftp://h", "http://[::1"])
def test_addresses_that_are_none(tmp_path, uri):
    with pytest.raises(InvalidValue, match="no address of a server"):
        RestStore(load_settings(tmp_path, environ={}, tracking_uri=uri))
