"""What the interpreter itself reports of files, sockets and processes: an audit hook that a test turns on."""

import sys
from contextlib import contextmanager

import pytest

_TOLD = {
    *("open", "os.listdir", "os.scandir", "os.mkdir", "os.rename", "os.remove"),
    *("socket.connect", "socket.getaddrinfo"),
    *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"),
    *("pickle.find_class", "import"),
}
_LISTENERS = []


def _hook(event, arguments):
    if _LISTENERS and event in _TOLD:
        for seen in _LISTENERS:
            seen.append((event, arguments))


sys.addaudithook(_hook)


@contextmanager
def _watching(*events):
    seen = []
    _LISTENERS.append(seen)
    try:
        yield seen
    finally:
        _LISTENERS.remove(seen)
        if events:
            seen[:] = [e for e in seen if e[0] in events]


@pytest.fixture
def watching():
    """`with watching("open", …) as seen:` what happened inside, of these audit events."""
    return _watching
