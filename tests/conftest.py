"""What every test shares: hypothesis judges our code, never the speed of a busy machine.

By default it draws the same examples every time, so that a change is judged by what it changed; the full run
(`make test-all`) explores.
"""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "steelyard",
    deadline=None,
    derandomize=os.environ.get("STEELYARD_FULL") != "1",
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("steelyard")


@pytest.fixture(autouse=True)
def providers_without_a_past():
    """A later test's server may get an earlier one's port: what the process knows of that address goes."""
    yield
    if (limiter := sys.modules.get("steelyard.lm.limiter")) is not None:
        limiter._LIMITERS.clear()


_MARKED = {  # folders and files that are one kind from end to end; `make test-fast` leaves them out
    "slow": (
        "fuzz/",
        "prompts/test_serve.py::test_forks_at_any_moment_do_not_hang",
        "store/test_processes.py",
        "reliability/test_fork.py",
        "reliability/test_scopes.py",
        "foreign_prompts/test_mutations.py",
    ),
    "server": ("foreign/", "langsmith/", "data/test_huggingface.py"),
}


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        place = f"{item.path.relative_to(here).as_posix()}::{item.name}"
        for marker, places in _MARKED.items():
            if place.startswith(places):
                item.add_marker(marker)
