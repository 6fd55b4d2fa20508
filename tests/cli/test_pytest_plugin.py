"""The plugin and the command line as a user runs them: own processes, own project, the real store."""

import json
import subprocess
import sys

import pytest

# Each step is a process of its own that imports MLflow; a busy machine takes its time.
pytestmark = pytest.mark.timeout(900)


@pytest.mark.server
def test_the_whole_story_from_bless_to_rollback(project):
    first = project.run("gate")
    assert first.returncode == 4, first.both
    assert "steelyard bless" in first.both

    blessed = project.run("bless")
    assert blessed.returncode == 0, blessed.both
    again = project.run("bless")
    assert again.returncode != 0
    assert "production" in again.both

    assert project.run("gate").returncode == 0  # identical

    project.prompt(9)
    better = project.run("gate")
    assert better.returncode == 0, better.both
    assert "steelyard prompts promote count" in better.both
    promoted = project.run("prompts", "promote", "count")
    assert promoted.returncode == 0, promoted.both

    project.prompt(5)
    worse = project.pytest("evals", "-q")
    assert worse.returncode == 1
    assert "worse" in worse.stdout
    assert "Traceback" not in worse.both
    assert "def run_gate" not in worse.both
    refused = project.run("prompts", "promote", "count")
    assert refused.returncode == 2
    assert len(refused.stderr.strip().splitlines()) == 1

    history = json.loads(project.run("prompts", "history", "count", "--json").stdout)
    assert [e["action"] for e in history] == ["bless", "promote"]
    assert project.run("prompts", "rollback", "count").returncode == 0
    listed = json.loads(project.run("evidence", "list", "--json").stdout)
    assert {e["outcome"] for e in listed} >= {"pass", "fail"}
    verified = project.run("evidence", "verify", listed[-1]["id"])
    assert "same bytes" in verified.stdout, verified.both
    page = (project.path / ".steelyard" / "report" / "index.html").read_text()
    assert "count" in page


@pytest.mark.server
def test_gate_objects_plan_and_run_outside_pytest(project):
    planned = project.run("plan", "evals/test_count.py:COUNT")
    assert planned.returncode == 0, planned.both
    assert "120" in planned.stdout
    assert not (project.path / ".steelyard" / "evidence").exists()
    ran = project.run("run", "evals/test_count.py:COUNT")
    assert ran.returncode == 0, ran.both
    assert "recorded 120 rows" in ran.stdout
    assert project.run("gate", "evals/test_count.py:COUNT").returncode == 4
    missing = project.run("gate", "evals/test_count.py:COUTN")
    assert missing.returncode == 2
    assert "did you mean 'COUNT'" in missing.stderr


@pytest.mark.server
def test_a_swallowed_verdict_and_a_forgotten_gate_do_not_go_green(project):
    project.evals(
        "test_count.py",
        project.EVALS.replace("FLOOR", "0.99")
        + """

def test_swallowed(steelyard):
    try:
        steelyard.gate(task, **SPEC)
    except AssertionError:
        pass


def test_forgotten(steelyard):
    pass


def test_error_swallowed(steelyard):
    try:
        steelyard.gate(task, **{**SPEC, "dataset": "no-such"})
    except Exception:
        pass
""",
    )
    done = project.pytest("evals", "-q", "-k", "swallowed or forgotten")
    assert done.returncode == 1
    assert "3 failed" in done.stdout
    assert "no dataset 'no-such'" in done.stdout
    assert "ran no gate" in done.stdout


@pytest.mark.server
def test_inconclusive_fails_by_default_and_warns_on_request(project):
    project.evals("test_count.py", project.EVALS.replace("FLOOR", "0.58").replace(
        ', not_worse_than("production", "exact_match", margin=0.05)', ""))  # fmt: skip
    assert project.run("gate").returncode == 3
    assert project.pytest("evals").returncode == 1
    assert project.run("gate", "--on-inconclusive", "warn").returncode == 0
    warned = project.pytest("evals", "--steelyard-on-inconclusive=warn")
    assert warned.returncode == 0
    assert "inconclusive" in warned.stdout.lower()


def test_the_plugin_is_inert_in_other_sessions(project):
    project.evals("test_count.py", "def test_nothing():\n    assert True\n")
    done = project.pytest("evals", "-q")
    assert done.returncode == 0
    assert "steelyard" not in done.stdout
    assert not (project.path / ".steelyard" / "report").exists()
    code = (
        "import sys, pytest; pytest.main(['evals', '-q']);"
        "print([m for m in sys.modules if m.startswith('steelyard.')])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=project.path, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.splitlines()[-1] == "['steelyard.pytest_plugin']"


def test_a_wrong_keyword_is_one_sentence(project):
    text = project.EVALS.replace("FLOOR", "0.4").replace("evaluators=", "evaluator=")
    project.evals("test_count.py", text.replace('COUNT = Gate(task=task, name="count", **SPEC)', ""))
    done = project.run("gate", "-k", "count")
    assert done.returncode == 2
    assert "src/steelyard" not in done.both
    assert "Did you mean 'evaluators'?" in done.both


def test_no_gate_at_all_is_unmeasurable(project):
    (project.path / "evals" / "test_count.py").unlink()
    done = project.run("gate")
    assert done.returncode == 4
    assert "no gate ran" in done.stderr
    # Tests that are no gates, and gates that were skipped, measure nothing either.
    project.evals("test_count.py", "def test_plain():\n    assert True\n")
    assert project.run("gate").returncode == 4
    project.evals("test_count.py", "import pytest\n\ndef test_gate(steelyard):\n    pytest.skip('later')\n")
    done = project.run("gate")
    assert done.returncode == 4
    assert "no gate ran" in done.stderr


@pytest.mark.server
def test_another_alias_is_blessed_and_weighed_against(project):
    project.evals("test_count.py", project.EVALS.replace("FLOOR", "0.4"))
    done = project.run("bless", "--alias", "dev", "evals/test_count.py:COUNT")
    assert done.returncode == 0, done.both
    assert "is 'dev' now" in done.stdout
    assert project.run("gate", "--baseline", "dev", "evals/test_count.py:COUNT").returncode == 0
    assert project.run("gate", "evals/test_count.py:COUNT").returncode == 4  # production was not set


@pytest.mark.server
def test_a_verdict_is_told_once(project):
    project.evals("test_count.py", project.EVALS.replace("FLOOR", "0.99"))
    for extra in ((), ("-n", "2")):
        done = project.pytest("evals", *extra)
        assert done.returncode == 1
        assert done.stdout.count("✗ exact_match ≥ 0.99") == 1, done.stdout


def test_unknown_commands_and_settings_are_one_sentence(project):
    assert "Did you mean 'prompts'" in project.run("promts").stderr
    (project.path / "pyproject.toml").write_text("[tool.steelyard]\nexperimnt = 'x'\n")
    done = project.run("gate")
    assert done.returncode == 2
    assert "pyproject.toml:2" in done.stderr
