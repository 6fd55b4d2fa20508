"""`steelyard prompts …`, through the real command line, on a store that outlives each command."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from steelyard.cli.prompts import prompts
from steelyard.core.errors import InvalidFile, NotFound, Refused, SteelyardError
from steelyard.core.settings import load_settings
from steelyard.gates.policy import Policy, at_least, not_worse_than
from steelyard.prompts import load_prompt
from steelyard.release import bless
from steelyard.store import EvidenceInfo, RunRecord
from steelyard.store.memory import MemoryStore
from steelyard.store.opening import STORES

POLICY = Policy(requirements=(at_least("m", 0.6), not_worse_than("production", "m", margin=0.05)))
WHEN = "2026-01-01T00:00:00.000Z"
Run = Callable[..., Result]
_CURRENT: list[MemoryStore] = []
STORES.add("clitest", lambda: lambda _: _CURRENT[-1])


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    _CURRENT.append(MemoryStore())
    yield _CURRENT[-1]
    _CURRENT.pop()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: MemoryStore) -> Run:
    (tmp_path / "pyproject.toml").write_text('[tool.steelyard]\ntracking_uri = "clitest:"\n')
    (tmp_path / "prompts" / "team").mkdir(parents=True)
    write(tmp_path, "Say one to {{ x }}.")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def go(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(prompts, list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return go


def write(root: Path, text: str) -> None:
    (root / "prompts" / "team" / "hi.yaml").write_text(
        f"description: Greets.\ntemplate: '{text}'\nvariables: {{x: {{type: str, description: Who.}}}}\n"
        "parameters: {temperature: 0, max_tokens: 8}\n"
    )


def evidence(store: MemoryStore, root: Path, outcome: str, created: str) -> EvidenceInfo:
    folder = root / "bundle"
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_text("damaged")  # nothing here depends on what the bundle holds
    settings = load_settings(root, environ={})
    info = EvidenceInfo(
        id=f"e-{created}",
        digest="x",
        gate="g",
        kind="prompt",
        name="team/hi",
        subject=load_prompt("team/hi", settings).digest,
        candidate="c",
        yardstick="y",
        values="v",
        outcome=outcome,
        policy=POLICY.digest,
        baselines={"production": store.aliases("prompt", "team/hi").get("production")},
        metrics={"m": 0.71234},
        created=created,
    )
    return store.add_evidence(info, folder, RunRecord(experiment="e", name="r", started=WHEN, ended=WHEN))


def test_from_a_file_to_production_and_back(run: Run, store: MemoryStore, tmp_path: Path) -> None:
    assert "(not pushed)" in run("list").output
    assert "team/hi: the working file is not in the store" in run("sync", "--check", code=1).output
    assert "new" in run("push").output
    assert "unchanged" in run("push", "team/hi").output
    assert "agree" in run("sync", "--check").output

    bless(
        store,
        load_settings(tmp_path, environ={}),
        evidence(store, tmp_path, "pass", "2026-01-01"),
        floors_pass=True,
        policy=POLICY,
    )
    write(tmp_path, "Say two to {{ x }}.")
    with pytest.raises(Refused, match="gate 'g' has not decided"):
        run("promote", "team/hi")
    evidence(store, tmp_path, "pass", "2026-01-02")
    moved = run("promote", "team/hi").output
    assert "evidence e-2026-01-02" in moved
    assert "Commit prompts/steelyard.lock." in moved

    shown = run("show", "team/hi@production").output
    for text in ("Greets.", "Say two to", "Who.", "2 *", "production", "m 0.7123", "e-2026-01-02"[2:]):
        assert text in shown
    evidenced = json.loads(run("show", "team/hi", "--json").output)["evidence"]
    assert evidenced[0]["run_id"] in store.runs
    assert evidenced[0]["run_id"] in shown

    listed = json.loads(run("list", "--json").output)
    assert listed[0]["aliases"]["production"]["version"] == 2
    assert "production → 2" in run("list").output

    difference = run("diff", "team/hi@1", "team/hi@production").output
    assert "[-one-]{+two+}" in difference
    assert "\x1b[32;4mtwo" in run("diff", "team/hi@1", "team/hi@2", "--colour").output
    assert "are the same" in run("diff", "team/hi@2").output

    run("rollback", "team/hi", "--reason", "worse")
    moves = json.loads(run("history", "team/hi", "--json").output)
    assert [m["action"] for m in moves] == ["bless", "promote", "rollback"]
    assert moves[-1]["reason"] == "worse"
    assert "rollback" in run("history", "team/hi", "--alias", "production").output
    run("promote", "team/hi", "--to", "2", "--force", "--reason", "fire")
    assert "promote (forced)" in run("history", "team/hi").output
    assert "is guarded by g" in run("require", "team/hi", "g").output
    assert "agree" in run("sync").output


def test_refusals_are_raised_for_main_to_tell(run: Run, tmp_path: Path) -> None:
    for arguments, error in (
        (("show", "nope"), NotFound),
        (("show", "../x"), SteelyardError),
        (("show", "team/hi@production"), NotFound),
        (("history", "nope"), NotFound),
        (("diff", "team/hi"), SteelyardError),
        (("promote", "team/hi", "--force"), SteelyardError),
        (("rollback", "team/hi"), NotFound),
        (("require", "team/hi", "g"), NotFound),
    ):
        with pytest.raises(error):
            run(*arguments)
    (tmp_path / "prompts" / "steelyard.lock").write_text("format: 1\n")
    with pytest.raises(InvalidFile, match=r"steelyard\.lock:1: 'prompts'"):
        run("list")


def test_lint_ends_with_1_only_where_a_file_cannot_be_used(run: Run, tmp_path: Path) -> None:
    assert "1 prompt files, 0 unusable, 0 pieces of advice" in run("lint").output
    (tmp_path / "prompts" / "bad.yaml").write_text("template: '{{ a.b }}'")
    output = run("lint", code=1).output
    assert "bad: error: prompts/bad.yaml:1:" in output
    assert "unusable" in run("list").output


def test_help_names_every_command() -> None:
    text = CliRunner().invoke(prompts, ["--help"]).output
    for command in (
        "list",
        "show",
        "diff",
        "lint",
        "push",
        "sync",
        "promote",
        "rollback",
        "history",
        "require",
    ):
        assert command in text


def test_names_reach_no_shell(run: Run, tmp_path: Path) -> None:
    canary: Any = tmp_path / "canary"
    with pytest.raises(SteelyardError):
        run("show", f"$(touch {canary})")
    assert not canary.exists()
