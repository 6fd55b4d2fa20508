"""The replay store against a pure model: damage, crashes, full disks, two processes, strangers' files."""

import contextlib
import errno
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from steelyard.core import files as files_module
from steelyard.core.chat import ChatRequest
from steelyard.core.errors import CallFailed, Corrupt, ReplayMiss
from steelyard.core.results import Usage
from steelyard.lm import tape as tape_module
from steelyard.lm.openai_lm import OpenAILM
from steelyard.lm.replay import call_scope, replaying
from steelyard.lm.scope import Session
from steelyard.lm.tape import Recording, Tape
from steelyard.testing.chat_server import ChatServer, completion

FULL = bool(os.environ.get("STEELYARD_FULL"))
KEYS = [hashlib.sha256(bytes([n])).hexdigest() for n in range(4)]


def recording(key, body=b"{}", **more):
    fields = {"status": 200, "headers": {"content-type": "application/json"}, "usage": Usage(calls=1)}
    return Recording(key=key, body=body, **(fields | {"about": {"path": "/v1"}} | more))


# -- another process ------------------------------------------------------------------------------------
WORKER = """
import sys
from pathlib import Path
from steelyard.core.results import Usage
from steelyard.lm.tape import Recording, Tape
for line in sys.stdin:
    folder, key, body = line.split()
    headers, raw = {"content-type": "application/json"}, bytes.fromhex(body[1:])
    fields = {"usage": Usage(calls=1), "about": {"path": "/v1"}}
    Tape(Path(folder)).put(Recording(key=key, status=200, headers=headers, body=raw, **fields))
    print("done", flush=True)
"""


class Other:
    """A second process that writes recordings."""

    process = None

    @classmethod
    def put(cls, folder, key, body):
        if cls.process is None:
            cls.process = subprocess.Popen(
                [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        print(folder, key, "x" + body.hex(), file=cls.process.stdin, flush=True)
        assert cls.process.stdout.readline() == "done\n"


@pytest.fixture(scope="module", autouse=True)
def other_ends():
    yield
    if Other.process is not None:
        Other.process.stdin.close()
        Other.process.stdout.close()
        Other.process.wait()


class FailingWrites:
    """`os` for whoever writes files: the nth write fails, and writes before it may be short."""

    def __init__(self, after, error, short=None):
        self._left, self._error, self._short = after, error, short

    def __getattr__(self, name):
        return getattr(os, name)

    def write(self, fd, data):
        if self._left == 0:
            raise self._error
        self._left -= 1
        return os.write(fd, data[: self._short] if self._short else data)


@contextlib.contextmanager
def failing_writes(after, error, short=None):
    files_module.os = FailingWrites(after, error, short)
    try:
        yield
    finally:
        files_module.os = os


class StoreMachine(RuleBasedStateMachine):
    """What `Tape` must do, said with a dictionary."""

    keys = Bundle("keys")
    damaged_keys = Bundle("damaged_keys")

    @initialize()
    def empty(self):
        self.folder = Path(tempfile.mkdtemp())
        self.tapes = (Tape(self.folder), Tape(self.folder))
        self.sound: dict[str, bytes] = {}
        self.damaged: set[str] = set()
        self.away = 0

    def file(self, key):
        return self.tapes[0].path(key)

    @rule(target=keys, key=st.sampled_from(KEYS), body=st.binary(max_size=40), who=st.integers(0, 1))
    def put(self, key, body, who):
        self.tapes[who].put(recording(key, body))
        self.sound[key] = body
        self.damaged.discard(key)
        return key

    @rule(target=keys, key=st.sampled_from(KEYS), body=st.binary(max_size=40))
    def put_by_another_process(self, key, body):
        Other.put(self.folder, key, body)
        self.sound[key] = body
        self.damaged.discard(key)
        return key

    @rule(
        key=st.sampled_from(KEYS),
        body=st.binary(max_size=40),
        after=st.integers(0, 3),
        short=st.integers(1, 90),
    )
    def put_on_a_full_disk(self, key, body, after, short):
        whole = len(recording(key, body).to_bytes()) <= after * short
        with failing_writes(after, OSError(errno.ENOSPC, "No space left on device"), short):
            try:
                self.tapes[0].put(recording(key, body))
            except OSError:
                assert not whole
            else:
                assert whole
                self.sound[key] = body
                self.damaged.discard(key)

    @rule(key=st.sampled_from(KEYS), body=st.binary(max_size=40), share=st.floats(0, 1))
    def die_while_writing(self, key, body, share):
        data = recording(key, body).to_bytes()
        folder = self.file(key).parent
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f".{len(list(folder.iterdir()))}.tmp").write_bytes(data[: int(share * len(data))])

    @rule(
        target=damaged_keys,
        key=consumes(keys),
        where=st.floats(0, 1, exclude_max=True),
        bit=st.integers(0, 8),
    )
    def damage(self, key, where, bit):
        if key in self.sound:
            data = bytearray(self.file(key).read_bytes())
            at = int(where * len(data))
            if bit == 8:
                del data[at:]
            else:
                data[at] ^= 1 << bit
            self.file(key).write_bytes(bytes(data))
            del self.sound[key]
            self.damaged.add(key)
        return key

    @rule(key=damaged_keys, who=st.integers(0, 1))
    def quarantine(self, key, who):
        if key in self.damaged:
            away = self.tapes[who].quarantine(key)
            assert away.is_file()
            self.damaged.discard(key)
            self.away += 1

    @rule(key=st.sampled_from(KEYS), mode=st.sampled_from(["auto", "replay", "live"]))
    def ask_a_session(self, key, mode):
        session = Session(self.folder, mode)
        if mode == "live":
            assert session.find(key, "x") is None
        elif key in self.sound:
            assert session.find(key, "x").body == self.sound[key]
            assert session.counts.hits == 1
        elif mode == "replay":
            with pytest.raises(Corrupt if key in self.damaged else ReplayMiss):
                session.find(key, "x")
            assert session.counts.corrupt == (key in self.damaged)
        else:
            assert session.find(key, "x") is None
            assert session.counts.corrupt == (key in self.damaged)
            self.away += key in self.damaged
            self.damaged.discard(key)

    @invariant()
    def every_reader_sees_the_model(self):
        for tape in self.tapes:
            for key in KEYS:
                if key in self.damaged:
                    with pytest.raises(Corrupt):
                        tape.get(key)
                elif key in self.sound:
                    assert tape.get(key).body == self.sound[key]
                else:
                    assert tape.get(key) is None
        quarantine = self.folder / "quarantine"
        assert (len(list(quarantine.iterdir())) if quarantine.is_dir() else 0) == self.away


TestStore = StoreMachine.TestCase
TestStore.settings = settings(
    max_examples=400 if FULL else 40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


# -- damage and death -------------------------------------------------------------------------------------
def test_damage_at_every_byte_is_detected_counted_and_set_aside(tmp_path):
    dice = random.Random(1)
    length = len(recording(KEYS[0], b'{"a": 1}\n\x00').to_bytes())
    for at in range(length):
        key = hashlib.sha256(str(at).encode()).hexdigest()
        data = recording(key, b'{"a": 1}\n\x00').to_bytes()
        file = Tape(tmp_path).path(key)
        file.parent.mkdir(parents=True, exist_ok=True)
        for bad in (data[:at], data[:at] + bytes([data[at] ^ 1 << dice.randrange(8)]) + data[at + 1 :]):
            file.write_bytes(bad)
            with pytest.raises(Corrupt):
                Session(tmp_path, "replay").find(key, "x")
            assert file.read_bytes() == bad  # replay changes nothing
            session = Session(tmp_path, "auto")
            assert session.find(key, "x") is None
            assert session.counts.corrupt == 1
            assert not file.exists()
    assert len(list((tmp_path / "quarantine").iterdir())) == 2 * length


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_killed_writer_loses_nothing_it_reported(tmp_path):
    dice = random.Random(3)
    reported: dict[str, bytes] = {}
    for point in range(200 if FULL else 20):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            _write_for_ever(Tape(tmp_path), writer, point)
        os.close(writer)
        time.sleep(dice.uniform(0.001, 0.02))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with os.fdopen(reader, "rb") as pipe:
            for line in pipe.read().split(b"\n")[:-1]:
                key, body = line.decode().split()
                reported[key] = body.encode()
    tape = Tape(tmp_path)
    assert len(reported) > 20
    for key, body in reported.items():
        assert tape.get(key).body == body
    for file in tmp_path.glob("??/*.rec"):
        assert tape.get(file.stem) is not None  # whole, or not there


def _write_for_ever(tape, writer, point):
    try:
        for n in range(10**6):
            key = hashlib.sha256(f"{point}.{n}".encode()).hexdigest()
            body = b"x" * (n % 7 * 1000)
            tape.put(recording(key, body + b"."))
            os.write(writer, key.encode() + b" " + body + b".\n")
    finally:
        os._exit(1)


# -- a sick disk costs a recording, never an answer -----------------------------------------------------
@pytest.fixture(scope="module")
def server():
    with ChatServer("hello") as server:
        yield server


@pytest.fixture
def lm(server):
    lm = OpenAILM("m", server.base_url, "k", max_retries=0)
    yield lm
    lm.close()


def ask(text="hi"):
    return ChatRequest(messages=({"role": "user", "content": text},))


@pytest.mark.server
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("after", [0, 1, 2, 5])
def test_a_write_that_fails_loses_no_answer(lm, tmp_path, number, after):
    with replaying(tmp_path) as session, call_scope("a") as calls:
        with failing_writes(after, OSError(number, os.strerror(number)), short=50):
            assert lm.complete(ask()).text == "hello"
        assert calls.usage.calls == 1
        assert (session.counts.unwritten, session.counts.recorded) == (1, 0)
        assert [p for p in tmp_path.rglob("*") if p.is_file()] == []  # no half, no leftover
        assert lm.complete(ask("again")).text == "hello"
        assert session.counts.recorded == 1


@pytest.mark.server
@pytest.mark.parametrize("name", ["mkdir", "replace"])
def test_a_folder_that_cannot_be_changed_loses_no_answer(lm, tmp_path, name, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with replaying(tmp_path / "t") as session, call_scope("a"):
        monkeypatch.setattr(Path, name, refuse)
        assert lm.complete(ask()).text == "hello"
    monkeypatch.undo()
    assert session.counts.unwritten == 1


@pytest.mark.server
def test_a_recording_that_cannot_be_read_or_moved_loses_no_answer(lm, tmp_path, monkeypatch):
    with replaying(tmp_path), call_scope("a"):
        lm.complete(ask())
    read_bytes = Path.read_bytes

    def sick(self):
        if self.suffix == ".rec":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read_bytes(self)

    def stuck(self, target):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "read_bytes", sick)
    with replaying(tmp_path, "replay"), pytest.raises(Corrupt, match="cannot be read"), call_scope("a"):
        lm.complete(ask())
    monkeypatch.setattr(Path, "replace", stuck)
    with replaying(tmp_path) as session, call_scope("a"):
        assert lm.complete(ask()).text == "hello"
    assert (session.counts.corrupt, session.counts.unwritten) == (1, 1)


# -- files that strangers hand us -----------------------------------------------------------------------
def sealed(rest):
    return tape_module._MAGIC + hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
META = st.fixed_dictionaries(
    {
        "key": st.just(KEYS[0]) | JSON,
        "status": st.just(200) | st.integers(-1, 10**6) | JSON,
        "headers": st.dictionaries(
            st.sampled_from(["content-type", "content-encoding", "location", "set-cookie"]),
            st.sampled_from(["application/json", "text/event-stream", "gzip", "br", "a\r\nb: c", "é"]) | JSON,
            max_size=3,
        )
        | JSON,
        "usage": st.none()
        | st.fixed_dictionaries(
            {
                "calls": st.integers(-1, 2) | JSON,
                "input_tokens": st.integers(-1, 9),
                "output_tokens": st.integers(0, 9) | JSON,
                "cost_usd": st.none() | st.floats() | JSON,
                "latency_s": st.floats() | JSON,
                "replayed": st.integers(-1, 9),
            }
        )
        | JSON,
        "about": st.dictionaries(st.text(max_size=4), st.text(max_size=4)) | JSON,
    }
)
REST = (
    st.binary(max_size=200)
    | st.tuples(META, st.binary(max_size=60)).map(lambda t: json.dumps(t[0]).encode() + b"\n" + t[1])
    | st.just(b'{"key":' + b"[" * 20_000 + b"]" * 20_000 + b"}\n")
)


@settings(max_examples=5000 if FULL else 150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(REST, st.booleans())
def test_any_file_is_a_recording_or_damage(rest, seal):
    with tempfile.TemporaryDirectory() as folder:
        tape = Tape(Path(folder))
        file = tape.path(KEYS[0])
        file.parent.mkdir()
        file.write_bytes(sealed(rest) if seal else rest)
        try:
            found = tape.get(KEYS[0])
        except Corrupt:
            return
        assert (found.key, found.status // 100) == (KEYS[0], 2)
        assert set(found.headers) <= {"content-type", "content-encoding"}
        assert found.usage is None or found.usage.input_tokens >= 0
        assert Recording.from_bytes(found.to_bytes(), key=KEYS[0]) == found


BODIES = st.sampled_from(
    [
        json.dumps(completion("x")).encode(),
        b"",
        b"{}",
        b"<html>",
        b"\xff",
        b"data: [DONE]\n\n",
        b"\x1f\x8b\x08",
    ]
) | st.binary(max_size=80)


@pytest.mark.server
@settings(max_examples=400 if FULL else 30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    body=BODIES,
    headers=st.dictionaries(
        st.sampled_from(["content-type", "content-encoding"]),
        st.sampled_from(["application/json", "text/event-stream", "gzip", "deflate", "br"]),
    ),
)
def test_any_sound_file_replays_as_an_answer_or_a_typed_error(server, body, headers):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as client:

            def call():
                return client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])

            with replaying(folder), call_scope("a"):
                call()
            (file,) = folder.glob("??/*.rec")
            file.write_bytes(recording(file.stem, body, headers=headers).to_bytes())
            try:
                with replaying(folder, "replay"), call_scope("a"):
                    assert call().choices[0].message.content == "x"
            except (Corrupt, CallFailed):
                pass
            with replaying(folder), call_scope("a"):  # and it is asked again, not believed
                assert call().choices[0].message.content in ("x", "hello")
