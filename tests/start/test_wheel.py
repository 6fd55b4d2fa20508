"""The built wheel in an empty folder: `steelyard init`, then `pytest evals/` passes: no model, no network."""

import subprocess

import pytest

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

    # What the workflow does in CI, on a clone: only what is committed is there.
    git = ["git", "-c", "user.name=n", "-c", "user.email=n@example.org"]
    subprocess.run([*git, "init", "-q"], cwd=shop, check=True)
    subprocess.run([*git, "add", "-A"], cwd=shop, check=True)
    subprocess.run([*git, "commit", "-qm", "first"], cwd=shop, check=True)
    subprocess.run([*git, "clone", "-q", shop, tmp_path / "clone"], check=True)
    clone = tmp_path / "clone"
    offline["STEELYARD_LM_MODE"] = "replay"
    assert not (clone / ".steelyard" / "store").exists()
    machine.run("steelyard", "prompts", "push", cwd=clone, **offline)
    assert "agree" in machine.run("steelyard", "prompts", "sync", "--check", cwd=clone, **offline).stdout
    machine.run("pytest", "evals/", "--junitxml=.steelyard/report/junit.xml", cwd=clone, **offline)
    assert "1 gate: 1 pass" in (clone / ".steelyard" / "report" / "summary.md").read_text()
    assert (clone / ".steelyard" / "report" / "junit.xml").is_file()

    # A changed prompt has no recordings: nothing was measured, and nothing is green.
    prompt = clone / "prompts" / "review-sentiment.yaml"
    prompt.write_text(prompt.read_text().replace("Answer whether", "Say whether"))
    changed = machine.run("pytest", "evals/", cwd=clone, code=1, **offline).stdout
    assert "1 failed" in changed
    assert "replay has no recording" in changed
