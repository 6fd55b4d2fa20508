"""Record and replay over a real HTTP server: odd replies, streams, damage, and no socket in replay."""

import contextlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.core.canonical import canonical
from steelyard.core.chat import ChatRequest
from steelyard.core.errors import CallFailed, Corrupt, ReplayMiss
from steelyard.core.results import Usage
from steelyard.lm.key import key_of_call, key_of_request
from steelyard.lm.openai_lm import OpenAILM
from steelyard.lm.replay import call_scope, replaying
from steelyard.lm.tape import Recording

GOOD = {
    "model": "m",
    "choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 3},
}
CHUNKS = [
    {"model": "m", "choices": [{"index": 0, "delta": {"content": "hel"}, "finish_reason": None}]},
    {"model": "m", "choices": [{"index": 0, "delta": {"content": "lo"}, "finish_reason": "stop"}]},
    {"model": "m", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}},
]


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.replies, self.hits, self.stop_waiting = [], 0, threading.Event()


class Answers(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.server.hits += 1
        reply = self.server.replies.pop(0) if self.server.replies else (200, GOOD, {})
        status, body, headers = reply
        if status == "hang":
            self.server.stop_waiting.wait(5)
            return
        kind = "application/json"
        if isinstance(body, list):
            kind = "text/event-stream"
            body = "".join(f"data: {c if isinstance(c, str) else json.dumps(c)}\n\n" for c in body)
        raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        for key, value in {"content-type": kind, "content-length": str(len(raw)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(raw)


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.stop_waiting.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def lm(server):
    lm = OpenAILM("m", f"http://127.0.0.1:{server.server_port}/v1", "sk-canary", timeout_s=3, max_retries=0)
    yield lm
    lm.close()


def ask(text="hi"):
    return ChatRequest(messages=({"role": "user", "content": text},), parameters={"temperature": 0})


def choice(**message):
    return {"choices": [{"message": message, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ((401, {"error": {"message": "no"}}, {}), "auth"),
        ((403, {"error": {"message": "no"}}, {}), "auth"),
        ((400, {"error": {"message": "no"}}, {}), "bad_request"),
        ((404, {"error": {"message": "no"}}, {}), "bad_request"),
        ((422, {"error": {"message": "no"}}, {}), "bad_request"),
        ((429, {"error": {"message": "slow"}}, {}), "rate_limit"),
        ((500, "oops", {}), "provider"),
        ((200, "<html>login</html>", {"content-type": "text/html"}), "provider"),
        ((200, '{"choices": [{"mess', {}), "provider"),
        ((200, {"choices": []}, {}), "provider"),
        ((200, {"error": "overloaded"}, {}), "provider"),
        ((200, choice(content=None), {}), "provider"),
        (
            (200, choice(content=None, tool_calls=[{"function": {"name": "f", "arguments": {}}}]), {}),
            "provider",
        ),
    ],
)
def test_no_usable_answer_is_a_failure_with_its_kind_and_is_not_recorded(server, lm, tmp_path, reply, kind):
    server.replies.append(reply)
    with replaying(tmp_path / "tape") as session, call_scope("a") as calls:
        with pytest.raises(CallFailed) as caught:
            lm.complete(ask())
        assert caught.value.kind == kind
        assert calls.last_failure.kind == kind
        assert calls.usage.calls == 0
        assert session.counts.recorded == 0
        if kind != "auth":
            assert lm.complete(ask()).text == "hello"  # the next attempt has the same key
    with replaying(tmp_path / "tape"), call_scope("a"):
        assert lm.complete(ask()).text == "hello"
    with replaying(tmp_path / "tape", "replay"), call_scope("a"):
        assert lm.complete(ask()).text == "hello"


def test_timeout_and_refused_connection(server):
    server.replies.append(("hang", None, {}))
    url = f"http://127.0.0.1:{server.server_port}/v1"
    slow = OpenAILM("m", url, "k", timeout_s=0.2, max_retries=0)
    with pytest.raises(CallFailed) as caught:
        slow.complete(ask())
    assert caught.value.kind == "timeout"
    slow.close()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        gone = OpenAILM("m", f"http://127.0.0.1:{free.getsockname()[1]}/v1", "k", max_retries=0)
        with pytest.raises(CallFailed) as caught:
            gone.complete(ask())
    assert caught.value.kind == "transport"
    gone.close()


def test_retries_are_logged_and_replayed_as_one_call(server, tmp_path):
    server.replies += [(429, {}, {"retry-after": "0.01"}), (503, {}, {"retry-after-ms": "5"})]
    lm = OpenAILM("m", f"http://127.0.0.1:{server.server_port}/v1", "k", max_retries=3)
    with replaying(tmp_path), call_scope("a") as live:
        lm.complete(ask())
    assert [f.kind for f in live.failures] == ["rate_limit", "provider"]
    assert live.usage.calls == 1
    with replaying(tmp_path, "replay"), call_scope("a") as again:
        lm.complete(ask())
    assert again.usage == live.usage + Usage(replayed=1)
    lm.close()


def test_replay_opens_no_socket_and_gives_the_same_usage(server, lm, tmp_path, monkeypatch):
    with replaying(tmp_path / "t") as session:
        with call_scope("a") as live:
            first = lm.complete(ask())
            lm.complete(ask())  # the second identical call has a recording of its own
        with call_scope("b", 1):
            lm.complete(ask())
    assert (session.counts.misses, server.hits) == (3, 3)

    def refuse(*_):
        raise AssertionError("a socket was connected")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    lm.close()
    with replaying(tmp_path / "t", "replay") as session:
        with call_scope("other example") as again:
            assert lm.complete(ask()).text == first.text
            lm.complete(ask())
        assert again.usage.latency_s == live.usage.latency_s
        # A task that swallows the miss does not get away with it.
        with pytest.raises(ReplayMiss), call_scope("a"), contextlib.suppress(ReplayMiss):
            lm.complete(ask("never asked"))
        with pytest.raises(ReplayMiss), call_scope("a"):
            socket.create_connection(("127.0.0.1", server.server_port))
        with pytest.raises(ReplayMiss):
            lm.complete(ask("outside of any scope"))
    assert session.counts.hits == 2
    assert server.hits == 3


def test_streams_are_recorded_whole_and_cut_streams_are_failures(server, lm, tmp_path):
    server.replies += [(200, [*CHUNKS, "[DONE]"], {}), (200, CHUNKS[:1], {})]
    client = lm.openai_client()

    def words():
        messages = [{"role": "user", "content": "hi"}]
        with client.chat.completions.create(model="m", messages=messages, stream=True) as stream:
            return "".join(c.choices[0].delta.content or "" for c in stream if c.choices)

    with replaying(tmp_path):
        with call_scope("a") as live:
            assert words() == "hello"
        assert (live.usage.input_tokens, live.usage.output_tokens, live.usage.calls) == (7, 3, 1)
        with call_scope("a", 1) as cut, pytest.raises(CallFailed, match="stream was cut"):
            words()
        assert cut.last_failure.kind == "provider"
    with replaying(tmp_path, "replay"), call_scope("a") as again:
        assert words() == "hello"
    assert again.usage.replayed == 1


def test_async_calls_are_replayed(server, lm, tmp_path):
    import asyncio

    for mode in ("auto", "replay"):
        with replaying(tmp_path, mode), call_scope("a") as calls:
            assert asyncio.run(lm.acomplete(ask())).text == "hello"
        assert calls.usage.calls == 1
    assert server.hits == 1


def test_no_key_is_written_and_files_are_private(lm, tmp_path):
    with replaying(tmp_path / "t"), call_scope("a"):
        lm.complete(ask())
    (file,) = (tmp_path / "t").rglob("*.rec")
    assert b"sk-canary" not in file.read_bytes()
    assert file.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "t").stat().st_mode & 0o777 == 0o700


def test_a_damaged_recording_is_a_miss_in_auto_and_an_error_in_replay(server, lm, tmp_path):
    with replaying(tmp_path), call_scope("a"):
        lm.complete(ask())
    (file,) = tmp_path.rglob("*.rec")
    file.write_bytes(file.read_bytes()[:-1])
    with replaying(tmp_path, "replay"), pytest.raises(Corrupt), call_scope("a"):
        lm.complete(ask())
    with replaying(tmp_path) as session, call_scope("a"):
        assert lm.complete(ask()).text == "hello"
    assert (session.counts.corrupt, server.hits) == (1, 2)
    assert len(list((tmp_path / "quarantine").iterdir())) == 1


def test_every_bit_flip_and_truncation_is_detected():
    one = Recording(key="k", status=200, headers={}, body=b"{}\n\x00", usage=Usage(calls=1), about={})
    data = one.to_bytes()
    assert Recording.from_bytes(data, key="k") == one
    for at in range(len(data)):
        for bad in (data[:at], *(data[:at] + bytes([data[at] ^ 1 << b]) + data[at + 1 :] for b in range(8))):
            with pytest.raises(ValueError, match=r"checksum|start like"):
                Recording.from_bytes(bad, key="k")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=8,
)


def key(body, identity=None, target="/v1/chat/completions"):
    kind = "application/json"
    return key_of_request(
        method="POST", target=target, content_type=kind, body=body, identity=identity, host=None
    )


@settings(deadline=None)
@given(JSON, JSON)
def test_keys_are_equal_exactly_when_the_json_is(a, b):
    spaced = json.dumps(a, indent=2, ensure_ascii=True).encode()
    assert key(spaced) == key(canonical(a))
    assert (key(canonical(a)) == key(canonical(b))) == (canonical(a) == canonical(b))


@settings(deadline=None)
@given(st.binary())
def test_any_bytes_have_a_key(body):
    assert len(key(body)) == 64


def test_what_the_key_leaves_out_and_what_it_holds():
    a, b = b'{"model":"x","n":1}', b'{"model":"y","n":1}'
    assert key(a) != key(b)
    assert key(a, "sha256:w") == key(b, "sha256:w") != key(a, "sha256:v")
    assert key(a, target="/v1/x?api_key=1&v=2") == key(a, target="/v1/x?v=2") != key(a, target="/v1/x?v=3")
    assert len({key_of_call("r", trial=t, n=n) for t in range(3) for n in range(3)}) == 9
