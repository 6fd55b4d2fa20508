"""The built wheel in an empty folder: `steelyard init`, then `pytest evals/` passes: no model, no network."""

import subprocess

import pytest
import yaml

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

BLOCKED = "http://127.0.0.1:9"  # a proxy that nobody runs: whatever leaves the machine fails


def test_init_then_pytest_is_green_offline(machine, tmp_path):
    where = machine.run(
        machine.python, "-c", "import steelyard; print(steelyard.__file__)", cwd=tmp_path
    ).stdout
    assert str(machine.bin.parent) in where  # the wheel's, not the checkout's

    machine.run("steelyard", "init", "shop", cwd=tmp_path)
    shop = tmp_path / "shop"
    offline = {"HTTPS_PROXY": BLOCKED, "HTTP_PROXY": BLOCKED}
    output = machine.run("pytest", "evals/", cwd=shop, **offline).stdout
    assert "1 passed" in output
    assert "PASS review_sentiment" in output
    assert "n=60" in output

    # The workflow's own commands, on a clone: only what is committed is there.
    git = ["git", "-c", "user.name=n", "-c", "user.email=n@example.org"]
    subprocess.run([*git, "init", "-q"], cwd=shop, check=True)
    subprocess.run([*git, "add", "-A"], cwd=shop, check=True)
    subprocess.run([*git, "commit", "-qm", "first"], cwd=shop, check=True)
    subprocess.run([*git, "clone", "-q", shop, tmp_path / "clone"], check=True)
    clone = tmp_path / "clone"
    assert not (clone / ".steelyard" / "store").exists()
    job = yaml.safe_load((clone / ".github" / "workflows" / "evals.yml").read_text())["jobs"]["evals"]
    runner = {**offline, **job["env"], "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    elsewhere = ("Install", "Comment on the pull request")  # the wheel is installed; GitHub is not here
    steps = [s for s in job["steps"] if "run" in s and s["name"] not in elsewhere]
    said = "".join(machine.run("bash", "-e", "-c", step["run"], cwd=clone, **runner).stdout for step in steps)
    assert len(steps) == 3
    assert "Files, lock and store agree." in said
    assert "1 passed" in said
    assert "1 gate: 1 pass" in (tmp_path / "summary.md").read_text()
    assert (clone / ".steelyard" / "report" / "junit.xml").is_file()

    # A changed prompt has no recordings: nothing was measured, and nothing is green.
    prompt = clone / "prompts" / "review-sentiment.yaml"
    prompt.write_text(prompt.read_text().replace("Answer whether", "Say whether"))
    changed = machine.run("pytest", "evals/", cwd=clone, code=1, **runner).stdout
    assert "1 failed" in changed
    assert "replay has no recording" in changed
