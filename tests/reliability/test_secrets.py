"""Keys stay out of what is kept and shown; docs/reliability.md says what is promised and what is not."""

import logging
import os
import subprocess
import sys
import textwrap

import pytest

from steelyard import Dataset, Example, Gate, InvalidOutput, at_least, evaluator
from steelyard.core.errors import CallFailed
from steelyard.core.settings import load_settings, secret_values
from steelyard.evals.gate import run_gate
from steelyard.evals.workspace import Workspace
from steelyard.report import to_terminal, write_report
from steelyard.store.memory import MemoryStore

CANARIES = {
    "OPENAI_API_KEY": "canary-env-0123456789",  # looks like no key: only its name says so
    "MY_DATABASE_PASSWORD": "canary pass/word+0123",
    "HF_TOKEN": "hf_canary0123456789",
    "AWS_SECRET_ACCESS_KEY": "canary/AWS+0123456789",
}
SHAPED = {
    "openai": "sk-canary0123456789abcdef",
    "bearer": "Bearer canary.0123456789.abcdef",
    "address": "postgresql://user:canarypass@host/db",
}


class ClientError(Exception):
    pass


def wrapped(text):
    try:
        raise ClientError(text)
    except ClientError as error:
        raise RuntimeError(f"request failed: {error!r}") from error


def raising(kind, text):
    if kind == "task":
        raise ValueError(f"401 for {text}")
    if kind == "chained":
        wrapped(text)
    if kind == "argument":
        raise KeyError(text)
    if kind == "invalid output":
        raise InvalidOutput(f"no JSON near {text}")
    if kind == "call":
        raise CallFailed("provider", f"the provider said {text}", status=500)
    if kind == "cut":
        raise ValueError("x" * 1985 + text)  # the limit of a row's text falls into it
    return "fine"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)


KINDS = ("task", "chained", "argument", "invalid output", "call", "cut", "evaluator")
SECRETS = {**CANARIES, **SHAPED}
ALL = [(kind, name) for kind in KINDS for name in SECRETS]
FEW = [*((kind, "OPENAI_API_KEY") for kind in KINDS), *(("task", name) for name in list(SECRETS)[1:])]


@pytest.mark.parametrize(("kind", "name"), ALL if os.environ.get("STEELYARD_FULL") == "1" else FEW)
def test_error_texts_of_user_code_are_kept_without_keys(kind, name, tmp_path, caplog, capsys):
    secret = SECRETS[name]
    (tmp_path / "pyproject.toml").write_text("[tool.steelyard]\n")
    settings = load_settings(tmp_path, environ=dict(os.environ))

    @evaluator(name="m", version="1")
    def scored(outputs, inputs):
        if kind == "evaluator" and inputs["i"] == 0:
            raise ValueError(f"judge said no to {secret}")
        return 1.0

    def task(inputs):
        return raising(kind, secret) if inputs["i"] == 0 else "fine"

    data = Dataset(name="d", examples=tuple(Example(id=f"e{i}", inputs={"i": i}) for i in range(40)))
    gate = Gate(task=task, version="1", name="g", dataset=data, evaluators=[scored],
                require=[at_least("m", 0.5)], max_missing=0.5)  # fmt: skip
    store = MemoryStore()
    with caplog.at_level(logging.DEBUG), Workspace(settings, store=store) as workspace:
        report = run_gate(gate, workspace)
        write_report(workspace.session_report(), tmp_path / "report")
        shown = to_terminal(workspace.session_report(), width=200, colour=False)
    assert report.outcome == "pass"
    core = secret.removeprefix("Bearer ") if "@" not in secret else "canarypass"
    sinks = {str(f.relative_to(tmp_path)): f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    sinks |= {"terminal": shown.encode(), "log": caplog.text.encode(), "runs": repr(store.runs).encode()}
    sinks |= {"stdout": "".join(capsys.readouterr()).encode(), "settings": repr(settings).encode()}
    whole = b"".join(sinks.values())
    assert {name for name, data in sinks.items() if core.encode() in data} == set()
    # Not by luck: what stands around it was kept.
    around = {
        "task": "401 for",
        "chained": "request failed",
        "argument": "KeyError",
        "invalid output": "no JSON near",
        "call": "provider said",
        "cut": "xxxx",
        "evaluator": "judge said no",
    }
    assert around[kind].encode() in whole


def test_words_that_are_no_secrets_stay():
    env = {
        "API_KEY": "none",
        "KEYBOARD": "qwertyuiop",
        "TOKENS": "123456789",
        "X_TOKEN": "",
        "A_KEY": "12345678",
    }
    assert secret_values(env) == {"12345678"}


def test_junit_and_the_terminal_of_pytest_hold_no_key_either(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.steelyard]\n[tool.pytest.ini_options]\n")
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent("""
            import os
            from steelyard import Dataset, Example, at_least, evaluator
            @evaluator(name="m")
            def fine(outputs): return 1.0
            def task(inputs):
                raise ValueError("bad key " + os.environ["OPENAI_API_KEY"])
            def test_it(steelyard):
                rows = tuple(Example(id=str(i), inputs={"i": i}) for i in range(5))
                steelyard.gate(
                    task, dataset=Dataset(name="d", examples=rows), evaluators=[fine],
                    require=[at_least("m", 0.1)],
                )
        """)
    )
    env = {
        k: v for k, v in os.environ.items() if not k.startswith(("STEELYARD_", "PYTEST", "MLFLOW_TRACKING"))
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--junit-xml=j.xml", "-p", "no:cacheprovider"],
        cwd=tmp_path, capture_output=True, text=True, env=env, timeout=240,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "bad key ***" in done.stdout + (tmp_path / "j.xml").read_text() + _texts(tmp_path)
    for text in (done.stdout, done.stderr, (tmp_path / "j.xml").read_text(), _texts(tmp_path)):
        assert CANARIES["OPENAI_API_KEY"] not in text


def _texts(folder):
    return "".join(
        f.read_bytes().decode("latin-1") for f in (folder / ".steelyard").rglob("*") if f.is_file()
    )
