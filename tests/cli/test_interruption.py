"""Runs that are killed, stopped by Ctrl-C or SIGTERM, and gone on with: as a user meets them."""

import json
import re
import signal
import time

import pytest

pytestmark = [pytest.mark.timeout(900), pytest.mark.server]

SLOW = """
import asyncio
import time
from pathlib import Path

from steelyard import Dataset, Example, Gate, at_least, exact_match
from steelyard.core.errors import CallFailed

CALLS = Path(__file__).with_name("calls.txt")
DATA = Dataset(
    name="numbers",
    examples=tuple(
        Example(id=f"e{i:03}", inputs={"x": i}, reference_outputs={"y": i}) for i in range(80)
    ),
)


def called(x):
    with CALLS.open("a") as file:
        file.write(f"{x}\\n")


def task(inputs):
    called(inputs["x"])
    time.sleep(0.02)
    if inputs["x"] in (3, 4, 5) and Path(__file__).with_name("flaky.txt").exists():
        raise CallFailed("rate_limit", "429 after the last retry")
    if inputs["x"] >= int(Path(__file__).with_name("hangs.txt").read_text()):
        time.sleep(600)
    return {"y": inputs["x"]}


async def blocking(inputs):
    return task(inputs)


FLOOR = at_least("exact_match", 0.5)
SPEC = dict(dataset=DATA, evaluators=[exact_match("y")], require=[FLOOR], concurrency=2, version="1")
SLOW = Gate(task=task, name="slow", **SPEC)
BLOCKING = Gate(task=blocking, name="blocking", **SPEC)


def test_slow(steelyard):
    steelyard.gate(task, **SPEC)
"""


class Slow:
    """The project with a gate that writes down its calls and hangs from a given example on."""

    def __init__(self, project):
        self.project = project
        (project.path / "evals" / "test_count.py").unlink()
        project.evals("test_slow.py", SLOW)
        self.hangs(20)

    def hangs(self, at):
        (self.project.path / "evals" / "hangs.txt").write_text(str(at))

    def calls(self):
        file = self.project.path / "evals" / "calls.txt"
        return [int(x) for x in file.read_text().split()] if file.exists() else []

    def until_it_hangs(self, child, hanging=2):
        while sum(x >= 20 for x in self.calls()) < hanging:
            assert child.poll() is None, self.project.output()
            time.sleep(0.02)

    def bundles(self):
        return sorted((self.project.path / ".steelyard" / "evidence").glob("2*"))


@pytest.fixture
def slow(project):
    return Slow(project)


def test_a_killed_pytest_run_goes_on_by_itself(slow, project):
    child = project.start("evals", "-q", module="pytest")
    slow.until_it_hangs(child)
    child.send_signal(signal.SIGKILL)
    child.wait()
    slow.hangs(1000)
    before = len(slow.calls())
    done = project.pytest("evals", "-q")
    assert done.returncode == 0, done.both
    (bundle,) = slow.bundles()
    assert f"resumed 20 of 80 rows of {bundle.name}" in done.stdout
    assert sorted(slow.calls()[before:]) == list(range(20, 80))
    assert "same bytes" in project.run("evidence", "verify", bundle.name).stdout


@pytest.mark.parametrize(
    ("target", "signals", "code"),
    [
        ("evals/test_slow.py", [signal.SIGINT], 130),
        ("evals/test_slow.py:SLOW", [signal.SIGTERM], 143),
        ("evals/test_slow.py:SLOW", [signal.SIGINT, signal.SIGINT], 130),
        ("evals/test_slow.py:BLOCKING", [signal.SIGINT], 130),  # the task holds the loop: it is broken off
    ],
)
def test_a_signal_leaves_a_run_that_resume_ends(slow, project, target, signals, code):
    child = project.start("gate", target)
    slow.until_it_hangs(child, hanging=1 if "BLOCKING" in target else 2)
    for number in signals:
        child.send_signal(number)
        time.sleep(0.05)
    assert child.wait(timeout=60) == code  # the task would hang for 600 s
    said = project.output()
    assert "Traceback" not in said
    (bundle,) = slow.bundles()
    assert len(re.findall(rf"stopped at 20 of 80 rows .*to go on: steelyard resume {bundle.name}", said)) == 1
    assert not (bundle / "seal.json").exists()
    if signals == [signal.SIGTERM]:  # one resume here is enough: what is on disk is the same in all
        slow.hangs(1000)
        before = len(slow.calls())
        done = project.run("resume")
        assert done.returncode == 0, done.both
        assert f"resumed 20 of 80 rows of {bundle.name}" in done.both
        assert sorted(slow.calls()[before:]) == list(range(20, 80))
        ended = project.run("resume", bundle.name)
        assert ended.returncode == 2
        assert "has ended" in ended.stderr
        assert "Every run there has ended" in project.run("resume").stderr
        manifest = json.loads((bundle / "manifest.json").read_text())
        assert manifest["provenance"]["origin"]["target"] == "evals/test_slow.py:SLOW"


def test_failed_rows_of_an_ended_run_are_run_again_by_command(slow, project):
    slow.hangs(1000)
    flaky = project.path / "evals" / "flaky.txt"
    flaky.write_text("")
    first = project.run("gate", "evals/test_slow.py:SLOW")
    assert first.returncode == 4, first.both
    (ended,) = slow.bundles()
    flaky.unlink()
    before = len(slow.calls())
    done = project.run("resume", ended.name, "--errors")
    assert done.returncode == 0, done.both
    assert f"resumed 77 of 80 rows of {ended.name}" in done.both
    assert sorted(slow.calls()[before:]) == [3, 4, 5]


def test_an_interrupted_run_that_changed_is_told_and_listed(slow, project):
    child = project.start("gate", "evals/test_slow.py:SLOW")
    slow.until_it_hangs(child)
    child.send_signal(signal.SIGKILL)
    child.wait()
    (begun,) = slow.bundles()
    listed = project.run("evidence", "list")
    assert f"go on: steelyard resume {begun.name}" in listed.stdout
    slow.hangs(1000)
    project.evals("test_slow.py", SLOW.replace("0.5)", "0.6)"))
    other = project.run("resume", begun.name)
    assert other.returncode == 2
    assert f"{begun.name} could not be gone on with" in other.stderr
    assert len(slow.bundles()) == 2
