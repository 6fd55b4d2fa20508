"""How pytest's own options and xdist meet gates: real sessions in processes of their own."""

import json
import xml.etree.ElementTree as ET

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
        assert f"steelyard: {name}: candidate  120/120 rows" in done.stderr
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
