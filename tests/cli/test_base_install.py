"""The command line where no extra is installed: every command works, or names the extra that it needs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from steelyard.cli.main import _COMMANDS
from steelyard.core.errors import MissingExtra
from steelyard.core.extras import EXTRAS, demand, missing

# In one process: each command in turn, with every package of every extra out of reach.
RUN = """
import contextlib, io, json, sys
for package in json.loads(sys.argv[1]):
    sys.modules[package] = None
from steelyard.cli.main import main
out = []
for arguments in json.loads(sys.argv[2]):
    said = io.StringIO()
    code = 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main(arguments)
        except SystemExit as end:
            code = end.code
        except BaseException as error:
            code, _ = "raised", said.write(repr(error))
    out.append([code, said.getvalue()])
print(json.dumps(out))
"""
WORKS = (
    ("init", "."), ("init", "."), ("doctor",), ("data", "list"), ("data", "show", "reviews"),
    ("prompts", "lint"), ("explain", "MissingExtra"), ("completion", "bash"), ("--help",),
    ("models", "--help"),
)  # fmt: skip
EVALS = (
    ("gate",), ("gate", "-n", "2"), ("gate", "evals/test_review_sentiment.py:GATE"), ("run",), ("plan",),
    ("bless",), ("resume",), ("resume", "20260131T093000-0000000a"), ("compare", "p@1", "p@2"),
    ("evidence", "list"), ("evidence", "show", "x"), ("evidence", "verify", "x"), ("prompts", "list"),
    ("prompts", "show", "x"), ("prompts", "history", "x"), ("prompts", "push"),
    ("prompts", "diff", "a@1", "b@2"), ("prompts", "promote", "x"), ("prompts", "rollback", "x"),
    ("prompts", "sync"), ("store", "info"),
    ("store", "check"), ("store", "export", "x"), ("store", "import", "x"), ("store", "migrate"),
    ("gc",), ("ui",),
)  # fmt: skip


def test_every_command_works_or_names_the_extra(tmp_path):
    assert {c[0] for c in (*WORKS, *EVALS)} - {"--help"} == set(_COMMANDS)
    (tmp_path / "pyproject.toml").write_text("[tool.steelyard]\n")
    commands = [*WORKS, *EVALS]
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(sorted(EXTRAS)), json.dumps(commands)],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = dict(zip(commands, json.loads(done.stdout), strict=True))
    for command in WORKS:
        code, said = answers[command]
        # The doctor still finds the metadata of packages that it then cannot import.
        assert code in ((0, 1) if command == ("doctor",) else (0,)), (command, said)
    for command in EVALS:
        code, said = answers[command]
        assert code == 2, (command, said)
        assert said.startswith("steelyard: "), (command, said)
        assert said.endswith("Install it with: pip install 'steelyard[evals]'\n"), (command, said)
        assert said.count("\n") == 1
    assert "needs the package 'pytest'" in answers["gate",][1]
    assert "the MLflow store needs the package 'mlflow" in answers["prompts", "list"][1]


def test_what_foreign_code_misses_stays_its_own_error():
    def caught(module):
        with pytest.raises(ModuleNotFoundError) as found:
            exec(
                compile("import numpy.gone", "f.py", "exec"), {"__name__": module}
            )  # numpy is here, gone is not
        return found.value

    assert str(missing(caught("steelyard.x"), needed_for="X")).startswith("X needs the package 'numpy'")
    assert missing(caught("shop.evals"), needed_for="X") is None
    assert missing(ModuleNotFoundError("no", name="tomli"), needed_for="X") is None


def test_what_is_installed_is_not_demanded(monkeypatch):
    demand("numpy", "scipy", needed_for="X")
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(MissingExtra, match=r"X needs the package 'watchfiles'.*steelyard\[watch\]"):
        demand("numpy", "watchfiles", needed_for="X")
