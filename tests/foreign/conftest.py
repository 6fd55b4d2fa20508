import socket

import pytest

from steelyard.core.settings import load_settings
from steelyard.evals.workspace import Workspace
from steelyard.store.memory import MemoryStore
from steelyard.testing.chat_server import ChatServer


@pytest.fixture
def server():
    with ChatServer() as server:
        yield server


@pytest.fixture
def no_sockets(monkeypatch):
    """A switch: from then on any connection fails the test."""

    def refuse(*_):
        raise AssertionError("a socket was connected")

    def block():
        monkeypatch.setattr(socket.socket, "connect", refuse)
        monkeypatch.setattr(socket.socket, "connect_ex", refuse)

    return block


@pytest.fixture
def project(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.steelyard]\n")
    (tmp_path / "prompts").mkdir()
    return tmp_path


@pytest.fixture
def workspace(project):
    """Workspaces of the same project and store, by their mode of record and replay."""
    store, opened = MemoryStore(), []

    def of(mode="auto", **settings):
        one = Workspace(load_settings(project, environ={}, lm_mode=mode, **settings), store=store)
        opened.append(one)
        return one

    yield of
    for one in opened:
        one.close()
