"""What the shell offers, what it costs, and the page on errors."""

import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from steelyard.cli.completion import locked_aliases
from steelyard.cli.explain import explain, plain, sections, topic_of
from steelyard.cli.main import _COMMANDS, cli, main
from steelyard.core import errors
from steelyard.core.errors import CallFailed, NotFound, SteelyardError
from steelyard.core.score import FAILURE_KINDS
from steelyard.core.settings import load_settings
from steelyard.gates.verdict import Outcome
from steelyard.lm.weights import WeightsMissing
from steelyard.prompts.lock import read_lock

ROOT = Path(__file__).parents[2]
HEAVY = ("mlflow", "numpy", "openai", "pandas", "pydantic", "scipy", "langchain_core")


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text("[tool.steelyard]\n")
    shutil.copytree(ROOT / "prompts", tmp_path / "prompts")
    (tmp_path / "evals" / "datasets").mkdir(parents=True)
    (tmp_path / "evals" / "test_x.py").write_text("")
    (tmp_path / ".steelyard" / "evidence" / "20260101T000000-aaaa").mkdir(parents=True)
    (tmp_path / "prompts" / "team").mkdir()
    (tmp_path / "prompts" / "team" / "hi.yaml").write_text("template: hi\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


PROBE = """
import json, os, sys
words = sys.argv[1]
os.environ |= {"COMP_WORDS": words, "COMP_CWORD": sys.argv[2], "_STEELYARD_COMPLETE": "bash_complete"}
from steelyard.cli.main import main
try:
    main([])
except SystemExit:
    pass
print(json.dumps(sorted(m for m in sys.modules if "." not in m)), file=sys.stderr)
"""


def complete(words, at=None):
    """What bash gets, and the top-level modules that were loaded for it."""
    at = len(words.split()) - (not words.endswith(" ")) if at is None else at
    done = subprocess.run(
        [sys.executable, "-c", PROBE, words, str(at)], capture_output=True, text=True, check=True
    )
    return [line.partition(",")[2] for line in done.stdout.split()], json.loads(done.stderr.splitlines()[-1])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("steelyard pro", {"prompts"}),
        ("steelyard prompts pro", {"promote"}),
        ("steelyard prompts show sup", {"support-intent"}),
        ("steelyard prompts show support-intent@", {"support-intent@production", "support-intent@working"}),
        ("steelyard prompts promote te", {"team/hi"}),
        ("steelyard prompts promote team/hi --alias pro", {"production"}),
        ("steelyard gate --prompt refund-answer@p", {"refund-answer@production"}),
        ("steelyard gate evals/", {"evals/test_x.py"}),
        ("steelyard evidence show 2026", {"20260101T000000-aaaa"}),
        ("steelyard compare 2026", {"20260101T000000-aaaa"}),
        ("steelyard explain Not", {"NotFound"}),
        ("steelyard prompts show nothing-like-it", set()),
    ],
)
def test_names_are_completed_without_anything_heavy(project, words, expected):
    found, modules = complete(words)
    assert set(found) == expected
    assert not set(HEAVY) & set(modules)


def test_every_command_is_offered_and_none_is_imported(project):
    found, modules = complete("steelyard ", 1)
    assert {*_COMMANDS} <= set(found)
    assert not set(HEAVY) & set(modules)


def test_aliases_are_read_as_the_strict_reader_reads_them(project):
    strict = read_lock(project / "prompts" / "steelyard.lock")
    expected = {name: sorted(by_alias) for name, by_alias in strict.aliases.items()}
    assert {n: sorted(a) for n, a in locked_aliases(load_settings()).items()} == expected


def test_a_broken_project_completes_nothing_and_says_nothing(project):
    (project / "pyproject.toml").write_text("[tool.steelyard\n")
    found, _ = complete("steelyard prompts show sup")
    assert found == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_for_that_shell(shell):
    result = CliRunner().invoke(cli, ["completion", shell])
    assert result.exit_code == 0
    assert "_STEELYARD_COMPLETE" in result.output
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=result.output, text=True, check=True)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_itself_completes_an_alias(project, tmp_path):
    script = CliRunner().invoke(cli, ["completion", "bash"]).output
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "steelyard"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m steelyard.cli.main "$@"\n')
    command.chmod(0o755)
    ask = """
COMP_WORDS=(steelyard prompts show support-intent@p); COMP_CWORD=3
_steelyard_completion steelyard
printf '%s\\n' "${COMPREPLY[@]}"
case $COMP_WORDBREAKS in *@*) echo broken;; esac
"""
    done = subprocess.run(
        ["bash", "-c", script + ask],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"},
    )
    assert done.stdout.split() == ["support-intent@production"]


# -- explain --------------------------------------------------------------------------------------
def classes():
    return [c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__]


def test_the_page_and_the_package_are_one():
    page = (ROOT / "docs" / "errors.md").read_bytes()
    packaged = (ROOT / "src" / "steelyard" / "templates" / "errors.md").read_bytes()
    assert packaged == page, "cp docs/errors.md src/steelyard/templates/errors.md"


def test_every_error_every_kind_and_every_verdict_has_a_section():
    known = sections()
    wanted = [c.__name__ for c in classes()] + list(FAILURE_KINDS) + list(Outcome.__args__)
    assert [w for w in wanted if len(known.get(w, "")) < 40] == []


@pytest.mark.parametrize("topic", ["NotFound", "not-found", "notfound", "NOT_FOUND"])
def test_a_section_is_printed(topic):
    result = CliRunner().invoke(explain, [topic])
    assert result.output.startswith("NotFound\n")
    assert "docs/errors.md#notfound" in result.output
    assert "](" not in result.output


def test_without_a_topic_all_are_listed_and_a_wrong_one_offers_the_nearest():
    assert "unmeasurable" in CliRunner().invoke(explain, []).output.split()
    with pytest.raises(NotFound, match="did you mean 'rate_limit'"):
        CliRunner().invoke(explain, ["rate-limt"], catch_exceptions=False)


def test_the_pointer_of_every_error_leads_to_a_section():
    for kind in classes():
        if issubclass(kind, SteelyardError):
            bare = kind.__new__(kind)
            assert plain(topic_of(bare)) == plain(kind.__name__)
    assert topic_of(WeightsMissing("weights", "x")) == "not-found"
    assert topic_of(CallFailed("rate_limit", "x")) == "rate-limit"
    assert topic_of(CallFailed("new kind", "x")) == "call-failed"


def test_the_pointer_stands_on_terminals_only(project, monkeypatch, capsys):
    for tty in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda tty=tty: tty, raising=False)
        with pytest.raises(SystemExit) as ended:
            main(["prompts", "diff", "support-intent"])
        assert ended.value.code == 2
        assert ("steelyard explain invalid-value" in capsys.readouterr().err) is tty
