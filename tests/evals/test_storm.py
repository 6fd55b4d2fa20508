"""A kill storm: SIGKILL at seeded points of an evaluation whose calls are counted at a real server."""

import contextlib
import hashlib
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from steelyard.evals.weigh import weigh
from steelyard.evidence.bundle import EvidenceBundle

FULL = os.environ.get("STEELYARD_FULL") == "1"
POINTS = 200 if FULL else 20
N, CONCURRENCY = 60, 4


class Provider(ThreadingHTTPServer):
    """Answers `/7` with 7 and counts; wakes whoever waits for the nth request."""

    daemon_threads = True

    def __init__(self):
        self.asked = []
        self.changed = threading.Condition()
        super().__init__(("127.0.0.1", 0), Answer)

    def handle_error(self, request, client_address):
        """A client that was killed is no error."""

    def wait_for(self, n, alive):
        with self.changed:
            while len(self.asked) < n and alive():
                self.changed.wait(0.05)


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        with self.server.changed:
            self.server.asked.append(int(self.path[1:]))
            self.server.changed.notify_all()
        body = self.path[1:].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def provider():
    with Provider() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def runs(provider):
    """A process that forks one for each run."""
    child = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("storm_child.py")),
         f"http://127.0.0.1:{provider.server_port}"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    yield child
    child.stdin.close()
    child.wait(timeout=30)
    child.stdout.close()


class Run:
    def __init__(self, runs, folder):
        runs.stdin.write(f"{folder}\n")
        runs.stdin.flush()
        self.pid = int(runs.stdout.readline())
        self._runs = runs

    def alive(self):
        with contextlib.suppress(OSError):
            return Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
        return False

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def wait(self):
        return int(self._runs.stdout.readline())


def begin(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "pyproject.toml").write_text("[tool.steelyard]\n")
    return folder


def lines(bundle):
    return (bundle.folder / "rows.log").read_bytes().splitlines(keepends=True)


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.timeout(3600)
def test_a_kill_storm_loses_no_row_repeats_none_and_ends_in_the_same_verdict(tmp_path, provider, runs):
    whole = begin(tmp_path, "whole")
    assert Run(runs, whole).wait() == 0
    evidence_id, outcome = (whole / "done").read_text().split()
    expected = EvidenceBundle.open(whole / ".steelyard" / "evidence" / evidence_id).verdict_bytes
    assert outcome == "pass"
    chance = random.Random(20261125)
    killed, points = 0, itertools.count()
    while killed < POINTS:
        point = next(points)
        folder = begin(tmp_path, f"point-{point}")
        evidence = folder / ".steelyard" / "evidence"
        provider.asked.clear()
        while not (folder / "done").exists():
            known = (folder / "acks").read_bytes().count(b"\n") if (folder / "acks").exists() else 0
            left = N - known
            run = Run(runs, folder)
            # From the first call to the last; after the last come verdict, seal and storing.
            at = chance.randint(1, left + 2 * CONCURRENCY)
            provider.wait_for(len(provider.asked) + min(at, left), run.alive)
            time.sleep(chance.random() * (0.06 if at >= left else 0.004))
            acks = (folder / "acks").read_bytes().splitlines() if (folder / "acks").exists() else []
            if chance.random() < 0.75:
                run.kill()
            status = run.wait()
            assert status in (0, -signal.SIGKILL)
            killed += status != 0
            # Whatever was acknowledged is in the file, once, bit for bit.
            found = [f for f in evidence.iterdir() if f.name != ".open"] if evidence.exists() else []
            assert len(found) <= 1
            if found and (found[0] / "rows.log").exists():
                there = [
                    hashlib.sha256(x).hexdigest().encode()
                    for x in lines(EvidenceBundle(folder=found[0], manifest={}))
                ]
                assert set(acks) <= set(there)
        (bundle_folder,) = [f for f in evidence.iterdir() if f.name != ".open"]
        assert (folder / "done").read_text() == f"{bundle_folder.name} pass"
        bundle = EvidenceBundle.open(bundle_folder)
        bundle.verify()
        assert sorted(r.key for r in bundle.scores.rows) == [(f"e{i:02}", 0) for i in range(N)]
        assert bundle.verdict_bytes == expected == weigh(bundle).to_bytes()
        acks = (folder / "acks").read_bytes().splitlines()
        there = {hashlib.sha256(x).hexdigest().encode() for x in lines(bundle)}
        assert set(acks) <= there
        assert len(acks) == len(set(acks))
        calls = Counter(provider.asked)
        assert set(calls) == set(range(N))
        resumed = len(bundle.manifest["provenance"].get("resumed", ()))
        again = sum(n - 1 for n in calls.values())
        assert again <= CONCURRENCY * (resumed + 1), "more calls were repeated than can have been in flight"
