import warnings

import pytest

from steelyard.core.settings import load_settings
from steelyard.testing.langsmith_server import LangSmithServer


@pytest.fixture
def server():
    with LangSmithServer() as running:
        yield running
        assert running.unknown == []  # nothing went astray


@pytest.fixture
def settings(server, tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.steelyard]\n")
    environ = {"LANGSMITH_API_KEY": server.api_key, "LANGSMITH_ENDPOINT": server.url}
    return load_settings(tmp_path, environ=environ)


@pytest.fixture
def client(server):
    """The real client, to read back with."""
    from langsmith import Client

    opened = Client(api_url=server.url, api_key=server.api_key)
    with warnings.catch_warnings():
        # list_runs goes away in 2027; the answers are what counts here.
        warnings.filterwarnings("ignore", message=".*deprecated")
        yield opened
    opened.close(timeout=0)
