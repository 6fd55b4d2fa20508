"""A project of its own for each test, with a store that was opened once."""

import os
import shutil
import subprocess
import sys
import textwrap

import pytest

from steelyard.core.settings import load_settings
from steelyard.store import open_store

EVALS = """
from steelyard import Dataset, Example, Gate, at_least, exact_match, not_worse_than

DATA = Dataset(
    name="numbers",
    examples=tuple(
        Example(id=f"e{i:03}", inputs={"x": i}, reference_outputs={"y": i}) for i in range(120)
    ),
)


def task(inputs, prompt):
    text = prompt.render(x=inputs["x"]).messages[-1]["content"]
    skill = int(text.split("skill=")[1].split()[0])
    return {"y": inputs["x"] if inputs["x"] % 10 < skill else -1}


SPEC = dict(
    dataset=DATA,
    prompt="count",
    evaluators=[exact_match("y")],
    require=[at_least("exact_match", FLOOR), not_worse_than("production", "exact_match", margin=0.05)],
)
COUNT = Gate(task=task, name="count", **SPEC)


def test_count(steelyard):
    steelyard.gate(task, **SPEC)
"""

PROMPT = """\
description: Skill says how many of ten examples the task gets right.
template: "skill={skill} {{{{ x }}}}"
variables:
  x: {{type: int, description: the question}}
"""


class Project:
    EVALS = EVALS

    def __init__(self, path, store):
        self.path = path
        shutil.copytree(store, path / ".steelyard" / "store")
        (path / "pyproject.toml").write_text("[tool.steelyard]\n[tool.pytest.ini_options]\n")
        (path / "prompts").mkdir()
        (path / "evals").mkdir()
        self.prompt(6)
        self.evals("test_count.py", EVALS.replace("FLOOR", "0.4"))

    def prompt(self, skill):
        (self.path / "prompts" / "count.yaml").write_text(PROMPT.format(skill=skill))

    def evals(self, name, text):
        (self.path / "evals" / name).write_text(textwrap.dedent(text))

    def environment(self):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("STEELYARD_", "MLFLOW_", "PYTEST"))}
        return env | {"MLFLOW_DISABLE_TELEMETRY": "true"}

    def run(self, *arguments, module="steelyard.cli.main"):
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=self.path, capture_output=True, text=True, env=self.environment(), timeout=240,
        )  # fmt: skip
        done.both = done.stdout + done.stderr
        return done

    def start(self, *arguments, module="steelyard.cli.main"):
        """The command in a process that a test may signal; its output is a file, so that no pipe fills."""
        with (self.path / "output.txt").open("w") as output:
            return subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=self.path, stdout=output, stderr=subprocess.STDOUT, env=self.environment(),
            )  # fmt: skip

    def output(self):
        return (self.path / "output.txt").read_text()

    def pytest(self, *arguments):
        return self.run(*arguments, module="pytest")


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """The store's files right after its first use: creating them takes MLflow many seconds, copying none."""
    folder = tmp_path_factory.mktemp("empty")
    (folder / "pyproject.toml").write_text("[tool.steelyard]\n")
    settings = load_settings(folder, environ={})
    store = open_store(settings)
    store.names("prompt")
    store.close()
    return settings.home / "store"


@pytest.fixture
def project(tmp_path, empty_store):
    return Project(tmp_path, empty_store)
