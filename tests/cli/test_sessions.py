"""How pytest's own options and xdist meet gates: real sessions in processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET

import psutil
import pytest

pytestmark = [pytest.mark.timeout(900), pytest.mark.server]

FLOORS = """
from steelyard import Dataset, Example, at_least, exact_match

DATA = Dataset(
    name="numbers",
    examples=tuple(
        Example(id=f"e{i:03}", inputs={"x": i}, reference_outputs={"y": i}) for i in range(120)
    ),
)


def task(inputs):
    return {"y": inputs["x"] if inputs["x"] % 10 < 6 else -1}


def gate(steelyard, floor):
    floors = [at_least("exact_match", floor)]
    steelyard.gate(task, dataset=DATA, evaluators=[exact_match("y")], require=floors)
"""


def floors(project, name, **tests):
    """A file of gates, each with its floor; the candidate is right on 60 %."""
    text = FLOORS + "".join(
        f"\n\ndef test_{test}(steelyard):\n    gate(steelyard, {floor})\n" for test, floor in tests.items()
    )
    project.evals(name, text)


def test_xdist_is_one_run_with_one_summary_one_report_and_one_exit_code(project):
    (project.path / "evals" / "test_count.py").unlink()
    floors(project, "test_a.py", one=0.4, two=0.4)
    floors(project, "test_b.py", three=0.4, four=0.9)
    done = project.pytest("evals", "-q", "-n", "2", "--junitxml=junit.xml")
    assert done.returncode == 1, done.both
    assert done.stdout.count("= steelyard =") == 1
    assert "1 failed, 3 passed" in done.stdout
    assert done.stdout.count("report   ") == 1
    for name in ("one", "two", "three", "four"):
        assert f"steelyard: {name}: candidate 120/120 rows" in " ".join(done.stderr.split())
    told = json.loads((project.path / ".steelyard" / "report" / "verdicts.json").read_text())
    assert {g["gate"] for g in told["gates"]} == {"one", "two", "three", "four"}
    listed = json.loads(project.run("evidence", "list", "--json").stdout)
    ids = {e["id"] for e in listed}
    assert len(ids) == len(listed) == 4
    cases = {c.get("name"): c for c in ET.parse(project.path / "junit.xml").iter("testcase")}
    said = {p.get("name"): p.get("value") for p in cases["test_four"].iter("property")}
    assert said["steelyard.four.verdict"] == "fail"
    assert said["steelyard.four.evidence"] in ids
    assert said["steelyard.four.exact_match.candidate"] == "0.6"
    assert (
        float(said["steelyard.four.exact_match.low"]) < 0.6 < float(said["steelyard.four.exact_match.high"])
    )
    assert project.run("gate", "-n", "2", "evals/test_a.py").returncode == 0


def test_k_x_and_lf_choose_gates_as_they_choose_tests(project):
    (project.path / "evals" / "test_count.py").unlink()
    floors(project, "test_a.py", good=0.4, bad=0.9, later=0.4)
    stopped = project.pytest("evals", "-q", "-x")
    assert stopped.returncode == 1
    assert "1 failed, 1 passed" in stopped.stdout
    assert "later" not in stopped.stdout.split("= steelyard =")[1]
    floors(project, "test_a.py", good=0.4, bad=0.5, later=0.4)
    last = project.pytest("evals", "-q", "--lf", "-k", "bad or later")
    assert last.returncode == 0, last.both
    assert "1 passed" in last.stdout
    report = json.loads((project.path / ".steelyard" / "report" / "verdicts.json").read_text())
    assert [g["gate"] for g in report["gates"]] == ["bad"]


def test_without_the_plugin_evals_fail_clearly_and_other_tests_run(project):
    project.evals("test_plain.py", "def test_plain():\n    pass\n")
    done = project.pytest("evals", "-q", "-p", "no:steelyard")
    assert done.returncode == 1
    assert "fixture 'steelyard' not found" in done.stdout
    assert "1 passed, 1 error" in done.stdout


SLOW = """
import time
from pathlib import Path

from steelyard import Dataset, Example, at_least, exact_match

CALLS = Path(__file__).with_suffix(".calls")
HANGS = Path(__file__).with_name("hangs.txt")
DATA = Dataset(
    name="numbers",
    examples=tuple(Example(id=f"e{i:03}", inputs={"x": i}, reference_outputs={"y": i}) for i in range(80)),
)


def task(inputs):
    with CALLS.open("a") as file:
        file.write(f"{inputs['x']}\\n")
    if inputs["x"] >= int(HANGS.read_text()):
        time.sleep(600)
    return {"y": inputs["x"]}


def test_NAME(steelyard):
    floor = [at_least("exact_match", 0.5)]
    evaluators = [exact_match("y")]
    steelyard.gate(task, dataset=DATA, evaluators=evaluators, require=floor, concurrency=2, version="1")
"""


def test_xdist_killed_with_all_its_workers_calls_no_finished_row_again(project):
    (project.path / "evals" / "test_count.py").unlink()
    for name in ("a", "b"):
        project.evals(f"test_{name}.py", SLOW.replace("NAME", name))
    hangs = project.path / "evals" / "hangs.txt"
    hangs.write_text("20")

    def calls(name):
        file = project.path / "evals" / f"test_{name}.calls"
        return [int(x) for x in file.read_text().split()] if file.exists() else []

    with (project.path / "output.txt").open("w") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "pytest", "evals", "-q", "-n", "2"],
            cwd=project.path, stdout=output, stderr=output, env=project.environment(), start_new_session=True,
        )  # fmt: skip
    # Both gates are under way, each in a worker of its own: 20 rows are done and two hang.
    while any(sum(x >= 20 for x in calls(name)) < 2 for name in ("a", "b")):
        assert child.poll() is None, project.output()
        time.sleep(0.05)
    workers = psutil.Process(child.pid).children(recursive=True)
    assert len(workers) >= 2
    os.killpg(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    while any(w.is_running() and w.status() != psutil.STATUS_ZOMBIE for w in workers):
        time.sleep(0.02)
    hangs.write_text("1000")
    before = {name: len(calls(name)) for name in ("a", "b")}
    done = project.pytest("evals", "-q", "-n", "2")
    assert done.returncode == 0, done.both
    for name in ("a", "b"):
        assert sorted(calls(name)[: before[name]])[:20] == list(range(20))
        assert sorted(calls(name)[before[name] :]) == list(range(20, 80))
    assert done.both.count("resumed 20 of 80 rows") == 2
    assert len(list((project.path / ".steelyard" / "evidence").glob("2*"))) == 2
